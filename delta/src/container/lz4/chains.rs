//! What the high compression encoder of LZ4 writes at its levels 3 to 9, made while the plain bytes
//! come: the library wants a block whole, and blocks of kernels have 8 MiB.
//!
//! The choices are those of Y. Collet's encoder, by observation of what it writes: the longest of the
//! earlier places with the same four bytes; then whether a longer copy begins near the end of this
//! one, and a third near the end of that; of three in a row the first is written.
//!
//! Held are the 64 KiB that a copy may reach back to, what is not written yet, and what a copy may
//! go on over. A long run of one byte is held shortened: nothing that a copy could be begins within,
//! so the choices are the same, and the length that was left out is added when the copy is written.
//! Places are counted in the shortened block.

use alloc::vec;
use alloc::vec::Vec;

use super::held::{Bytes, run_before};
use super::sequence::{self, COPY_MIN};

/// Copies reach so far back.
const DISTANCE_MAX: u32 = 65_535;
const WINDOW: u32 = 1 << 16;
const HASH_BITS: u32 = 15;
/// Shorter copies there are none.
const LEN_MIN: u32 = COPY_MIN;
/// The last bytes of a block are literals; copies do not begin near its end.
const LITERALS_LAST: u32 = 5;
const BEGIN_BEFORE_END: u32 = 12;
/// A copy that is followed by another is not cut to more than a token tells without more bytes.
const LEN_CUT: u32 = 18;
/// Plain bytes are taken in such steps.
const STEP: usize = 16 << 10;
/// What is ahead of a place before it is looked at: most searches end within.
const AHEAD: u32 = 4096;

/// A run is shortened when so much of it has come.
const RUN_LONG: u32 = 192 << 10;
/// By so much: the links of places do not change by that.
const RUN_LESS: u32 = WINDOW;
/// Between what is being decided and where a run is shortened there is so much of it.
const RUN_APART: u32 = 80 << 10;
/// More new bytes in a row are not written at once.
const NEW_MAX: u32 = 128 << 10;

/// A copy of earlier bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Match {
    len: u32,
    distance: u32,
    /// How many bytes before the place that was looked at it begins.
    back: u32,
}

/// What is to be decided next.
#[derive(Debug, Clone, Copy)]
enum Next {
    First,
    Second,
    Third,
}

/// Encodes one block as its plain bytes come.
#[derive(Debug)]
pub(crate) struct Chains {
    /// Earlier places that are looked at.
    attempts: u32,
    /// Whether runs of one byte are leapt over.
    leaps: bool,
    len: u32,
    /// Plain bytes from `start` on.
    held: Vec<u8>,
    start: u32,
    held_max: usize,
    /// The most that was held.
    peak: usize,
    /// By hash: the last place that has it, `WINDOW` added; 0 for none.
    heads: Vec<u32>,
    /// By place: how far back the one before with its hash is.
    links: Vec<u16>,
    /// The first place that is not in the chains.
    fresh: u32,
    next: Next,
    /// What is before is written.
    written: u32,
    at: u32,
    first: Match,
    /// The first copy as it was found, before it made way.
    kept: (u32, Match),
    second: (u32, Match),
    /// The last byte, and how many before the end are alike.
    run: (u8, u32),
    /// Where the run was shortened, and by how much.
    less: (u32, u32),
    /// A run that was shortened was not copied: nobody knows how to go on.
    is_lost: bool,
}

impl Chains {
    /// Memory beside what is held.
    pub(super) const TABLES: u64 = (4 << HASH_BITS) + 2 * WINDOW as u64;
    /// Of what is held at most the signer tells in powers of two from here on.
    const HELD_MIN_BITS: u32 = 17;

    /// An encoder of a block of `len` bytes at `level` that may hold `held_max` of them.
    pub(super) fn new(level: u8, len: u32, held_max: usize) -> Self {
        Self {
            attempts: 1 << (level - 1),
            leaps: level > 8,
            len,
            held: Vec::new(),
            start: 0,
            held_max,
            peak: 0,
            heads: vec![0; 1 << HASH_BITS],
            links: vec![u16::MAX; WINDOW as usize],
            fresh: 0,
            next: Next::First,
            written: 0,
            at: 0,
            first: Match::default(),
            kept: (0, Match::default()),
            second: (0, Match::default()),
            run: (0, 0),
            less: (0, 0),
            is_lost: false,
        }
    }

    /// Bytes that may be held by what the format says of them.
    pub(super) fn held_max(reach: u8) -> usize {
        1 << (Self::HELD_MIN_BITS - 1 + u32::from(reach))
    }

    /// What the format says of an encoder that has held what this one did. Bytes come in other
    /// pieces on the device, so there is room for some more.
    #[cfg(feature = "diff")]
    pub(super) fn reach(&self) -> u8 {
        let wanted = (self.peak + 4 * STEP).next_power_of_two();
        (1 + wanted.ilog2().saturating_sub(Self::HELD_MIN_BITS)) as u8
    }

