//! How covers are coded: each after the one before it, under adaptive models.

use crate::codec::numbers::{Numbers, unzigzag, zigzag};
use crate::codec::range::{Bits, Prob};
use crate::plan::Cover;

/// The cover before the first.
pub(super) const START: Cover = Cover::new(0, 0, 0, false);

/// The adaptive models of a map.
pub(super) struct Models {
    pub(super) head: Numbers,
    gap: Numbers,
    len: Numbers,
    jump: Numbers,
    same_diagonal: [Prob; KINDS],
    adjacent: [Prob; KINDS],
    again: [[Prob; DIAGONALS]; KINDS],
    exact: [Prob; 2],
    previous_kind: usize,
    previous_class: usize,
    /// Diagonals (old place less new place) of covers before, the latest first.
    diagonals: [i64; DIAGONALS],
    /// Old and new end of the last long cover: the next ones are mostly near its diagonal.
    home: (i64, u32),
    /// Covers before, each with the gap before it; the one numbered `n` in the place `n` modulo
    /// [`LATELY`].
    lately: [(u32, Cover); LATELY],
    count: usize,
    /// The number of the cover that the next one repeats, if it repeats any.
    follows: Option<usize>,
    repeats: [Prob; 2],
}

/// Numbers that were read lead outside of what can be counted.
struct Nowhere;

/// Covers that may be repeated: the same edit in a sibling file has the same covers in a row.
const LATELY: usize = 128;

/// How a cover's place is told: on the diagonal, right after, on an earlier diagonal, by a jump, or
/// as that of an earlier cover.
const KINDS: usize = 5;
const REPEATED: usize = KINDS - 1;
/// Earlier diagonals that are remembered.
const DIAGONALS: usize = 8;
/// A cover of this length is long.
const LONG: u32 = 48;

impl Models {
    pub(super) fn new() -> Self {
        Self {
            head: Numbers::new(3),
            gap: Numbers::new(KINDS),
            len: Numbers::new(2 * KINDS),
            jump: Numbers::new(KINDS),
            same_diagonal: [Prob::new(); KINDS],
            adjacent: [Prob::new(); KINDS],
            again: [[Prob::new(); DIAGONALS]; KINDS],
            exact: [Prob::new(); 2],
            previous_kind: 0,
            previous_class: 0,
            diagonals: [0; DIAGONALS],
            home: (0, 0),
            lately: [(0, START); LATELY],
            count: 0,
            follows: None,
            repeats: [Prob::new(); 2],
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
        if let Some(repeated) = self.repeated(bits, previous, known).ok()? {
            return Some(repeated);
        }
        let kind = self.previous_kind;
        let gap = self.gap.code(
            bits,
            kind,
            u64::from(known.new.wrapping_sub(previous.new_end())),
        );
        let new = previous.new_end().checked_add(u32::try_from(gap).ok()?)?;

        let adjacent = i64::try_from(previous.old_end()).ok()?;
        let diagonal = adjacent.checked_add(i64::try_from(gap).ok()?)?;
        let known_old = i64::try_from(known.old()).ok()?;
        let on_diagonal =
            self.same_diagonal[kind].code(bits, u32::from(known_old != diagonal)) == 0;
        let (old, kind) = if on_diagonal {
            (diagonal, 0)
        } else if self.adjacent[kind].code(bits, u32::from(known_old != adjacent)) == 0 {
            (adjacent, 1)
        } else if let Some(earlier) = self.earlier_diagonal(bits, known_old, i64::from(new)) {
            (i64::from(new).checked_add(earlier)?, 2)
        } else {
            let away = i64::from(new) - i64::from(self.home.1);
            let home = self.home.0.checked_add(away)?;
            let jump = zigzag(known_old.wrapping_sub(home));
            let jump = unzigzag(self.jump.code(bits, kind, jump));
            (home.checked_add(jump)?, 3)
        };
        self.previous_kind = kind;
        self.remember(old.checked_sub(i64::from(new))?);

        let context = kind * 2 + usize::from(self.previous_class > 6);
        let len = u32::try_from(self.len.code(bits, context, u64::from(known.len))).ok()?;
        if len == 0 {
            return None;
        }
        new.checked_add(len)?;
        if len >= LONG {
            self.home = (old.checked_add(i64::from(len))?, new + len);
        }
        self.previous_class = (32 - len.leading_zeros()) as usize;
        let exact =
            self.exact[usize::from(self.previous_class > 6)].code(bits, known.is_exact().into());
        let cover = Cover::new(u64::try_from(old).ok()?, new, len, exact == 1);
        let same = |at: &usize| {
            let (_, before) = &self.lately[at % LATELY];
            (before.old(), before.len) == (cover.old(), len)
        };
        let first = self.count.saturating_sub(LATELY);
        self.follows = (first..self.count).rev().find(same).map(|at| at + 1);
        self.note(new - previous.new_end(), cover);
        Some(cover)
    }

    /// Codes whether a cover is the one that followed last time, if the one before it was known.
    fn repeated(
        &mut self,
        bits: &mut impl Bits,
        previous: &Cover,
        known: Cover,
    ) -> Result<Option<Cover>, Nowhere> {
        let Some(number) = self.follows.filter(|number| *number < self.count) else {
            return Ok(None);
        };
        let (gap, before) = self.lately[number % LATELY];
        let new = previous.new_end().checked_add(gap).ok_or(Nowhere)?;
        let cover = Cover::new(before.old(), new, before.len, before.is_exact());
        // Where the last one did repeat, this one does too.
        let context = usize::from(self.previous_kind == REPEATED);
        if self.repeats[context].code(bits, u32::from(cover != known)) == 1 {
            return Ok(None);
        }
        new.checked_add(cover.len).ok_or(Nowhere)?;
        self.follows = Some(number + 1);
        self.previous_kind = REPEATED;
        let old = i64::try_from(cover.old()).map_err(|_| Nowhere)?;
        self.remember(old.checked_sub(i64::from(new)).ok_or(Nowhere)?);
        if cover.len >= LONG {
            let end = old.checked_add(i64::from(cover.len)).ok_or(Nowhere)?;
            self.home = (end, cover.new_end());
        }
        self.previous_class = (32 - cover.len.leading_zeros()) as usize;
        self.note(gap, cover);
        Ok(Some(cover))
    }

    fn note(&mut self, gap: u32, cover: Cover) {
        self.lately[self.count % LATELY] = (gap, cover);
        self.count += 1;
    }

    /// Codes whether the cover at `new` is on an earlier diagonal, and which.
    fn earlier_diagonal(&mut self, bits: &mut impl Bits, old: i64, new: i64) -> Option<i64> {
        // The first one was asked for already.
        for index in 1..DIAGONALS {
            let diagonal = self.diagonals[index];
            let other = u32::from(old.wrapping_sub(new) != diagonal);
            if self.again[self.previous_kind][index].code(bits, other) == 0 {
                return Some(diagonal);
            }
        }
        None
    }

    /// Puts a diagonal first.
    fn remember(&mut self, diagonal: i64) {
        let known = self.diagonals.iter().position(|known| *known == diagonal);
        self.diagonals[..=known.unwrap_or(DIAGONALS - 1)].rotate_right(1);
        self.diagonals[0] = diagonal;
    }
}
