//! Which copy zlib and its forebears would write next (L. P. Deutsch, RFC 1951, section 4; the
//! choices are those of J. Gailly's and M. Adler's code, by observation of what it writes).
//!
//! The matcher predicts a token, is told which one really follows, and goes on from there. Its
//! window slides where theirs does, because what has slid out is no longer found.

use alloc::vec;
use alloc::vec::Vec;

use super::Family;

const WINDOW: u32 = 32 << 10;
const LEN_MIN: u32 = 3;
const LEN_MAX: u32 = 258;
/// They refill when less than this is ahead.
const AHEAD_MIN: u32 = LEN_MAX + LEN_MIN + 1;
const DISTANCE_MAX: u32 = WINDOW - AHEAD_MIN;
/// A copy of three bytes is not worth a distance beyond.
const TOO_FAR: u32 = 4096;
/// What a prediction may look at beyond its place, unless the input ends.
pub(super) const LOOK_AHEAD: u32 = 2 * AHEAD_MIN;
/// What it may look back at.
pub(super) const LOOK_BACK: u32 = 2 * WINDOW;

/// A literal, or a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) len: u16,
    /// 0 for a literal.
    pub(super) distance: u16,
}

impl Token {
    pub(super) const LITERAL: Self = Self {
        len: 1,
        distance: 0,
    };
}

/// How hard a level searches.
#[derive(Debug, Clone, Copy)]
struct Effort {
    /// The chain is cut to a quarter when there is a match of this length already.
    good: u32,
    /// No better match is looked for at the next byte beyond this length; the quick levels do not
    /// remember what is inside of longer copies.
    lazy: u32,
    /// Longer is not looked for.
    nice: u32,
    chain: u32,
    /// Whether the next byte is tried too.
    is_lazy: bool,
}

impl Effort {
    fn of_level(level: u8) -> Self {
        let (good, lazy, nice, chain) = match level {
            0 | 1 => (4, 4, 8, 4),
            2 => (4, 5, 16, 8),
            3 => (4, 6, 32, 32),
            4 => (4, 4, 16, 16),
            5 => (8, 16, 32, 32),
            6 => (8, 16, 128, 128),
            7 => (8, 32, 128, 256),
            8 => (32, 128, 258, 1024),
            _ => (32, 258, 258, 4096),
        };
        Self {
            good,
            lazy,
            nice,
            chain,
            is_lazy: level > 3,
        }
    }
}

/// The bytes that are held, by their places in the whole input.
#[derive(Clone, Copy)]
pub(super) struct Held<'a> {
    pub(super) bytes: &'a [u8],
    /// Where `bytes` begins.
    pub(super) start: u32,
}

impl<'a> Held<'a> {
    fn from(self, at: u32) -> &'a [u8] {
        &self.bytes[(at - self.start) as usize..]
    }
}

pub(super) struct Matcher {
    effort: Effort,
    family: Family,
    hash_bits: u32,
    /// Length of the whole input.
    len: u32,
    /// By hash: one more than the last place that has it, 0 for none.
    heads: Vec<u32>,
    /// By place: the one before with its hash.
    chain: Vec<u32>,
    at: u32,
    /// All that is to be inserted before this place is.
    inserted: u32,
    /// Where their window begins, and up to where it is filled.
    base: u32,
    filled: u32,
    ended: bool,
    /// A match for this place that was found by looking ahead.
    carried: Option<Token>,
    /// A match for the next place, kept should a literal follow.
    ahead: Option<Token>,
}

impl Matcher {
    pub(super) fn new(family: Family, level: u8, hash_bits: u32, len: u32) -> Self {
        Self {
            effort: Effort::of_level(level),
            family,
            hash_bits,
            len,
            heads: vec![0; 1 << hash_bits],
            chain: vec![0; WINDOW as usize],
            at: 0,
            inserted: 0,
            base: 0,
            filled: len.min(2 * WINDOW),
            ended: false,
            carried: None,
            ahead: None,
        }
    }

    pub(super) fn at(&self) -> u32 {
        self.at
    }

    /// Where the window begins: a block from before cannot be stored.
    pub(super) fn window_start(&self) -> u32 {
        self.base
    }

    /// The token that would be written here. Something is left.
    pub(super) fn predict(&mut self, held: Held) -> Token {
        self.ahead = None;
        let found = match self.carried.take() {
            Some(found) => Some(found),
            None => self.search(held, self.at, LEN_MIN - 1),
        };
        let Some(found) = found else {
            return Token::LITERAL;
        };
        if !self.effort.is_lazy {
            return found;
        }
        self.carried = Some(found);
        self.ahead = self.search(held, self.at + 1, u32::from(found.len));
        match self.ahead {
            Some(_) => Token::LITERAL,
            None => found,
        }
    }

