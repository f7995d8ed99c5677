//! Finding covers: exact matches that are worth leaving the current one for, then stretched over
//! differing bytes as long as more than half agree (C. Percival, "Naive differences of executable
//! code", 2003).

use alloc::vec::Vec;

use super::anchors::Anchor;
use super::suffix::{Index, LONG, Match, common_prefix};
use super::threads::on_threads;
use crate::header::Profile;

/// A stretch of the new text that resembles one of the old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Alike {
    pub(super) old: usize,
    pub(super) new: usize,
    pub(super) len: usize,
}

/// A match has to be this much longer than what the current cover gives for the same bytes.
const ADVANTAGE: isize = 8;
/// In code for Thumb, where two of four bytes of a call are blank: 6 % less than by 8 for the
/// controller of docs/BENCHMARKS.md.
const ADVANTAGE_THUMB: isize = 10;
const _: () = assert!(LONG as isize <= ADVANTAGE);
/// Of a stretch of [`LONG`] bytes across a byte in which a cover fails, the bytes before and behind it.
const ACROSS_BEFORE: usize = 3;
const ACROSS_BEHIND: isize = (LONG - 1 - ACROSS_BEFORE) as isize;
/// Bytes over which those in which a cover fails are counted: each place is asked anew.
const WALK_MAX: usize = 256;
/// Stretches of the new text that are scanned apart, so that several threads can: covers do not
/// depend on how many there are.
const STRETCH: usize = 4 << 20;

/// The covers of `new`, in its order, not overlapping.
pub(super) fn covers(
    index: &Index,
    (old, new): (&[u8], &[u8]),
    anchors: &[Anchor],
    (profile, is_thumb, threads): (Profile, bool, usize),
    progress: &mut dyn FnMut(u64),
) -> Vec<Alike> {
    let advantage = if is_thumb { ADVANTAGE_THUMB } else { ADVANTAGE };
    progress(0);
    let stretches = new.len().div_ceil(STRETCH);
    let scanned = on_threads(stretches, threads, &|number| {
        let from = number * STRETCH;
        let to = new.len().min(from + STRETCH);
        Scanner::new(index, (old, &new[..to]), anchors, from, advantage).all()
    });
    progress(new.len() as u64);
    let mut found = joined(scanned.into_iter().flatten());
    drop_dear(old, new, AgreeingMin::of(profile), &mut found);
    found
}

/// What was cut where stretches meet that are looked through apart is one again.
pub(super) fn joined(parts: impl Iterator<Item = Alike>) -> Vec<Alike> {
    let mut all: Vec<Alike> = Vec::new();
    for part in parts {
        match all.last_mut() {
            Some(last) if last.old + last.len == part.old && last.new + last.len == part.new => {
                last.len += part.len;
            }
            _ => all.push(part),
        }
    }
    all
}

/// How many bytes a cover has to agree in, or telling of it costs more than its bytes do.
#[derive(Debug, Clone, Copy)]
struct AgreeingMin {
    /// Anywhere.
    apart: usize,
    /// Anywhere, for text: its bytes cost less.
    text: usize,
    /// Where it goes on where the last left off, with a short gap: that is told for less.
    on: usize,
}

impl AgreeingMin {
    fn of(profile: Profile) -> Self {
        match profile {
            Profile::Small => Self {
                apart: 15,
                text: 28,
                on: 6,
            },
            // zstd finds short stretches again by itself, and each cover takes time on the device.
            Profile::Fast => Self {
                apart: 64,
                text: 28,
                on: 12,
            },
        }
    }
}

/// How short a gap is.
const GAP: usize = 32;

/// Drops covers that cost more than they save.
fn drop_dear(old: &[u8], new: &[u8], min: AgreeingMin, found: &mut Vec<Alike>) {
    let mut last = (0, 0);
    found.retain(|cover| {
        let pairs = old[cover.old..]
            .iter()
            .zip(&new[cover.new..])
            .take(cover.len);
        let apart = if is_text(&new[cover.new..][..cover.len]) {
            min.text
        } else {
            min.apart
        };
        let agreeing = pairs.filter(|(a, b)| a == b).take(apart).count();
        let diagonal = cover.old.wrapping_sub(cover.new);
        let goes_on = diagonal == last.0 && cover.new - last.1 < GAP;
        let keep = agreeing >= apart || goes_on && agreeing >= min.on;
        if keep {
            last = (diagonal, cover.new + cover.len);
        }
        keep
    });
}

/// Whether short bytes are text.
fn is_text(bytes: &[u8]) -> bool {
    let is_text = |byte: &u8| matches!(byte, b' '..=b'~' | b'\n' | b'\r' | b'\t');
    bytes.len() < 64 && bytes.iter().all(is_text)
}

