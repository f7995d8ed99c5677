//! The `small` profile: what is added to a copied stretch, and what is new, under one adaptive
//! model. The same steps write and read it.
//!
//! Copied bytes are predicted by the old image. As long as they agree, whole runs cost one bit;
//! near a difference each byte says whether it agrees, and a differing one tells by how much.
//! New bytes are predicted by the bytes before them, by an earlier place that looked alike, and by
//! what stands in the old image where the last copy ended.

use alloc::vec;
use alloc::vec::Vec;

use super::mix::{Mixer, Stretch, hash, unnamed};
use super::range::{Bits, Prob};

/// Memory of a model, tables and history included.
pub(crate) const MEMORY: u64 = 12 << 20;

/// Agreeing bytes after which runs are coded instead of bytes.
const CALM: u32 = 32;
/// Length of such a run.
const RUN: usize = 32;

/// The state of one window's coding.
#[derive(Debug)]
pub(crate) struct Model {
    stretch: Stretch,
    runs: [Prob; 32],
    agree: Mixer<8>,
    by: Mixer<8>,
    literal: Mixer<9>,
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
    history: History,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self {
            stretch: Stretch::new(),
            runs: [Prob::new(); 32],
            agree: Mixer::new(17, 128, 20),
            by: Mixer::new(17, 128, 20),
            literal: Mixer::new(16, 256 * 3, 80),
            agreed: 0,
            since: 0,
            period: 0,
            last_by: [0; 2],
            by_lane: [0; 8],
            recent: 0,
            history: History::new(),
        }
    }

    /// Codes the bytes of a copied stretch. `guess` is what the old image says, `fields` marks
    /// bytes that are part of a mapped reference, `at` is where the stretch stands in the old
    /// image; `bytes` is read (encoder) or filled (decoder).
    pub(crate) fn copied(
        &mut self,
        bits: &mut impl Bits,
        guess: &[u8],
        fields: &[u8],
        at: u64,
        bytes: &mut [u8],
    ) {
        let (mut done, mut careful_until) = (0, 0);
        while done < bytes.len() {
            if self.since >= CALM && done >= careful_until {
                let end = (done + RUN).min(bytes.len());
                let (same, known) = (&guess[done..end], &mut bytes[done..end]);
                let level = self.since.ilog2() as usize;
                let differs = self.runs[level].code(bits, u32::from(same != known));
                if differs == 0 {
                    known.copy_from_slice(same);
                    self.since = self.since.saturating_add((end - done) as u32);
                    self.agreed = u32::MAX;
                    for byte in &*known {
                        self.recent = self.recent << 8 | u64::from(*byte);
                        self.history.push(*byte, self.recent);
                    }
                    done = end;
                    continue;
                }
                careful_until = end;
            }
            let lane = (at as u32).wrapping_add(done as u32);
            bytes[done] = self.copied_byte(
                bits,
                around(guess, done),
                fields[done].into(),
                lane,
                bytes[done],
            );
            self.recent = self.recent << 8 | u64::from(bytes[done]);
            self.history.push(bytes[done], self.recent);
            done += 1;
        }
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
        let set = (field.min(4) << 4 | self.agreed & 15) as usize;
        let differs = u32::from(u32::from(known) != guess);
        let differs = self
            .agree
            .code(bits, &self.stretch, &contexts, 1, set, differs);
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
        let set = (field.min(4) << 4 | self.agreed & 0b1110) as usize;
        let mut node = 1;
        for shift in (0..8).rev() {
            let bit = self
                .by
                .code(bits, &self.stretch, &contexts, node, set, by >> shift & 1);
            node = node << 1 | bit;
        }
        let by = node & 0xff;
        *lane_by = by;
        self.last_by = [by, last];
        by
    }

    /// Codes new bytes. `hint` is what follows the last copy in the old image; `bytes` is read
    /// (encoder) or filled (decoder).
    pub(crate) fn new_bytes(&mut self, bits: &mut impl Bits, hint: &[u8], bytes: &mut [u8]) {
        let mut hint_hits = 0u32;
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
        let (recent, high) = (self.recent as u32, (self.recent >> 32) as u32);
        let expected = self.history.expected();
        let mut contexts = [
            hash(0, 0),
            hash(1 << 28, recent & 0xff),
            hash(2 << 28, recent & 0xffff),
            hash(3 << 28, recent & 0xff_ffff),
            hash(4 << 28, recent),
            hash(hash(5 << 28, recent), high & 0xffff),
            hash(6 << 28 | hint_hits, hint << 8 | recent & 0xff),
            0,
            0,
        ];
        let mut node = 1u32;
        for shift in (0..8).rev() {
            // Whether the earlier place, and the hint, still agree with what is known of this byte.
            let (agrees, len) = expected.map_or((0, 0), |(byte, len)| {
                (likely(byte.into(), node, shift), len)
            });
            let hinted = likely(hint, node, shift);
            contexts[7] = unnamed(hash(7 << 28, agrees << 5 | len), node);
            contexts[8] = unnamed(hash(8 << 28, hinted << 3 | hint_hits), node);
            let set = (agrees * 256 + node) as usize;
            let bit = u32::from(known) >> shift & 1;
            let bit = self
                .literal
                .code(bits, &self.stretch, &contexts, node, set, bit);
            node = node << 1 | bit;
        }
        node as u8
    }
}

