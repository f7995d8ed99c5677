//! The `small` profile: what is added to a copied stretch, and what is new, under one adaptive
//! model. The same steps write and read it.
//!
//! Copied bytes are predicted by the old image, as the code rules and what was learned in this
//! window ([`Shifts`]) correct it. As long as they agree, whole runs cost one bit; near a
//! difference each byte says whether it agrees, and a differing one tells by how much. New bytes
//! are predicted by the bytes before them, by an earlier place that looked alike, and by what
//! stands in the old image where the last copy ended.

use super::history::History;
use super::mix::{Mixer, Stretch, hash};
use super::range::{Bits, Known, Prob};
use super::shifts::{BELIEFS, Belief, Shifts};
use crate::code::Guess;

/// Agreeing bytes after which runs are coded instead of bytes.
const CALM: u32 = 32;
/// Length of such a run.
const RUN: usize = 32;
/// Else so many bytes are coded before what they tell is learned.
const STEP: usize = 8;

/// Sets of weights of copied bytes, and of new ones.
const COPY_SETS: usize = 8 * 16;
const NEW_SETS: usize = 3 * 256;

/// An earlier place that was right for so many bytes is asked for the whole next one.
const SURE: u32 = 16;
const SURE_BITS: u32 = 14;
const SURE_SETS: usize = 32;

/// How much memory a model has: small payloads do not fill large tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(u8);

impl Size {
    const MAX: u8 = 4;
    /// The smallest, and so on.
    #[cfg(feature = "diff")]
    pub(crate) const ALL: [Self; 5] = [Self(0), Self(1), Self(2), Self(3), Self(4)];

    /// The size for a payload of about `len` bytes, at most `most`.
    #[cfg(feature = "diff")]
    pub(crate) fn of_payload(len: u64, most: Self) -> Self {
        most.min(Self(match len {
            0..0x4000 => 0,
            0x4000..0x1_0000 => 1,
            0x1_0000..0x4_0000 => 2,
            _ => Self::MAX,
        }))
    }

    /// As a byte of the format.
    #[cfg(feature = "diff")]
    pub(crate) fn to_byte(self) -> u8 {
        self.0
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        (byte <= Self::MAX).then_some(Self(byte))
    }

    /// Bytes of memory of a model.
    pub(crate) fn memory(self) -> u64 {
        let [copied, by, new, history] = self.bits();
        Stretch::MEMORY
            + Shifts::MEMORY
            + Mixer::memory(copied, COPY_SETS)
            + Mixer::memory(by, COPY_SETS)
            + Mixer::memory(new, NEW_SETS)
            + Mixer::memory(SURE_BITS, SURE_SETS)
            + History::memory(history)
    }

    /// Of the tables of agreement, differences, new bytes, and of the history.
    fn bits(self) -> [u32; 4] {
        let less = [6, 4, 2, 1, 0][usize::from(self.0)];
        [18 - less, 18 - less, 20 - less, 19 - less]
    }
}

/// The state of one window's coding.
#[derive(Debug)]
pub(crate) struct Model {
    stretch: Stretch,
    runs: [[Prob; 32]; 4],
    agree: Mixer,
    by: Mixer,
    new: Mixer,
    sure: Mixer,
    shifts: Shifts,
    history: History,
    /// Which of the last copied bytes agreed: the latest is the lowest bit.
    agreed: u32,
    /// Bytes since the last that did not.
    since: u32,
    /// The distance between the last two that did not.
    period: u32,
    last_by: [u32; 2],
    by_lane: [u32; 8],
    /// The last eight bytes of the new image, the latest lowest.
    recent: u64,
}

impl Model {
    pub(crate) fn new(size: Size) -> Self {
        let [copied, by, new, history] = size.bits();
        Self {
            stretch: Stretch::new(),
            runs: [[Prob::new(); 32]; 4],
            agree: Mixer::new(copied, COPY_SETS, 20),
            by: Mixer::new(by, COPY_SETS, 20),
            new: Mixer::new(new, NEW_SETS, 30),
            sure: Mixer::new(SURE_BITS, SURE_SETS, 30),
            shifts: Shifts::new(),
            history: History::new(history),
            agreed: 0,
            since: 0,
            period: 0,
            last_by: [0; 2],
            by_lane: [0; 8],
            recent: 0,
        }
    }

