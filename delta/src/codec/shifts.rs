//! What moved once moves again: by how much words of the old image were changed, learned while a
//! window is coded.
//!
//! A word that stood for a type, a symbol or an address in one place stands for it in others, and
//! changes there in the same way; one that is close to it often moves with it, and so does the one
//! in the same place of the record before. Each word is known by a *key*: where a reference leads,
//! or what the word was. Several sources say by how much a word moved; the one that was right most
//! often lately is believed.

use alloc::vec;
use alloc::vec::Vec;

use super::mix::hash;
use crate::code::{Form, Reference};

/// Slots for words, and for neighbourhoods of words.
const SLOT_BITS: [u32; 3] = [14, 13, 12];
/// Keys that differ in so many low bits only are neighbours.
const NEAR: [u32; 3] = [0, 4, 9];
/// The highest trust in a slot.
const SURE_MAX: u8 = 3;
/// Chances of being right are in 65536ths and move by one in this power of two.
const TRUST_RATE: u32 = 5;
/// Sources: the three tables, and the record before.
const SOURCES: usize = 4;
/// The length of records that are looked at, in words: symbols and relocations of ELF.
const RECORD: usize = 6;
/// Words of which is known by how much they moved.
const TRACK: usize = 16;

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

/// What a source says.
#[derive(Debug, Clone, Copy)]
struct Opinion {
    by: u32,
    /// How sure the source itself is: `0..=SURE_MAX`.
    sure: u8,
}

/// Corrections by key.
#[derive(Debug)]
pub(super) struct Shifts {
    tables: [Vec<Slot>; 3],
    /// By how much the words lately seen moved, and how often that was so in this place of a
    /// record; by their place in the old image.
    track: [Slot; TRACK],
    /// How often sources were right, by the kind of word, and how sure they were.
    trust: [[[u32; SURE_MAX as usize + 1]; SOURCES]; KINDS],
}

/// Words are of so many kinds.
const KINDS: usize = 4;

impl Shifts {
    /// Bytes of memory it takes.
    pub(super) const MEMORY: u64 = (size_of::<Slot>() as u64)
        * ((1 << SLOT_BITS[0]) + (1 << SLOT_BITS[1]) + (1 << SLOT_BITS[2]));

    pub(super) fn new() -> Self {
        Self {
            tables: SLOT_BITS.map(|bits| vec![Slot::default(); 1 << bits]),
            track: [Slot::default(); TRACK],
            trust: [[[1 << 15; SURE_MAX as usize + 1]; SOURCES]; KINDS],
        }
    }

    /// The correction of a word at `place` of the old image, and how far it is believed.
    #[inline]
    pub(super) fn correction(&mut self, word: &Reference, place: u32) -> Option<(u32, Belief)> {
        let opinions = self.opinions(word, place);
        let trusts = &self.trust[kind(word)];
        let mut best = (1 << 15, 0);
        for (opinion, trust) in opinions.iter().zip(trusts) {
            if let Some(opinion) = opinion {
                let trust = trust[usize::from(opinion.sure)];
                if trust > best.0 {
                    best = (trust, opinion.by);
                }
            }
        }
        let (trust, by) = best;
        // Until more is known the word is taken to move as it is said to.
        let track = &mut self.track[track_at(place)];
        (track.check, track.by) = (track_check(place), by);
        (by != 0).then(|| (by, 1 + ((trust - (1 << 15)) >> 13).min(2) as Belief))
    }

    /// What the sources say of a word.
    #[inline]
    fn opinions(&self, word: &Reference, place: u32) -> [Option<Opinion>; SOURCES] {
        let mut opinions = [None; SOURCES];
        for (table, opinion) in opinions.iter_mut().enumerate().take(3) {
            let (at, check) = slot(table, word);
            let slot = self.tables[table][at];
            if slot.sure > 0 && slot.check == check {
                *opinion = Some(Opinion {
                    by: slot.by,
                    sure: slot.sure - 1,
                });
            }
        }
        if !word.is_reference() {
            let before = place.wrapping_sub(4 * RECORD as u32);
            let track = self.track[track_at(before)];
            if track.check == track_check(before) {
                opinions[3] = Some(Opinion {
                    by: track.by,
                    sure: track.sure.min(SURE_MAX),
                });
            }
        }
        opinions
    }

    /// Learns by how much a word really changed.
    #[inline]
    pub(super) fn learn(&mut self, word: &Reference, place: u32, by: u32) {
        let opinions = self.opinions(word, place);
        if by == 0 && opinions.iter().flatten().all(|opinion| opinion.by == 0) {
            self.track[track_at(place)] = Slot {
                check: track_check(place),
                sure: opinions[3].map_or(0, |opinion| (opinion.sure + 1).min(SURE_MAX)),
                by,
            };
            return;
        }
        for (opinion, trust) in opinions.iter().zip(&mut self.trust[kind(word)]) {
            let Some(opinion) = opinion else { continue };
            let chance = &mut trust[usize::from(opinion.sure)];
            if opinion.by == by {
                *chance += (65535 - *chance) >> TRUST_RATE;
            } else {
                *chance -= *chance >> TRUST_RATE;
            }
        }
        for (table, opinion) in opinions.iter().enumerate().take(3) {
            let (at, check) = slot(table, word);
            let again = opinion.filter(|opinion| opinion.by == by);
            let sure = again.map_or(1, |opinion| (opinion.sure + 2).min(SURE_MAX + 1));
            self.tables[table][at] = Slot { check, sure, by };
        }
        let again = opinions[3].filter(|opinion| opinion.by == by);
        self.track[track_at(place)] = Slot {
            check: track_check(place),
            sure: again.map_or(0, |opinion| (opinion.sure + 1).min(SURE_MAX)),
            by,
        };
    }
}

/// The kind of a word: sources are right for some more often than for others.
#[inline]
fn kind(word: &Reference) -> usize {
    match word.form {
        Form::Plain => 0,
        Form::Name => 1,
        Form::Type => 2,
        _ => 3,
    }
}

/// A word's slot in a table, and its check.
#[inline]
fn slot(table: usize, word: &Reference) -> (usize, u16) {
    let hashed = hash(word.key >> NEAR[table], word.form as u32);
    ((hashed >> (32 - SLOT_BITS[table])) as usize, hashed as u16)
}

fn track_at(place: u32) -> usize {
    (place >> 2) as usize % TRACK
}

fn track_check(place: u32) -> u16 {
    (place >> 2) as u16
}
