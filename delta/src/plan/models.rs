//! How covers are coded: each after the one before it, under adaptive models.

use crate::codec::numbers::{Numbers, unzigzag, zigzag};
use crate::codec::range::{Bits, Prob};
use crate::plan::Cover;

/// The cover before the first.
pub(super) const START: Cover = Cover {
    old: 0,
    new: 0,
    len: 0,
    exact: false,
};

/// The adaptive models of a map.
pub(super) struct Models {
    pub(super) head: Numbers,
    gap: Numbers,
    len: Numbers,
    jump: Numbers,
    same_diagonal: [Prob; 4],
    adjacent: [Prob; 4],
    exact: [Prob; 2],
    previous_kind: usize,
    previous_class: usize,
}

impl Models {
    pub(super) fn new() -> Self {
        Self {
            head: Numbers::new(3),
            gap: Numbers::new(4),
            len: Numbers::new(8),
            jump: Numbers::new(4),
            same_diagonal: [Prob::new(); 4],
            adjacent: [Prob::new(); 4],
            exact: [Prob::new(); 2],
            previous_kind: 0,
            previous_class: 0,
        }
    }

    /// Codes `cover` after `previous`; `None` when the numbers read lead nowhere.
    pub(super) fn cover(
        &mut self,
        bits: &mut impl Bits,
        previous: &Cover,
        cover: Option<Cover>,
    ) -> Option<Cover> {
        let known = cover.unwrap_or(START);
        let kind = self.previous_kind;
        let gap = self.gap.code(
            bits,
            kind,
            u64::from(known.new.wrapping_sub(previous.new_end())),
        );
        let new = previous.new_end().checked_add(u32::try_from(gap).ok()?)?;

        let adjacent = i64::try_from(previous.old_end()).ok()?;
        let diagonal = adjacent.checked_add(i64::try_from(gap).ok()?)?;
        let known_old = i64::try_from(known.old).ok()?;
        let on_diagonal =
            self.same_diagonal[kind].code(bits, u32::from(known_old != diagonal)) == 0;
        let (old, kind) = if on_diagonal {
            (diagonal, 0)
        } else if self.adjacent[kind].code(bits, u32::from(known_old != adjacent)) == 0 {
            (adjacent, 1)
        } else {
            let jump = zigzag(known_old.wrapping_sub(adjacent));
            (
                adjacent.checked_add(unzigzag(self.jump.code(bits, kind, jump)))?,
                2,
            )
        };
        self.previous_kind = kind;

        let context = kind * 2 + usize::from(self.previous_class > 6);
        let len = u32::try_from(self.len.code(bits, context, u64::from(known.len))).ok()?;
        if len == 0 {
            return None;
        }
        new.checked_add(len)?;
        self.previous_class = (32 - len.leading_zeros()) as usize;
        let exact = self.exact[usize::from(self.previous_class > 6)].code(bits, known.exact.into());
        Some(Cover {
            old: u64::try_from(old).ok()?,
            new,
            len,
            exact: exact == 1,
        })
    }
}