/// The old bytes at a place and around it, that at the place lowest: the same edit made again
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
    if (byte | 256) >> (shift + 1) == node {
        1 + (byte >> shift & 1)
    } else {
        0
    }
}

/// New bytes so far, and where the last ones stood before.
#[derive(Debug)]
struct History {
    bytes: Vec<u8>,
    /// Where the byte after a hashed context stands, plus one.
    after: Vec<u32>,
    /// Bytes pushed so far.
    pushed: usize,
    /// Where the earlier place goes on.
    at: usize,
    /// How many bytes it has been right for.
    len: u32,
}

impl History {
    const LEN: usize = 1 << 20;
    const HASH_BITS: u32 = 17;
    /// Bytes that are hashed.
    const CONTEXT: usize = 5;
    const LEN_MAX: u32 = 31;

    fn new() -> Self {
        Self {
            bytes: Vec::new(),
            after: vec![0; 1 << Self::HASH_BITS],
            pushed: 0,
            at: 0,
            len: 0,
        }
    }

    /// The byte that followed last time, and how sure that is.
    #[inline]
    fn expected(&self) -> Option<(u8, u32)> {
        (self.len > 0).then(|| (self.bytes[self.at & (Self::LEN - 1)], self.len))
    }

    /// How many bytes before the earlier place are those before this one.
    fn agreement(&self) -> u32 {
        let byte = |at: usize| self.bytes[at & (Self::LEN - 1)];
        let same =
            |back: &usize| *back <= self.at && byte(self.at - back) == byte(self.pushed - back);
        (1..=Self::LEN_MAX as usize).take_while(same).count() as u32
    }

    #[inline]
    fn push(&mut self, byte: u8, recent: u64) {
        if self.len > 0 && self.bytes[self.at & (Self::LEN - 1)] == byte {
            self.len = (self.len + 1).min(Self::LEN_MAX);
            self.at += 1;
        } else {
            self.len = 0;
        }
        match self.bytes.get_mut(self.pushed & (Self::LEN - 1)) {
            Some(oldest) => *oldest = byte,
            None => self.bytes.push(byte),
        }
        self.pushed += 1;
        let hashed = recent & ((1 << (8 * Self::CONTEXT)) - 1);
        let slot = (hashed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - Self::HASH_BITS)) as usize;
        if self.len == 0 {
            let place = self.after[slot] as usize;
            // A place that the ring has passed over since is gone.
            if place > 0 && self.pushed - (place - 1) < Self::LEN - Self::LEN_MAX as usize {
                self.at = place - 1;
                self.len = self.agreement();
            }
        }
        self.after[slot] = self.pushed as u32 + 1;
    }
}
