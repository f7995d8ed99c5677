//! Bits as deflate writes them: the lowest of a byte first.

use alloc::vec::Vec;

/// Reads bits out of bytes.
#[derive(Debug, Clone)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Bits read so far.
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bits were read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The next bits without taking them, at most 24; beyond the end they are zeros.
    pub(super) fn peek(&self, count: u32) -> u32 {
        let from = self.at / 8;
        let word = match self.bytes.get(from..from + 4) {
            Some(four) => u32::from_le_bytes([four[0], four[1], four[2], four[3]]),
            None => (0..4).fold(0, |word, at| {
                word | u32::from(self.bytes.get(from + at).copied().unwrap_or(0)) << (8 * at)
            }),
        };
        word >> (self.at % 8) & ((1 << count) - 1)
    }

    /// Leaves bits behind; `None` past the end.
    pub(super) fn skip(&mut self, count: u32) -> Option<()> {
        self.at += count as usize;
        (self.at <= self.bytes.len() * 8).then_some(())
    }

    /// The next bits, at most 24.
    pub(super) fn take(&mut self, count: u32) -> Option<u32> {
        let bits = self.peek(count);
        self.skip(count).map(|()| bits)
    }

    /// Goes on at the next byte; `None` when a bit that is passed over is set.
    pub(super) fn align(&mut self) -> Option<()> {
        let rest = (8 - self.at as u32 % 8) % 8;
        (self.take(rest)? == 0).then_some(())
    }

    /// The next whole bytes. The reader stands at the start of a byte.
    pub(super) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let from = self.at / 8;
        let bytes = self.bytes.get(from..from.checked_add(len)?)?;
        self.at += len * 8;
        Some(bytes)
    }
}

/// Writes bits into bytes.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    pub(super) bytes: Vec<u8>,
    held: u64,
    count: u32,
}

impl BitWriter {
    /// Appends the low `count` bits, at most 32.
    pub(super) fn put(&mut self, bits: u32, count: u32) {
        self.held |= u64::from(bits) << self.count;
        self.count += count;
        while self.count >= 8 {
            self.bytes.push(self.held as u8);
            self.held >>= 8;
            self.count -= 8;
        }
    }

    /// Fills the last byte with zeros.
    pub(super) fn align(&mut self) {
        self.put(0, (8 - self.count) % 8);
    }
}
