//! The covers of a region, packed: a device holds a hundred thousand of them.
//!
//! Each is told by the one before it in some bytes; every so many there is a place to begin from.

use alloc::vec::Vec;

use super::{Cover, START};
use crate::codec::numbers::{unzigzag, zigzag};
use crate::codec::varint;

/// A place to begin from stands before so many covers.
const STEP: usize = 64;

/// Covers in order of the new image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Covers {
    bytes: Vec<u8>,
    steps: Vec<Step>,
    count: usize,
    last: Option<Cover>,
}

/// A place to begin from: where in the bytes, after what cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    at: usize,
    /// Its end in both images.
    old: u64,
    new: u32,
}

impl Covers {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Bytes of memory they take.
    pub(crate) fn memory(&self) -> u64 {
        (self.bytes.len() + self.steps.len() * size_of::<Step>()) as u64
    }

    /// Adds one, which does not begin before the last one ends.
    pub(crate) fn push(&mut self, cover: Cover) {
        let last = self.last.unwrap_or(START);
        if self.count.is_multiple_of(STEP) {
            self.steps
                .reserve_exact(usize::from(self.steps.len() == self.steps.capacity()) * STEP);
            self.steps.push(Step {
                at: self.bytes.len(),
                old: last.old_end(),
                new: last.new_end(),
            });
        }
        let gap = cover.new - last.new_end();
        let diagonal = last.old_end().wrapping_add(u64::from(gap));
        let jump = zigzag(cover.old().wrapping_sub(diagonal) as i64);
        if self.bytes.capacity() - self.bytes.len() < 3 * varint::LEN_MAX {
            // By a quarter: what is in vain is little.
            self.bytes.reserve_exact((self.bytes.len() / 4).max(4096));
        }
        varint::write(&mut self.bytes, gap.into());
        varint::write(&mut self.bytes, jump);
        varint::write(
            &mut self.bytes,
            u64::from(cover.len) << 1 | u64::from(cover.is_exact()),
        );
        self.count += 1;
        self.last = Some(cover);
    }

    /// Gives back what was reserved in vain.
    pub(crate) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.steps.shrink_to_fit();
    }

    /// All of them.
    pub(crate) fn iter(&self) -> Walk<'_> {
        Walk {
            bytes: &self.bytes,
            before: START,
        }
    }

    /// Those that do not end at `new` or before.
    pub(crate) fn after(&self, new: u32) -> Walk<'_> {
        let step = self.steps.partition_point(|step| step.new <= new);
        let mut walk = match step.checked_sub(1).map(|step| self.steps[step]) {
            None => self.iter(),
            Some(step) => Walk {
                bytes: &self.bytes[step.at..],
                before: Cover::new(step.old, step.new, 0, false),
            },
        };
        while let Some((cover, rest)) = walk.peek()
            && cover.new_end() <= new
        {
            walk = Walk {
                bytes: rest,
                before: cover,
            };
        }
        walk
    }
}

impl FromIterator<Cover> for Covers {
    fn from_iter<I: IntoIterator<Item = Cover>>(covers: I) -> Self {
        let mut this = Self::default();
        covers.into_iter().for_each(|cover| this.push(cover));
        this.shrink();
        this
    }
}

/// Covers one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Walk<'a> {
    bytes: &'a [u8],
    /// The last that was told, or one without length that ends where it does.
    pub(super) before: Cover,
}

impl<'a> Walk<'a> {
    /// The next cover, and what comes after it.
    fn peek(&self) -> Option<(Cover, &'a [u8])> {
        let mut bytes = self.bytes;
        let gap = number(&mut bytes)? as u32;
        let jump = unzigzag(number(&mut bytes)?);
        let len = number(&mut bytes)?;
        let new = self.before.new_end() + gap;
        let diagonal = self.before.old_end().wrapping_add(u64::from(gap));
        let old = diagonal.wrapping_add(jump as u64);
        Some((Cover::new(old, new, (len >> 1) as u32, len & 1 == 1), bytes))
    }
}

impl Iterator for Walk<'_> {
    type Item = Cover;

    fn next(&mut self) -> Option<Cover> {
        let (cover, rest) = self.peek()?;
        (self.bytes, self.before) = (rest, cover);
        Some(cover)
    }
}

/// The next number of our own bytes.
#[inline]
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let (mut number, mut shift) = (0, 0);
    loop {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(number);
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a cover that is told after another than the one before it, and a walk that begins one
    /// too early or too late.
    #[test]
    fn covers_come_back_from_any_place() {
        let mut new = 0;
        let covers: Vec<Cover> = (0..1000u32)
            .map(|n| {
                new += n * n % 5;
                let old = u64::from(n * 7919 % 1000) << (n % 40);
                let cover = Cover::new(old, new, 1 + n % 300, n % 3 == 0);
                new = cover.new_end();
                cover
            })
            .collect();
        let packed: Covers = covers.iter().copied().collect();
        assert_eq!(packed.len(), covers.len());
        assert!(packed.iter().eq(covers.iter().copied()));
        for from in 0..=new {
            let first = covers.partition_point(|cover| cover.new_end() <= from);
            let walk = packed.after(from);
            let before = first.checked_sub(1).map_or(START, |at| covers[at]);
            assert_eq!(walk.before.old_end(), before.old_end(), "{from}");
            assert_eq!(walk.before.new_end(), before.new_end(), "{from}");
            let here: Vec<Cover> = walk.take(3).collect();
            assert_eq!(here, covers[first..covers.len().min(first + 3)], "{from}");
        }
    }
}