    /// Codes the bytes of a copied stretch. `guess` is what is expected, `at` is where the stretch
    /// stands in the old image; `bytes` is read (encoder) or filled (decoder).
    pub(crate) fn copied(
        &mut self,
        bits: &mut impl Bits,
        guess: &mut Guess,
        at: u64,
        bytes: &mut [u8],
    ) {
        let at = at as u32;
        let (mut done, mut corrected, mut learned) = (0, 0, 0);
        let mut careful_until = 0;
        while done < bytes.len() {
            let calm = self.since >= CALM && done >= careful_until;
            let end = (done + if calm { RUN } else { STEP }).min(bytes.len());
            corrected = self.correct(guess, corrected, end, at);
            if calm && !self.run(bits, guess, done..end, bytes) {
                careful_until = end;
            }
            if !calm || careful_until == end {
                for (place, byte) in bytes.iter_mut().enumerate().take(end).skip(done) {
                    let field = guess.fields[place].into();
                    let around = around(&guess.bytes, place);
                    let lane = at.wrapping_add(place as u32);
                    *byte = self.copied_byte(bits, around, field, lane, *byte);
                    self.recent = self.recent << 8 | u64::from(*byte);
                }
            }
            learned = self.learn(guess, learned, &bytes[..end], at);
            done = end;
        }
    }

    /// Corrects the words that begin before `end`; returns how many words are.
    #[inline]
    fn correct(&mut self, guess: &mut Guess, mut next: usize, end: usize, from: u32) -> usize {
        while let Some(word) = guess
            .words
            .get(next)
            .filter(|word| (word.at as usize) < end)
        {
            next += 1;
            if let Some((by, belief)) = self.shifts.correction(word, from.wrapping_add(word.at)) {
                let at = word.at as usize;
                guess.bytes[at..at + 4].copy_from_slice(&word.moved(by).to_le_bytes());
                for (index, field) in guess.fields[at..at + 4].iter_mut().enumerate() {
                    *field = field_of(index, belief);
                }
            }
        }
        next
    }

    /// Learns from the words that are whole; returns how many are.
    #[inline]
    fn learn(&mut self, guess: &Guess, mut next: usize, bytes: &[u8], from: u32) -> usize {
        while let Some(word) = guess.words.get(next) {
            let at = word.at as usize;
            let Some(known) = bytes.get(at..at + 4) else {
                break;
            };
            next += 1;
            let known = u32::from_le_bytes(known.try_into().expect("four bytes"));
            if let Some(by) = word.moved_by(known) {
                let place = from.wrapping_add(word.at);
                self.shifts.learn(word, place, by);
            }
        }
        next
    }

    /// Codes whether all of a run agrees, and takes it if so.
    #[inline]
    fn run(
        &mut self,
        bits: &mut impl Bits,
        guess: &Guess,
        range: core::ops::Range<usize>,
        bytes: &mut [u8],
    ) -> bool {
        let len = range.len() as u32;
        let (same, known) = (&guess.bytes[range.clone()], &mut bytes[range.clone()]);
        let fields = &guess.fields[range];
        let most = fields.iter().fold(0, |all, field| all | field);
        let kind = usize::from(most & 7 != 0) + 2 * usize::from(most >> 3 != 0);
        let level = self.since.ilog2() as usize;
        let differs = self.runs[kind][level].code(bits, u32::from(same != known));
        if differs == 0 {
            known.copy_from_slice(same);
            self.since = self.since.saturating_add(len);
            self.agreed = u32::MAX;
            for byte in &known[known.len().saturating_sub(8)..] {
                self.recent = self.recent << 8 | u64::from(*byte);
            }
        }
        differs == 0
    }