struct Scanner<'a> {
    index: &'a Index<'a>,
    /// Those that do not end before `scan`.
    anchors: &'a [Anchor],
    old: &'a [u8],
    new: &'a [u8],
    scan: usize,
    advantage: isize,
    hit: Match,
    /// Where the open cover begins: (old, new).
    last: (usize, usize),
    /// Old place minus new place along the open cover.
    offset: isize,
}

impl<'a> Scanner<'a> {
    /// A scanner of `new` from `from` on.
    fn new(
        index: &'a Index,
        (old, new): (&'a [u8], &'a [u8]),
        anchors: &'a [Anchor],
        from: usize,
        advantage: isize,
    ) -> Self {
        Self {
            index,
            anchors: &anchors[anchors.partition_point(|a| a.new + a.len <= from)..],
            old,
            new,
            scan: from,
            advantage,
            hit: Match::default(),
            last: (0, from),
            offset: -(from as isize),
        }
    }

    fn all(mut self) -> Vec<Alike> {
        let mut found = Vec::new();
        while self.scan < self.new.len() {
            let at_end = self.advance();
            found.extend(self.close(at_end));
        }
        found
    }
    /// Whether the open cover would give the right byte at `new_at`.
    fn agrees(&self, new_at: usize) -> bool {
        new_at
            .checked_add_signed(self.offset)
            .and_then(|old_at| self.old.get(old_at))
            .is_some_and(|byte| *byte == self.new[new_at])
    }

    /// The longest match here: an anchor where there is one.
    fn longest(&mut self) -> Match {
        while let Some(anchor) = self.anchors.first() {
            if self.scan >= anchor.new + anchor.len {
                self.anchors = &self.anchors[1..];
            } else if self.scan >= anchor.new {
                let skip = self.scan - anchor.new;
                // The scanner's stretch may end within the anchor.
                return Match {
                    at: anchor.old + skip,
                    len: (anchor.len - skip).min(self.new.len() - self.scan),
                };
            } else {
                break;
            }
        }
        let wanted = &self.new[self.scan..];
        let at = self.scan.checked_add_signed(self.offset);
        let known = at.and_then(|at| self.old.get(at..)).unwrap_or_default();
        let len = common_prefix(known, wanted);
        if self.index.may_be_long(wanted) && self.may_be_better(wanted, known, len) {
            self.index.longest(wanted)
        } else {
            let at = at.unwrap_or_default();
            Match { at, len }
        }
    }

    /// Whether a match may be worth leaving the open cover for, which goes on with `known` and fails
    /// first at `fails`; here, or at any place before that.
    ///
    /// Such a match is longer by [`Self::advantage`] than what the cover gives for the same bytes, so it
    /// goes on over more bytes than that in which the cover fails; and all that is within it is in the
    /// index, so it was seen. Asking that is much cheaper than looking the match up.
    fn may_be_better(&self, wanted: &[u8], known: &[u8], fails: usize) -> bool {
        let is_seen = |from: usize| self.index.may_be_long(&wanted[from..]);
        let mut at = fails;
        for failed in 0..self.advantage {
            if at >= wanted.len() {
                return false;
            }
            // A stretch across this byte, which ends before the last of those that are counted.
            let is_across = failed + ACROSS_BEHIND <= self.advantage;
            if is_across && !is_seen(fails.max(at.saturating_sub(ACROSS_BEFORE))) {
                return false;
            }
            if at - fails > WALK_MAX {
                return true;
            }
            at += 1;
            let known = known.get(at..).unwrap_or_default();
            at += common_prefix(known, &wanted[at..]);
        }
        at < wanted.len() && is_seen(at + 1 - LONG)
    }

    /// Moves on to the next match worth taking; says whether the open cover is to be closed.
    fn advance(&mut self) -> bool {
        let mut score = 0isize;
        self.scan += self.hit.len;
        let mut scored = self.scan;
        while self.scan < self.new.len() {
            self.hit = self.longest();
            while scored < self.scan + self.hit.len {
                score += isize::from(self.agrees(scored));
                scored += 1;
            }
            let len = self.hit.len as isize;
            if (len == score && len != 0) || len > score + self.advantage {
                self.go_near();
                return len != score || self.scan == self.new.len();
            }
            score -= isize::from(self.agrees(self.scan));
            self.scan += 1;
        }
        true
    }

    /// Takes the match from nearby where it stands there too.
    fn go_near(&mut self) {
        let is_anchor = self
            .anchors
            .first()
            .is_some_and(|anchor| anchor.new <= self.scan);
        let place = self.scan.saturating_add_signed(self.offset);
        if !is_anchor && self.hit.len > 1 && self.hit.at != place {
            let wanted = &self.new[self.scan..];
            self.hit = self.index.nearest(self.hit, wanted, place);
        }
    }

