//! Looking up the longest match in a sorted image.

use alloc::borrow::Cow;
use alloc::string::ToString as _;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use libsais::SuffixArrayConstruction;

use super::DiffError;
use super::threads::both;

/// All suffixes of parts of an image in order, with a table by their first two bytes.
pub(super) struct Index<'a> {
    text: Cow<'a, [u8]>,
    /// Where the parts stand: in the text, in the image.
    parts: Vec<(usize, Range<usize>)>,
    suffixes: Vec<i32>,
    buckets: Vec<u32>,
    seen: Seen,
}

/// A stretch of the text that equals the beginning of what was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Match {
    pub(super) at: usize,
    pub(super) len: usize,
}

impl<'a> Index<'a> {
    /// Sorts the `parts` of `image`, which are in order and do not overlap.
    pub(super) fn new(
        image: &'a [u8],
        parts: &[Range<usize>],
        threads: usize,
    ) -> Result<Self, DiffError> {
        let whole = matches!(parts, [part] if *part == (0..image.len()));
        let text: Cow<'a, [u8]> = if whole {
            Cow::Borrowed(image)
        } else {
            Cow::Owned(
                parts
                    .iter()
                    .flat_map(|part| &image[part.clone()])
                    .copied()
                    .collect(),
            )
        };
        let starts = parts.iter().scan(0, |next, part| {
            let start = *next;
            *next += part.len();
            Some(start)
        });
        let parts = starts.zip(parts.iter().cloned()).collect();
        let (suffixes, (buckets, seen)) = both(
            threads,
            || sorted(&text),
            || (buckets(&text), Seen::new(&text)),
        );
        let suffixes = suffixes?;
        Ok(Self {
            text,
            parts,
            suffixes,
            buckets,
            seen,
        })
    }

    /// Whether there may be a match of [`LONG`] bytes or more; asking is much cheaper than looking.
    #[inline]
    pub(super) fn may_be_long(&self, wanted: &[u8]) -> bool {
        self.seen.holds(wanted)
    }

    /// The longest stretch of the parts that `wanted` begins with.
    pub(super) fn longest(&self, wanted: &[u8]) -> Match {
        if wanted.len() < 2 {
            return Match::default();
        }
        let bucket = key(wanted);
        let (mut low, mut high) = (
            self.buckets[bucket] as usize,
            self.buckets[bucket + 1] as usize,
        );
        if low >= high {
            return Match::default();
        }
        high -= 1;
        let mut low_len = self.common(low, wanted, 0);
        let mut high_len = self.common(high, wanted, 0);
        while high - low > 1 {
            // What both neighbours share with `wanted`, all suffixes between them share too.
            let known = low_len.min(high_len);
            let quarter = ((high - low) / 4).max(1);
            let between = [1, 2, 3].map(|quarters| (low + quarters * quarter).min(high - 1));
            // Each read waits for memory: together they wait once.
            let read =
                between.map(|suffix| eight(&self.text, self.suffixes[suffix] as usize + known));
            let own = eight(wanted, known);
            for (suffix, read) in between.into_iter().zip(read) {
                let (len, below) = match (read, own) {
                    (Some(read), Some(own)) if read != own => (
                        known + ((read ^ own).leading_zeros() / 8) as usize,
                        read < own,
                    ),
                    _ => self.compare(suffix, wanted, known),
                };
                if below {
                    (low, low_len) = (suffix, len);
                } else {
                    (high, high_len) = (suffix, len);
                    break;
                }
            }
        }
        let (best, len) = if low_len >= high_len {
            (low, low_len)
        } else {
            (high, high_len)
        };
        self.in_image(self.suffixes[best] as usize, len)
    }

    /// Of the stretches that equal a match that was found, one near `place`: telling of it costs
    /// less.
    pub(super) fn nearest(&self, found: Match, wanted: &[u8], place: usize) -> Match {
        let bucket = key(wanted);
        let (low, high) = (
            self.buckets[bucket] as usize,
            self.buckets[bucket + 1] as usize,
        );
        let suffixes = &self.suffixes[low..high];
        let below = suffixes.partition_point(|at| self.text[*at as usize..] < *wanted);
        let (before, after) = suffixes.split_at(below);
        let mut best = found;
        let mut look = |suffix: &i32| {
            let at = self.in_image(*suffix as usize, found.len);
            let is_nearer = at.at.abs_diff(place) < best.at.abs_diff(place);
            if is_nearer {
                let same = self.text[*suffix as usize..].starts_with(&wanted[..found.len]);
                if !same || at.len < found.len {
                    return same;
                }
                best = at;
            }
            true
        };
        let _ = before.iter().rev().take(NEIGHBOURS).all(&mut look);
        let _ = after.iter().take(NEIGHBOURS).all(&mut look);
        best
    }

    /// A match in the text as one in the image: it ends where its part does.
    fn in_image(&self, at: usize, len: usize) -> Match {
        let part = self.parts.partition_point(|(start, _)| *start <= at) - 1;
        let (start, range) = &self.parts[part];
        let at = range.start + (at - start);
        Match {
            at,
            len: len.min(range.end - at),
        }
    }

    /// How much of `wanted` a suffix begins with, and whether it stands before it.
    fn compare(&self, suffix: usize, wanted: &[u8], known: usize) -> (usize, bool) {
        let len = self.common(suffix, wanted, known);
        let next = self.text.get(self.suffixes[suffix] as usize + len);
        let below = len < wanted.len() && next.is_none_or(|byte| *byte < wanted[len]);
        (len, below)
    }

    fn common(&self, suffix: usize, wanted: &[u8], known: usize) -> usize {
        let at = self.suffixes[suffix] as usize;
        let known = known.min(self.text.len() - at);
        known + common_prefix(&self.text[at + known..], &wanted[known..])
    }
}

