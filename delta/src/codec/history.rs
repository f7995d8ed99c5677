//! New bytes so far, and where the last ones stood before: a byte that is new is often one that
//! was new a while ago.
//!
//! Only new bytes are kept, copied ones are not: they would push out what is looked for.

use alloc::vec;
use alloc::vec::Vec;

/// New bytes in a ring, by the bytes that stood before them in the image.
#[derive(Debug)]
pub(super) struct History {
    ring: Vec<u8>,
    mask: usize,
    /// Where the byte after a hashed context stands, plus one.
    after: Vec<u32>,
    shift: u32,
    /// Bytes pushed so far.
    pushed: usize,
    /// Where the earlier place goes on.
    at: usize,
    /// How many bytes it has been right for, plus one; 0 when there is none.
    len: u32,
    /// How often it was wrong since it was taken up.
    wrong: u32,
}

impl History {
    /// Bytes before a place that are hashed: many to be sure, few to find anything.
    const LONG: u32 = 6;
    const SHORT: u32 = 4;
    /// The most that is told of how sure a place is.
    pub(super) const LEN_MAX: u32 = 31;
    /// A place that was wrong so often is given up.
    const WRONG_MAX: u32 = 8;

    /// A history of 2^`bits` bytes.
    pub(super) fn new(bits: u32) -> Self {
        Self {
            ring: vec![0; 1 << bits],
            mask: (1 << bits) - 1,
            after: vec![0; 1 << (bits - 2)],
            shift: 64 - (bits - 3),
            pushed: 0,
            at: 0,
            len: 0,
            wrong: 0,
        }
    }

    /// Bytes of memory that such a history takes.
    pub(super) const fn memory(bits: u32) -> u64 {
        2 << bits
    }

    /// The byte that followed last time, and how sure that is (`1..=LEN_MAX`).
    #[inline]
    pub(super) fn expected(&self) -> Option<(u8, u32)> {
        (self.len > 0).then(|| (self.ring[self.at & self.mask], self.len))
    }

    /// Begins a run of new bytes after the bytes `recent` (the latest lowest).
    pub(super) fn begin(&mut self, recent: u64) {
        self.len = 0;
        self.look_up(recent);
    }

    /// Takes the next new byte; `recent` ends with it.
    #[inline]
    pub(super) fn push(&mut self, byte: u8, recent: u64) {
        if self.len > 0 {
            if self.ring[self.at & self.mask] == byte {
                self.len = (self.len + 1).min(Self::LEN_MAX);
            } else {
                self.len = 1 + self.len / 4;
                self.wrong += 1;
            }
            self.at += 1;
        }
        self.ring[self.pushed & self.mask] = byte;
        self.pushed += 1;
        self.look_up(recent);
    }

    /// Looks for an earlier place, and notes this one.
    #[inline]
    fn look_up(&mut self, recent: u64) {
        let (long, short) = (
            self.slot(recent, Self::LONG),
            self.slot(recent, Self::SHORT),
        );
        if self.len < 16 {
            for (slot, sure) in [(long, 8), (short, 1)] {
                let place = self.after[slot] as usize;
                // A place that the ring has passed over since is gone.
                let known = place > 0 && self.pushed - (place - 1) < self.mask;
                if known && (self.len < sure || self.wrong >= Self::WRONG_MAX) {
                    if self.len == 0 || self.at != place - 1 {
                        (self.at, self.len, self.wrong) = (place - 1, sure, 0);
                    }
                    break;
                }
            }
            if self.wrong >= Self::WRONG_MAX {
                self.len = 0;
                self.wrong = 0;
            }
        }
        self.after[long] = self.pushed as u32 + 1;
        self.after[short] = self.pushed as u32 + 1;
    }

    /// The slot of the last `bytes` bytes: long and short contexts have a half each.
    #[inline]
    fn slot(&self, recent: u64, bytes: u32) -> usize {
        let context = recent << (64 - 8 * bytes);
        let hashed = context.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift;
        let half = usize::from(bytes == Self::LONG) << (64 - self.shift);
        hashed as usize | half
    }
}