    /// Goes on behind `token`.
    pub(super) fn accept(&mut self, held: Held, token: Token) {
        let end = self.at + u32::from(token.len);
        self.carried = match token.distance {
            0 => self.ahead.take(),
            _ => None,
        };
        let forgets = !self.effort.is_lazy && u32::from(token.len) > self.effort.lazy;
        if forgets && token.distance > 0 {
            self.insert(held, self.at + 1);
            self.inserted = self.inserted.max(end);
        } else {
            self.insert(held, end);
        }
        self.at = end;
    }

    /// Remembers what stands before `end`.
    fn insert(&mut self, held: Held, end: u32) {
        let end = end.min(self.len.saturating_sub(LEN_MIN - 1));
        while self.inserted < end {
            let hash = self.hash(held.from(self.inserted));
            let head = &mut self.heads[hash];
            self.chain[(self.inserted % WINDOW) as usize] = *head;
            self.inserted += 1;
            *head = self.inserted;
        }
    }

    /// The hash of what begins at the start of `bytes`, three of which are there.
    fn hash(&self, bytes: &[u8]) -> usize {
        let [a, b, c] = [bytes[0], bytes[1], bytes[2]].map(u32::from);
        let shift = self.hash_bits.div_ceil(LEN_MIN);
        let hash = match self.family {
            Family::Zlib | Family::Gzip => a << (2 * shift) ^ b << shift ^ c,
            Family::Chromium => {
                let d = u32::from(bytes.get(3).copied().unwrap_or(0));
                let four = a | b << 8 | c << 16 | d << 24;
                four.wrapping_mul(66521).wrapping_add(66521) >> 16
            }
        };
        (hash & ((1 << self.hash_bits) - 1)) as usize
    }

    /// Fills their window before the byte at `at` is looked at.
    fn fill(&mut self, at: u32) {
        if self.ended || self.filled.saturating_sub(at) >= AHEAD_MIN {
            return;
        }
        if at - self.base >= WINDOW + DISTANCE_MAX {
            self.base += WINDOW;
        }
        let filled = self.len.min(self.base.saturating_add(2 * WINDOW));
        // The old program sees the end by reading nothing, and slides no more.
        self.ended = filled == self.filled && self.family == Family::Gzip;
        self.filled = filled;
    }

    /// The longest match at `at` that is longer than `than`.
    fn search(&mut self, held: Held, at: u32, than: u32) -> Option<Token> {
        self.fill(at);
        if self.len - at < LEN_MIN {
            return None;
        }
        self.insert(held, at + 1);
        let first = self.chain[(at % WINDOW) as usize];
        let is_beyond = self.family == Family::Gzip && at - self.base > 2 * WINDOW - AHEAD_MIN;
        let may = than < self.effort.lazy || !self.effort.is_lazy;
        if !may || is_beyond || first <= self.base + 1 || at - (first - 1) > DISTANCE_MAX {
            return None;
        }
        let found = self.longest(held, at, first - 1, than)?;
        let is_poor = found.len == LEN_MIN as u16 && u32::from(found.distance) > TOO_FAR;
        (!is_poor || !self.effort.is_lazy).then_some(found)
    }

    fn longest(&self, held: Held, at: u32, mut place: u32, than: u32) -> Option<Token> {
        let scan = held.from(at);
        let ahead = (self.len - at).min(LEN_MAX);
        let scan = &scan[..ahead as usize];
        let nice = match self.family {
            Family::Zlib | Family::Chromium => self.effort.nice.min(ahead),
            Family::Gzip => self.effort.nice,
        };
        let mut tries = self.effort.chain;
        if than >= self.effort.good {
            tries >>= 2;
        }
        // A place at the very start of the window is not seen.
        let limit = self.base.max(at.saturating_sub(DISTANCE_MAX));
        let (mut best, mut found) = (than as usize, None);
        if best >= scan.len() {
            return None;
        }
        loop {
            let other = held.from(place);
            if other[best] == scan[best] && other[best - 1] == scan[best - 1] {
                let len = common(other, scan);
                if len > best {
                    best = len;
                    found = Some(Token {
                        len: len as u16,
                        distance: (at - place) as u16,
                    });
                    if len >= nice as usize || len == scan.len() {
                        return found;
                    }
                }
            }
            let next = self.chain[(place % WINDOW) as usize];
            tries -= 1;
            if next <= limit + 1 || tries == 0 {
                return found;
            }
            place = next - 1;
        }
    }
}

/// How many bytes at the start of both are the same, at most as many as `scan` has.
fn common(other: &[u8], scan: &[u8]) -> usize {
    let (mut at, end) = (0, scan.len());
    while at + 8 <= end {
        let (a, b) = (&other[at..at + 8], &scan[at..at + 8]);
        if a != b {
            break;
        }
        at += 8;
    }
    while at < end && other[at] == scan[at] {
        at += 1;
    }
    at
}
