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
    lately: Lately,
    /// The number of the cover that the next one repeats, if it repeats any, and why that is
    /// thought.
    follows: Option<(usize, Because)>,
    repeats: [[Prob; 2]; 2],
}

/// A cover as it follows the one before it.
#[derive(Debug, Clone, Copy)]
struct Late {
    /// From the end of the one before: in the new image, and in the old one.
    gap: u32,
    jump: i64,
    cover: Cover,
}

/// Why the next cover is thought to be an earlier one again: the one before it has the place of the
/// one before that (the same stretch in a sibling file), or just its length (siblings in both
/// images).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Because {
    Place,
    Length,
}

/// Covers that may be repeated: the same edit in a sibling file has the same covers in a row.
const LATELY: usize = 128;

/// Covers before the next one, the last [`LATELY`] of them.
struct Lately {
    /// The one numbered `n` in the place `n` modulo [`LATELY`].
    covers: [Late; LATELY],
    count: usize,
    /// By length ([`Self::slot`]): one more than the number of the last such cover.
    newest: [usize; SLOTS],
    /// For each cover one more than the number of the one before it in its slot.
    older: [usize; LATELY],
}

/// Slots of [`Lately`]: covers are asked for by length, once for each cover of a patch.
const SLOTS: usize = 256;

impl Lately {
    fn new() -> Self {
        let none = Late {
            gap: 0,
            jump: 0,
            cover: START,
        };
        Self {
            covers: [none; LATELY],
            count: 0,
            newest: [0; SLOTS],
            older: [0; LATELY],
        }
    }

    /// The cover of this number, when it has come.
    fn numbered(&self, number: usize) -> Option<Late> {
        (number < self.count).then(|| self.covers[number % LATELY])
    }

    fn slot(len: u32) -> usize {
        len as usize % SLOTS
    }

    /// The number of the cover after one that is like this one, which stands behind `gap` bytes.
    fn like(&self, cover: &Cover, gap: u32) -> Option<(usize, Because)> {
        let first = self.count.saturating_sub(LATELY);
        let mut alike = None;
        let mut next = self.newest[Self::slot(cover.len)];
        while next > first {
            let at = (next - 1) % LATELY;
            let late = &self.covers[at];
            let before = &late.cover;
            if before.len == cover.len {
                if before.old() == cover.old() {
                    return Some((next, Because::Place));
                }
                let is_telling = cover.len >= LONG || late.gap == gap && cover.len + gap >= LONG;
                if alike.is_none() && is_telling {
                    alike = Some((next, Because::Length));
                }
            }
            next = self.older[at];
        }
        alike
    }

    fn note(&mut self, previous: &Cover, cover: Cover) {
        let at = self.count % LATELY;
        self.covers[at] = Late {
            gap: cover.new - previous.new_end(),
            jump: (cover.old() as i64).wrapping_sub(previous.old_end() as i64),
            cover,
        };
        self.count += 1;
        let newest = &mut self.newest[Self::slot(cover.len)];
        self.older[at] = *newest;
        *newest = self.count;
    }
}

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
            lately: Lately::new(),
            follows: None,
            repeats: [[Prob::new(); 2]; 2],
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
        if let Some(repeated) = self.repeated(bits, previous, known) {
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
        self.follows = self.lately.like(&cover, new - previous.new_end());
        self.lately.note(previous, cover);
        Some(cover)
    }

    /// Codes whether a cover is the one that followed last time, if the one before it was known.
    fn repeated(&mut self, bits: &mut impl Bits, previous: &Cover, known: Cover) -> Option<Cover> {
        let (number, because) = self.follows?;
        let Late { gap, jump, cover } = self.lately.numbered(number)?;
        let new = previous.new_end().checked_add(gap)?;
        let old = i64::try_from(previous.old_end()).ok()?.checked_add(jump)?;
        let cover = Cover::new(u64::try_from(old).ok()?, new, cover.len, cover.is_exact());
        let (old_end, new_end) = (
            old.checked_add(i64::from(cover.len))?,
            new.checked_add(cover.len)?,
        );
        let diagonal = old.checked_sub(i64::from(new))?;
        // Where the last one did repeat, this one does too.
        let context = usize::from(self.previous_kind == REPEATED);
        let other = u32::from(cover != known);
        if self.repeats[because as usize][context].code(bits, other) == 1 {
            return None;
        }
        self.follows = Some((number + 1, because));
        self.previous_kind = REPEATED;
        self.remember(diagonal);
        if cover.len >= LONG {
            self.home = (old_end, new_end);
        }
        self.previous_class = (32 - cover.len.leading_zeros()) as usize;
        self.lately.note(previous, cover);
        Some(cover)
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

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    /// Catches a cover that is passed over since another of its slot came later, and one that is taken
    /// though its place holds a later one by now.
    #[test]
    fn a_cover_like_this_one_is_found_as_by_looking_at_all() {
        let mut lately = Lately::new();
        let mut all: Vec<(Cover, u32)> = Vec::new();
        let (mut previous, mut state, mut found) = (START, 1u32, [0; 3]);
        for _ in 0..4000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let gap = state >> 30;
            // Lengths that share a slot, and places that come again.
            let len = 30 + (state >> 10) % 40 + (state >> 20) % 2 * SLOTS as u32;
            let new = previous.new_end() + gap;
            let cover = Cover::new(u64::from(state >> 24) % 50, new, len, false);
            let first = all.len().saturating_sub(LATELY);
            let alike = |(_, (late, _)): &(usize, &(Cover, u32))| late.len == len;
            let lasts = || (first..all.len()).zip(&all[first..]).rev().filter(alike);
            let by_place = lasts().find(|(_, (late, _))| late.old() == cover.old());
            let is_telling = |before: u32| len >= LONG || before == gap && len + gap >= LONG;
            let by_length = lasts().find(|(_, (_, before))| is_telling(*before));
            let wanted = by_place.map(|(at, _)| (at + 1, Because::Place));
            let wanted = wanted.or(by_length.map(|(at, _)| (at + 1, Because::Length)));
            assert_eq!(lately.like(&cover, gap), wanted, "{}", all.len());
            found[wanted.map_or(0, |(_, because)| 1 + because as usize)] += 1;
            lately.note(&previous, cover);
            all.push((cover, gap));
            previous = cover;
        }
        assert!(found.iter().all(|count| *count > 100), "{found:?}");
    }
}