    #[inline]
    fn copied_byte(
        &mut self,
        bits: &mut impl Bits,
        around: u64,
        field: u32,
        lane: u32,
        known: u8,
    ) -> u8 {
        let guess = around as u32 & 0xff;
        let calm = 32 - self.since.leading_zeros();
        let before = self.recent as u32 & 0xff;
        let two_before = self.recent as u32 & 0xffff;
        let contexts = [
            hash(self.agreed & 0xfff, field),
            hash(1 << 28 | field, calm << 8 | self.period.min(255)),
            hash(2 << 28 | field, guess << 8 | self.agreed & 15),
            hash(3 << 28, before << 8 | guess),
            hash(4 << 28 | calm, self.last_by[0] << 8 | lane & 7),
            hash(5 << 28 | self.agreed & 3, guess << 16 | two_before),
            hash(6 << 28, around as u32),
            hash(7 << 28, hash(around as u32, (around >> 32) as u32)),
        ];
        let set = (set_of(field) << 4 | self.agreed & 15) as usize;
        let differs = u32::from(u32::from(known) != guess);
        let differs = self
            .agree
            .code(bits, &self.stretch, &contexts, set, differs);
        self.agreed = self.agreed << 1 | (1 - differs);
        if differs == 0 {
            self.since += 1;
            return guess as u8;
        }
        self.period = self.since;
        self.since = 0;
        let by = u32::from(known).wrapping_sub(guess) & 0xff;
        let by = self.code_by(bits, around, field, lane, by);
        (guess + by) as u8
    }

    /// Codes by how much a byte differs.
    fn code_by(
        &mut self,
        bits: &mut impl Bits,
        around: u64,
        field: u32,
        lane: u32,
        by: u32,
    ) -> u32 {
        let guess = around as u32 & 0xff;
        let before = self.recent as u32 & 0xff;
        let [last, last_but_one] = self.last_by;
        let lane_by = &mut self.by_lane[(lane & 7) as usize];
        let contexts = [
            hash(0, field),
            hash(1 << 28, last << 3 | self.agreed & 7),
            hash(2 << 28, last << 8 | last_but_one),
            hash(3 << 28, guess),
            hash(4 << 28 | field, *lane_by),
            hash(5 << 28, guess << 8 | before),
            hash(6 << 28, around as u32),
            hash(7 << 28, hash(around as u32, (around >> 32) as u32)),
        ];
        let set = (set_of(field) << 4 | self.agreed & 0b1110) as usize;
        let mut node = 1u32;
        for half in 0..2 {
            let salt = (node * half).wrapping_mul(NODE);
            let mut lines = self.by.open(&contexts.map(|context| context ^ salt));
            let mut within = 1;
            for shift in (0..4).rev() {
                let bit = by >> (4 * (1 - half) + shift) & 1;
                let place = (within as usize, set);
                let bit = self.by.code_in(&mut lines, bits, &self.stretch, place, bit);
                within = within << 1 | bit;
            }
            self.by.close(&lines);
            node = node << 4 | within & 15;
        }
        let by = node & 0xff;
        *lane_by = by;
        self.last_by = [by, last];
        by
    }

    /// Shows the model bytes of the old image, so that new bytes beside them are no surprise. Both
    /// sides do; nothing is coded.
    pub(crate) fn teach(&mut self, bytes: &[u8]) {
        let before = core::mem::take(&mut self.recent);
        self.history.begin(0);
        for byte in bytes {
            self.new_byte(&mut Known, 0x100, 0, *byte);
            self.recent = self.recent << 8 | u64::from(*byte);
            self.history.push(*byte, self.recent);
        }
        self.recent = before;
    }

    /// Codes new bytes. `hint` is what follows the last copy in the old image; `bytes` is read
    /// (encoder) or filled (decoder).
    pub(crate) fn new_bytes(&mut self, bits: &mut impl Bits, hint: &[u8], bytes: &mut [u8]) {
        let mut hint_hits = 0u32;
        self.history.begin(self.recent);
        for (hint, byte) in hint.iter().zip(bytes) {
            let hint = u32::from(*hint);
            *byte = self.new_byte(bits, hint, hint_hits, *byte);
            hint_hits = (hint_hits << 1 | u32::from(u32::from(*byte) == hint)) & 7;
            self.recent = self.recent << 8 | u64::from(*byte);
            self.history.push(*byte, self.recent);
        }
        self.agreed = 0;
        self.since = 0;
    }

