//! What moved once moves again: by how much words of the old image were changed, learned while a
//! window is coded.
//!
//! A word that stood for a type, a symbol or an address in one place stands for it in others, and
//! changes there in the same way; one that is close to it often moves with it. Each word is known
//! by a *key*: where a reference leads, or what the word was. Corrections are applied as far as
//! they were right lately.

use alloc::vec;
use alloc::vec::Vec;

use super::mix::hash;
use crate::code::Reference;

/// Slots for words, and for neighbourhoods of words.
const EXACT_BITS: u32 = 15;
const NEAR_BITS: u32 = 12;
/// Keys that differ in these bits only are neighbours.
const NEAR: u32 = 7;
/// The highest trust in a slot.
const SURE_MAX: u8 = 3;
/// Chances of being right are in 65536ths and move by one in this power of two.
const TRUST_RATE: u32 = 5;

/// How far a correction is believed: 0 not corrected, then by how often it was right.
pub(super) type Belief = u8;
/// One more than the highest belief.
pub(super) const BELIEFS: usize = 4;

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    check: u16,
    /// 0 empty, else one more than how often it was right in a row.
    sure: u8,
    by: u32,
}

/// Corrections by key.
#[derive(Debug)]
pub(super) struct Shifts {
    exact: Vec<Slot>,
    near: Vec<Slot>,
    /// How often slots were right, by the kind of word, the table, and how sure they were.
    trust: [[[u32; SURE_MAX as usize + 1]; 2]; 2],
}

impl Shifts {
    /// Bytes of memory it takes.
    pub(super) const MEMORY: u64 =
        (size_of::<Slot>() as u64) * ((1 << EXACT_BITS) + (1 << NEAR_BITS));

    pub(super) fn new() -> Self {
        Self {
            exact: vec![Slot::default(); 1 << EXACT_BITS],
            near: vec![Slot::default(); 1 << NEAR_BITS],
            trust: [[[1 << 15; SURE_MAX as usize + 1]; 2]; 2],
        }
    }

    /// The correction of a word, and how far it is believed.
    #[inline]
    pub(super) fn correction(&self, word: &Reference) -> Option<(u32, Belief)> {
        let kind = usize::from(word.is_reference());
        let (exact, near) = places(word);
        let tables = [(self.exact[exact.0], exact.1), (self.near[near.0], near.1)];
        for (table, (slot, check)) in tables.into_iter().enumerate() {
            if slot.sure == 0 || slot.check != check {
                continue;
            }
            let trust = self.trust[kind][table][usize::from(slot.sure - 1)];
            // What is known exactly is not asked for in the neighbourhood.
            return (slot.by != 0 && trust > 1 << 15)
                .then(|| (slot.by, 1 + ((trust - (1 << 15)) >> 13).min(2) as Belief));
        }
        None
    }

    /// Learns by how much a word really changed.
    #[inline]
    pub(super) fn learn(&mut self, word: &Reference, by: u32) {
        let kind = usize::from(word.is_reference());
        let (exact, near) = places(word);
        let (exact_slot, near_slot) = (&mut self.exact[exact.0], &mut self.near[near.0]);
        let known = [
            exact_slot.sure > 0 && exact_slot.check == exact.1,
            near_slot.sure > 0 && near_slot.check == near.1,
        ];
        if by == 0 && !known[0] && !known[1] {
            return;
        }
        let [exact_trust, near_trust] = &mut self.trust[kind];
        teach(exact_slot, exact.1, by, exact_trust);
        teach(near_slot, near.1, by, near_trust);
    }
}

/// Slots and checks of a word, in both tables.
#[inline]
fn places(word: &Reference) -> ((usize, u16), (usize, u16)) {
    let exact = hash(word.key, word.form as u32);
    let near = hash(word.key >> NEAR, word.form as u32);
    (
        ((exact >> (32 - EXACT_BITS)) as usize, exact as u16),
        ((near >> (32 - NEAR_BITS)) as usize, near as u16),
    )
}

#[inline]
fn teach(slot: &mut Slot, check: u16, by: u32, trust: &mut [u32; SURE_MAX as usize + 1]) {
    if slot.sure == 0 || slot.check != check {
        *slot = Slot { check, sure: 1, by };
        return;
    }
    let right = slot.by == by;
    let chance = &mut trust[usize::from(slot.sure - 1)];
    if right {
        *chance += (65535 - *chance) >> TRUST_RATE;
        slot.sure = (slot.sure + 1).min(SURE_MAX + 1);
    } else {
        *chance -= *chance >> TRUST_RATE;
        // The latest is the best guess.
        (slot.by, slot.sure) = (by, 1);
    }
}