/// All suffixes of a text, in order.
fn sorted(text: &[u8]) -> Result<Vec<i32>, DiffError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let array = SuffixArrayConstruction::for_text(text)
        .in_owned_buffer32()
        .single_threaded()
        .run()
        .map_err(|error| DiffError::Index(error.to_string()))?;
    Ok(array.into_vec())
}

/// Where the suffixes with each key begin, and behind them where the last ends.
fn buckets(text: &[u8]) -> Vec<u32> {
    let mut buckets = vec![0u32; (1 << 16) + 1];
    for at in 0..text.len() {
        buckets[key(&text[at..]) + 1] += 1;
    }
    for bucket in 1..buckets.len() {
        buckets[bucket] += buckets[bucket - 1];
    }
    buckets
}

/// So many suffixes before and after a match are looked at for a nearer one.
const NEIGHBOURS: usize = 64;

/// The length of a match that [`Index::may_be_long`] tells of.
pub(super) const LONG: usize = 8;

/// Which stretches of [`LONG`] bytes a text holds: a bit by their hash, so it may say yes wrongly,
/// and never no.
struct Seen {
    bits: Vec<u64>,
    shift: u32,
}

impl Seen {
    /// Bits for each byte of the text, and how many there are at most: 32 MiB.
    const BITS_PER_BYTE: usize = 4;
    const BITS_MAX: usize = 1 << 28;

    fn new(text: &[u8]) -> Self {
        let wanted = (text.len() * Self::BITS_PER_BYTE).clamp(64, Self::BITS_MAX);
        let log = wanted.next_power_of_two().trailing_zeros();
        let mut this = Self {
            bits: vec![0; (1 << log) / 64],
            shift: 64 - log,
        };
        for stretch in text.windows(LONG) {
            let place = this.place(stretch);
            this.bits[place / 64] |= 1 << (place % 64);
        }
        this
    }

    #[inline]
    fn place(&self, stretch: &[u8]) -> usize {
        let stretch = u64::from_le_bytes(stretch.try_into().expect("a stretch of that length"));
        (stretch.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }

    #[inline]
    fn holds(&self, wanted: &[u8]) -> bool {
        wanted.get(..LONG).is_some_and(|stretch| {
            let place = self.place(stretch);
            self.bits[place / 64] >> (place % 64) & 1 == 1
        })
    }
}

fn key(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 8 | usize::from(bytes.get(1).copied().unwrap_or(0))
}

/// The eight bytes that begin at `at`, in the order of suffixes.
#[inline]
fn eight(bytes: &[u8], at: usize) -> Option<u64> {
    let eight = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_be_bytes(*eight))
}

/// How many bytes two slices have in common at their start.
pub(super) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let len = a.len().min(b.len());
    let (a, b) = (&a[..len], &b[..len]);
    let mut same = 0;
    for (x, y) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        let x = u64::from_le_bytes(x.try_into().expect("a chunk of eight"));
        let y = u64::from_le_bytes(y.try_into().expect("a chunk of eight"));
        if x != y {
            return same + ((x ^ y).trailing_zeros() / 8) as usize;
        }
        same += 8;
    }
    same + a[same..]
        .iter()
        .zip(&b[same..])
        .take_while(|(x, y)| x == y)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Short stretches of few letters, zeros among them. Catches a suffix that is passed over between two
    /// others, zeros that are read behind the end of the text, and eight bytes that are equal and no more.
    #[test]
    fn no_stretch_is_longer_than_the_longest() {
        let mut seed = 7u64;
        let mut letters = |len: usize| -> Vec<u8> {
            let next = |_| {
                seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                [0, 0, 0, 1][(seed >> 62) as usize]
            };
            (0..len).map(next).collect()
        };
        for len in [1, 2, 3, 8, 9, 60, 500] {
            let (text, other) = (letters(len), letters(200));
            let wanted = [&text[len / 2..], &other, &text[..len.div_ceil(2)]].concat();
            let whole = 0..text.len();
            let index = Index::new(&text, core::slice::from_ref(&whole), 2).expect("a short text");
            for from in 0..wanted.len() - 1 {
                let wanted = &wanted[from..];
                let lens = (0..text.len()).map(|at| common_prefix(&text[at..], wanted));
                let most = lens.max().unwrap_or(0);
                let found = index.longest(wanted);
                // What does not begin alike in two bytes is not looked up.
                assert_eq!(found.len, if most < 2 { found.len.min(1) } else { most });
                assert!(text[found.at..].starts_with(&wanted[..found.len]));
            }
        }
    }
}