    /// Takes the next plain bytes; `None` when there are too many or too much is to be held.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
        for step in bytes.chunks(STEP) {
            let held = self.held.len() + step.len();
            if held > self.held_max || held as u32 > self.len - self.start {
                return None;
            }
            if held > self.held.capacity() {
                let more = held.next_multiple_of(4 * STEP).min(self.held_max);
                self.held.reserve_exact(more - self.held.len());
            }
            self.held.extend_from_slice(step);
            self.peak = self.peak.max(held);
            self.count_run(step);
            while self.decide(out).is_some() {}
            if self.is_lost || self.at - self.written > NEW_MAX {
                return None;
            }
            self.shorten_run();
            let gone = self.written.saturating_sub(WINDOW) - self.start;
            self.held.drain(..gone as usize);
            self.start += gone;
            // What was leapt over is out of reach of all that comes.
            self.fresh = self.fresh.max(self.start);
        }
        Some(())
    }

    /// Counts how many bytes before the end are alike, `step` being the last.
    fn count_run(&mut self, step: &[u8]) {
        let Some(last) = step.last() else { return };
        let alike = run_before(step, *last);
        let goes_on = alike == step.len() && self.run.0 == *last;
        let before = if goes_on { self.run.1 } else { 0 };
        self.run = (*last, before + alike as u32);
    }

    /// Leaves out the middle of a long run that everything waits for.
    fn shorten_run(&mut self) {
        let end = self.start + self.held.len() as u32;
        let (place, less) = self.less;
        if self.run.1 < RUN_LONG {
            return;
        }
        let place = if less > 0 { place } else { end - RUN_LONG / 2 };
        let pending = self.at.max(self.second.0).max(self.fresh);
        let within = place >= end - self.run.1 && end - place >= RUN_LESS + RUN_APART / 4;
        if !within || place < pending + RUN_APART {
            return;
        }
        let from = (place - self.start) as usize;
        self.held.drain(from..from + RUN_LESS as usize);
        self.len -= RUN_LESS;
        self.run.1 -= RUN_LESS;
        self.less = (place, less + RUN_LESS);
    }

    /// Ends the block; `None` when not all of its bytes have come.
    pub(super) fn finish(mut self, out: &mut Vec<u8>) -> Option<()> {
        while self.decide(out).is_some() {}
        if self.is_lost || self.start + self.held.len() as u32 != self.len {
            return None;
        }
        let rest = &self.held[(self.written - self.start) as usize..];
        sequence::write(out, rest, None);
        Some(())
    }

    /// Decides one thing; `None` when that takes more bytes, or nothing is left.
    fn decide(&mut self, out: &mut Vec<u8>) -> Option<()> {
        match self.next {
            Next::First => self.decide_first(),
            Next::Second => self.decide_second(out),
            Next::Third => self.decide_third(out),
        }
    }

    /// Copies begin here at the latest.
    fn begin_max(&self) -> Option<u32> {
        self.len.checked_sub(BEGIN_BEFORE_END)
    }

    fn decide_first(&mut self) -> Option<()> {
        loop {
            if self.at > self.begin_max()? || self.len <= BEGIN_BEFORE_END {
                return None;
            }
            self.first = self.longest(self.at, self.at, LEN_MIN - 1)?;
            if self.first.len >= LEN_MIN {
                break;
            }
            self.at += 1;
        }
        self.kept = (self.at, self.first);
        self.next = Next::Second;
        Some(())
    }

    /// Whether a longer copy begins near the end of the first.
    fn decide_second(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let first = self.first;
        let mut begin = self.at + first.len - 2;
        let mut second = Match::default();
        if self.at + first.len <= self.begin_max()? {
            second = self.longest(begin, self.at, first.len)?;
            begin -= second.back;
        }
        if second.len <= first.len {
            self.write(self.at, first, out);
            self.next = Next::First;
            return Some(());
        }
        let (kept_at, kept) = self.kept;
        if kept_at < self.at && begin < self.at + kept.len {
            (self.at, self.first) = self.kept;
        }
        if begin - self.at < 3 {
            (self.at, self.first) = (begin, second);
        } else {
            self.second = (begin, second);
            self.next = Next::Third;
        }
        Some(())
    }

    /// Whether a still longer one begins near the end of the second.
    fn decide_third(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let begin_max = self.begin_max()?;
        let (mut begin, mut second) = self.second;
        if begin - self.at < LEN_CUT {
            (begin, second) = self.made_way(begin, second, self.first.len.min(LEN_CUT)).1;
        }
        let (mut third_begin, mut third) = (0, Match::default());
        if begin + second.len <= begin_max {
            third_begin = begin + second.len - 3;
            third = self.longest(third_begin, begin, second.len)?;
            third_begin -= third.back;
        }
        // From here on nothing more is asked for.
        self.second = (begin, second);
        let first_end = self.at + self.first.len;
        if third.len <= second.len {
            self.first.len = self.first.len.min(begin - self.at);
            self.write(self.at, self.first, out);
            self.write(begin, second, out);
            self.next = Next::First;
            return Some(());
        }
        if third_begin < first_end + 3 {
            if third_begin < first_end {
                self.second = (third_begin, third);
                return Some(());
            }
            // No room for the second: the third takes its place, and what is left of it is kept.
            if begin < first_end {
                let by = first_end - begin;
                (begin, second.len) = (begin + by, second.len.saturating_sub(by));
                if second.len < LEN_MIN {
                    (begin, second) = (third_begin, third);
                }
            }
            self.write(self.at, self.first, out);
            (self.at, self.first) = (third_begin, third);
            self.kept = (begin, second);
            self.next = Next::Second;
            return Some(());
        }
        if begin < first_end {
            if begin - self.at < LEN_CUT {
                let made = self.made_way(begin, second, self.first.len.min(LEN_CUT));
                (self.first.len, (begin, second)) = made;
            } else {
                self.first.len = begin - self.at;
            }
        }
        self.write(self.at, self.first, out);
        (self.at, self.first) = (begin, second);
        self.second = (third_begin, third);
        Some(())
    }

    /// The second copy, made to begin where the first has `len` bytes or fewer; also how many that
    /// are.
    fn made_way(&self, begin: u32, mut second: Match, len: u32) -> (u32, (u32, Match)) {
        let between = begin - self.at;
        let len = len.min((between + second.len).saturating_sub(LEN_MIN));
        let by = len.saturating_sub(between);
        second.len -= by;
        (len, (begin + by, second))
    }

    /// Writes what is new before `at`, and the copy there.
    fn write(&mut self, at: u32, copy: Match, out: &mut Vec<u8>) {
        let new = &self.held[(self.written - self.start) as usize..(at - self.start) as usize];
        let (mut len, end) = (copy.len, at + copy.len);
        let (place, less) = self.less;
        if less > 0 && place < end {
            self.is_lost |= place < at;
            len += less;
            self.less = (0, 0);
        }
        sequence::write(out, new, Some((len, copy.distance as u16)));
        self.written = end;
        self.at = self.written;
    }

    /// The longest copy of more than `len` bytes that holds the place `at` and begins at `low` or
    /// later; `None` when more bytes have to come before that is known.
    fn longest(&mut self, at: u32, low: u32, len: u32) -> Option<Match> {
        let end = self.start + self.held.len() as u32;
        let limit = self.len - LITERALS_LAST;
        if end < self.len && end < at.saturating_add(AHEAD) {
            return None;
        }
        self.insert(at);
        let bytes = Bytes {
            held: &self.held,
            start: self.start,
            limit: limit.min(end),
            is_cut: end < limit,
        };
        let wanted = bytes.word(at);
        let lowest = at.saturating_sub(DISTANCE_MAX) + WINDOW;
        let back_max = at - low;
        let mut best = Match {
            len,
            distance: 0,
            back: 0,
        };
        let mut known = self.heads[hash(wanted)];
        let mut run = None;
        for _ in 0..self.attempts {
            if known < lowest {
                break;
            }
            let place = known - WINDOW;
            let ends_alike =
                bytes.half(low + best.len - 1) == bytes.half(place + best.len - 1 - back_max);
            if ends_alike && bytes.word(place) == wanted {
                let back = bytes.common_before(at, place, back_max);
                let len = back + LEN_MIN + bytes.common(at + LEN_MIN, place + LEN_MIN)?;
                if len > best.len {
                    let distance = at - place;
                    best = Match {
                        len,
                        distance,
                        back,
                    };
                }
            }
            let link = u32::from(self.links[known as u16 as usize]);
            if self.leaps && link == 1 && known > lowest && wanted == wanted.rotate_left(8) {
                let before = known - 1 - WINDOW;
                if bytes.word(before) == wanted {
                    let run = match run {
                        Some(run) => run,
                        None => *run.insert(LEN_MIN + bytes.run(at + LEN_MIN, wanted as u8)?),
                    };
                    let forwards = LEN_MIN + bytes.run(before + LEN_MIN, wanted as u8)?;
                    let backwards = bytes.run_before(before, lowest - WINDOW, wanted as u8);
                    if backwards + forwards >= run && forwards <= run {
                        known = known - 1 + forwards - run;
                        continue;
                    }
                    known = known - 1 - backwards;
                    if back_max == 0 {
                        let len = run.min(backwards + forwards);
                        if best.len < len {
                            let distance = at - (known - WINDOW);
                            if distance > DISTANCE_MAX {
                                break;
                            }
                            best = Match {
                                len,
                                distance,
                                back: 0,
                            };
                        }
                        known -= u32::from(self.links[known as u16 as usize]);
                    }
                    continue;
                }
            }
            known -= link;
        }
        Some(best)
    }

    /// Notes all places before `at`.
    fn insert(&mut self, at: u32) {
        let from = (self.fresh - self.start) as usize;
        let words = self.held[from..].windows(4);
        for (place, word) in (self.fresh..at).zip(words) {
            let word = u32::from_le_bytes(word.try_into().expect("four bytes"));
            let known = place + WINDOW;
            let head = &mut self.heads[hash(word)];
            self.links[known as u16 as usize] = (known - *head).min(DISTANCE_MAX) as u16;
            *head = known;
        }
        self.fresh = self.fresh.max(at);
    }
}

fn hash(word: u32) -> usize {
    (word.wrapping_mul(2_654_435_761) >> (32 - HASH_BITS)) as usize
}
