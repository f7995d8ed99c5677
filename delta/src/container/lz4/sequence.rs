//! The sequences of a block (LZ4 Block Format): how they are written, and read without what they make.

use alloc::vec::Vec;

/// The shortest copy.
pub(super) const COPY_MIN: u32 = 4;
/// A token's half tells so much; more is told by bytes behind it.
const TOKEN_MAX: u32 = 15;

/// New bytes, and the copy behind them; the last sequence of a block has none (length 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sequence {
    pub(super) new: u32,
    pub(super) len: u32,
    pub(super) distance: u16,
}

impl Sequence {
    /// Plain bytes that it makes.
    pub(super) fn raw_len(self) -> u64 {
        u64::from(self.new) + u64::from(self.len)
    }
}

/// The sequences of a block, checked as a decoder would: `None` in their place where it is damaged.
pub(super) struct Sequences<'a> {
    block: &'a [u8],
    at: usize,
    /// Plain bytes so far.
    made: u64,
    ended: bool,
}

impl<'a> Sequences<'a> {
    pub(super) fn new(block: &'a [u8]) -> Self {
        Self {
            block,
            at: 0,
            made: 0,
            ended: false,
        }
    }

    /// Where the next one begins in the block.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Plain bytes so far.
    pub(super) fn made(&self) -> u64 {
        self.made
    }

    /// A number that a token's half began.
    fn number(&mut self, half: u8) -> Option<u32> {
        let mut number = u32::from(half);
        if number == TOKEN_MAX {
            loop {
                let more = *self.block.get(self.at)?;
                self.at += 1;
                number = number.checked_add(more.into())?;
                if more < 255 {
                    break;
                }
            }
        }
        Some(number)
    }

    fn step(&mut self) -> Option<Sequence> {
        let token = *self.block.get(self.at)?;
        self.at += 1;
        let new = self.number(token >> 4)?;
        self.at = self.at.checked_add(new as usize)?;
        self.made += u64::from(new);
        if self.at == self.block.len() {
            self.ended = true;
            return Some(Sequence {
                new,
                len: 0,
                distance: 0,
            });
        }
        let distance = u16::from_le_bytes(*self.block.get(self.at..)?.first_chunk()?);
        self.at += 2;
        let len = self.number(token & 15)?.checked_add(COPY_MIN)?;
        if distance == 0 || u64::from(distance) > self.made {
            return None;
        }
        self.made += u64::from(len);
        Some(Sequence { new, len, distance })
    }
}

impl Iterator for Sequences<'_> {
    type Item = Option<Sequence>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let step = self.step();
        self.ended |= step.is_none();
        Some(step)
    }
}

/// Writes a sequence: new bytes, and the length and distance of the copy behind them, if there is one.
pub(super) fn write(out: &mut Vec<u8>, new: &[u8], copy: Option<(u32, u16)>) {
    let new_len = new.len() as u32;
    let copy_len = copy.map_or(0, |(len, _)| len - COPY_MIN);
    out.push((new_len.min(TOKEN_MAX) << 4 | copy_len.min(TOKEN_MAX)) as u8);
    push_more(out, new_len);
    out.extend_from_slice(new);
    if let Some((_, distance)) = copy {
        out.extend_from_slice(&distance.to_le_bytes());
        push_more(out, copy_len);
    }
}

/// What a token does not tell of a number.
fn push_more(out: &mut Vec<u8>, number: u32) {
    if let Some(more) = number.checked_sub(TOKEN_MAX) {
        out.resize(out.len() + more as usize / 255, 255);
        out.push((more % 255) as u8);
    }
}