    #[inline]
    fn new_byte(&mut self, bits: &mut impl Bits, hint: u32, hint_hits: u32, known: u8) -> u8 {
        let recent = self.recent as u32;
        let expected = self.history.expected();
        let (mut byte, len) = expected.map_or((0x100, 0), |(byte, len)| (u32::from(byte), len));
        if len >= SURE {
            if self.is_as_expected(bits, byte, len, hint, known) {
                return byte as u8;
            }
            byte = 0x100;
        }
        let contexts = [
            hash(0, 0),
            hash(1 << 28, recent & 0xff),
            hash(2 << 28, recent & 0xffff),
            hash(3 << 28, recent & 0xff_ffff),
            hash(4 << 28, recent),
            hash(5 << 28, recent & 0xff_ff00),
            hash(6 << 28 | hint_hits, hint << 8 | recent & 0xff),
            hash(7 << 28 | len.min(15), byte),
        ];
        let mut node = 1u32;
        for half in 0..2 {
            let salt = (node * half).wrapping_mul(NODE);
            let mut lines = self.new.open(&contexts.map(|context| context ^ salt));
            let mut within = 1;
            for shift in (0..4).rev().map(|shift| 4 * (1 - half) + shift) {
                // Whether the earlier place still agrees with what is known of this byte.
                let agrees = likely(byte, node, shift);
                let set = (agrees * 256 + node) as usize;
                let bit = u32::from(known) >> shift & 1;
                let place = (within as usize, set);
                let bit = self
                    .new
                    .code_in(&mut lines, bits, &self.stretch, place, bit);
                within = within << 1 | bit;
                node = node << 1 | bit;
            }
            self.new.close(&lines);
        }
        node as u8
    }

    /// Codes whether a new byte is the one that is expected.
    fn is_as_expected(
        &mut self,
        bits: &mut impl Bits,
        byte: u32,
        len: u32,
        hint: u32,
        known: u8,
    ) -> bool {
        let recent = self.recent as u32;
        let contexts = [
            hash(0, len),
            hash(1 << 28, byte),
            hash(2 << 28 | byte, recent & 0xff),
            hash(3 << 28 | byte, recent & 0xffff),
            hash(4 << 28, u32::from(byte == hint) << 8 | len),
            hash(5 << 28 | byte, recent & 0xff_ffff),
            hash(6 << 28, recent & 0xff),
            hash(7 << 28 | byte, recent),
        ];
        let other = u32::from(u32::from(known) != byte);
        let set = len as usize;
        self.sure.code(bits, &self.stretch, &contexts, set, other) == 0
    }
}

/// Spreads the first half of a symbol over the places of the second.
const NODE: u32 = 0x9e37_79b1;

/// Marks a byte of a word: which one it is, and how far the word's correction is believed.
#[inline]
pub(crate) fn field_of(index: usize, belief: Belief) -> u8 {
    (1 + (index as u8 & 3)) | (belief << 3)
}

/// The weights for a byte of a word.
#[inline]
fn set_of(field: u32) -> u32 {
    const _: () = assert!(BELIEFS <= 4);
    (field & 7).min(3) + 4 * u32::from(field >> 3 != 0)
}

/// The guessed bytes at a place and around it, that at the place lowest: the same edit made again
/// stands between the same bytes.
#[inline]
fn around(guess: &[u8], at: usize) -> u64 {
    if let Some(bytes) = guess.get(at.wrapping_sub(4)..at.wrapping_add(4)) {
        let word = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        return word.rotate_left(32);
    }
    let byte = |at: usize| u64::from(guess.get(at).copied().unwrap_or(0));
    (0..8)
        .map(|index| byte(at.wrapping_add(index).wrapping_sub(4)) << (8 * index))
        .sum::<u64>()
        .rotate_left(32)
}

/// What `byte` says of the next bit, when it agrees with the bits known so far: 1 or 2, else 0.
#[inline]
fn likely(byte: u32, node: u32, shift: u32) -> u32 {
    if byte < 256 && (byte | 256) >> (shift + 1) == node {
        1 + (byte >> shift & 1)
    } else {
        0
    }
}