    /// Stretches the open cover forwards and the new match backwards, and closes the open one.
    fn close(&mut self, wanted: bool) -> Option<Alike> {
        if !wanted {
            return None;
        }
        let mut forwards = self.stretch_forwards();
        let mut backwards = if self.scan < self.new.len() {
            self.stretch_backwards()
        } else {
            0
        };
        let overlap = (self.last.1 + forwards + backwards).saturating_sub(self.scan);
        if overlap > 0 {
            let keep = self.split(forwards, backwards, overlap);
            forwards = forwards + keep - overlap;
            backwards -= keep;
        }
        let cover = Alike {
            old: self.last.0,
            new: self.last.1,
            len: forwards,
        };
        self.last = (self.hit.at.saturating_sub(backwards), self.scan - backwards);
        self.offset = self.hit.at as isize - self.scan as isize;
        (forwards > 0).then_some(cover)
    }

    fn stretch_forwards(&self) -> usize {
        let (old, new) = (&self.old[self.last.0..], &self.new[self.last.1..self.scan]);
        best_stretch(old.iter().zip(new))
    }

    fn stretch_backwards(&self) -> usize {
        let (old, new) = (&self.old[..self.hit.at], &self.new[self.last.1..self.scan]);
        best_stretch(old.iter().rev().zip(new.iter().rev()))
    }

    /// Of an overlap, how many bytes the earlier cover keeps.
    fn split(&self, forwards: usize, backwards: usize, overlap: usize) -> usize {
        let (mut score, mut best, mut keep) = (0isize, 0isize, 0);
        let earlier_end = (self.last.0 + forwards, self.last.1 + forwards);
        let later_start = (self.hit.at - backwards, self.scan - backwards);
        for at in 0..overlap {
            let back = overlap - at;
            score += isize::from(self.new[earlier_end.1 - back] == self.old[earlier_end.0 - back]);
            score -= isize::from(self.new[later_start.1 + at] == self.old[later_start.0 + at]);
            if score > best {
                (best, keep) = (score, at + 1);
            }
        }
        keep
    }
}

/// The length at which agreeing bytes outweigh differing ones the most.
fn best_stretch<'a>(pairs: impl Iterator<Item = (&'a u8, &'a u8)>) -> usize {
    let (mut score, mut best, mut len) = (0isize, 0isize, 0);
    for (at, (a, b)) in pairs.enumerate() {
        score += if a == b { 1 } else { -1 };
        if score > best {
            (best, len) = (score, at + 1);
        }
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made of few pieces, most of them whole, so that stretches come again.
    fn text(len: usize, seed: &mut u64) -> Vec<u8> {
        let mut next = || {
            *seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (*seed >> 40) as usize
        };
        let mut all = Vec::new();
        while all.len() < len {
            let piece = next() % 6;
            all.extend((0..12).map(|at| (piece * 31 + at * at * (piece + 1)) as u8 & 15));
            if next() % 3 == 0 {
                let at = all.len() - 1 - next() % 12;
                all[at] = next() as u8 & 15;
            }
        }
        all
    }

    /// Where looking up is spared nothing is missed. Catches: fewer bytes counted than a match must go
    /// on over, a stretch asked for that is not within each such match, an end that is not seen.
    #[test]
    fn no_match_that_is_worth_it_is_passed_over() {
        let (mut seed, mut worth, mut spared) = (1, 0, 0);
        for _ in 0..40 {
            let (old, new) = (text(400, &mut seed), text(300, &mut seed));
            let whole = 0..old.len();
            let index = Index::new(&old, core::slice::from_ref(&whole), 1).expect("a short text");
            for offset in [-40_isize, -7, 0, 11, 60] {
                let mut scanner = Scanner::new(&index, (&old, &new), &[], 0, ADVANTAGE);
                scanner.offset = offset;
                for scan in 40..new.len() {
                    scanner.scan = scan;
                    let wanted = &new[scan..];
                    let known = &old[scan.saturating_add_signed(offset)..];
                    let fails = common_prefix(known, wanted);
                    let is_worth = (0..=fails.min(wanted.len() - 1)).any(|skip| {
                        let len = index.longest(&wanted[skip..]).len;
                        let agreeing = (0..len).filter(|at| scanner.agrees(scan + skip + at));
                        len as isize > agreeing.count() as isize + ADVANTAGE
                    });
                    let may_be = scanner.may_be_better(wanted, known, fails);
                    assert!(may_be || !is_worth, "at {scan} of {new:?} by {offset}");
                    worth += u32::from(is_worth);
                    spared += u32::from(!may_be);
                }
            }
        }
        assert!(worth > 1000 && spared > 1000, "{worth} {spared}");
    }
}
