//! Long equal stretches of two large images, found before either is held in memory.
//!
//! Of the new image every place is looked at by a rolling hash, of the old one a block here and
//! there: a stretch that is long enough holds one of them. What stands between the ends of such a
//! stretch is copied; no other step looks at it, so memory follows what changed, not the image.

use super::anchors::{self, Table};
use super::source::Watched;
use super::suffix::common_prefix;

/// A stretch that is the same in both images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Equal {
    pub(super) old: u64,
    pub(super) new: u64,
    pub(super) len: u64,
}

/// What counts as long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    /// Images shorter than this are held whole.
    pub(super) image_min: u64,
    /// Blocks of the old image that are looked up stand so far apart.
    pub(super) stride: u64,
    /// Shorter stretches are left to the other steps.
    pub(super) len_min: u64,
    /// So much at both ends of a stretch is left to them too: covers are stretched into it, and
    /// what is compressed is seen whole.
    pub(super) margin: u64,
    /// What is left out is a multiple of this: where a file system's blocks begin can be told without.
    pub(super) unit: u64,
}

impl Scale {
    /// As it is used.
    pub(super) const USUAL: Self = Self {
        image_min: 128 << 20,
        stride: 16 << 10,
        len_min: 96 << 10,
        margin: 16 << 10,
        unit: 64 << 10,
    };

    /// Nothing is left out of any image.
    pub(super) const NEVER: Self = Self {
        image_min: u64::MAX,
        ..Self::USUAL
    };
}

/// Length of the blocks that are looked up.
const BLOCK: usize = 4096;
/// The new image is gone through in pieces of this size.
const PIECE: usize = 1 << 20;

/// The insides of long equal stretches, in order of the new image, not overlapping there.
pub(super) fn find(old: &Watched, new: &Watched, scale: &Scale) -> Vec<Equal> {
    if old.length().min(new.length()) < scale.image_min || is_squashfs(old) || is_squashfs(new) {
        return Vec::new();
    }
    let table = blocks_of(old, scale.stride);
    let mut found: Vec<Equal> = Vec::new();
    let mut piece = Piece::default();
    let mut at = 0u64;
    while at + BLOCK as u64 <= new.length() {
        let bytes = piece.from(new, at);
        let hit = first_hit(bytes, &table, |within, number| {
            let place = at + within as u64;
            let block = &bytes[within..within + BLOCK];
            let along = found.last().map(|last| last.old + (place - last.new));
            let candidates = [along, Some(u64::from(number) * scale.stride)];
            let is_here = |candidate: &u64| stands_at(old, *candidate, block);
            candidates.into_iter().flatten().find(is_here)
        });
        let Some((within, place)) = hit else {
            at += (bytes.len() - BLOCK + 1) as u64;
            continue;
        };
        let floor = found.last().map_or(0, |last| last.new + last.len);
        let begin = at + within as u64;
        let backwards = same_before(old, new, (place, begin), begin - floor);
        let forwards = same_from(old, new, (place, begin));
        found.push(Equal {
            old: place - backwards,
            new: begin - backwards,
            len: backwards + forwards,
        });
        at = begin + forwards;
    }
    found.retain(|equal| equal.len >= scale.len_min.max(2 * scale.margin + 1));
    for equal in &mut found {
        equal.old += scale.margin;
        equal.new += scale.margin;
        equal.len -= 2 * scale.margin;
        equal.len -= equal.len % scale.unit;
    }
    found.retain(|equal| equal.len > 0);
    found
}

/// Whether an image is a squashfs: its blocks are found by its tables, which count from its start.
fn is_squashfs(image: &Watched) -> bool {
    let mut head = [0; 4];
    let len = image.length().min(4) as usize;
    image.fill(0, &mut head[..len]);
    head == *b"hsqs"
}

/// A piece of the new image.
#[derive(Default)]
struct Piece {
    at: u64,
    bytes: Vec<u8>,
}

impl Piece {
    /// What is held from `at` on, a block of it at least; the image must have that much there.
    fn from(&mut self, image: &Watched, at: u64) -> &[u8] {
        let end = self.at + self.bytes.len() as u64;
        if at < self.at || at + BLOCK as u64 > end {
            let len = usize::try_from(image.length() - at).map_or(PIECE, |left| left.min(PIECE));
            self.bytes.resize(len, 0);
            image.fill(at, &mut self.bytes);
            self.at = at;
        }
        &self.bytes[(at - self.at) as usize..]
    }
}

/// Blocks of the old image by their hash.
fn blocks_of(old: &Watched, stride: u64) -> Table {
    let count = old.length() / stride;
    let mut table = Table::new(usize::try_from(count).unwrap_or(usize::MAX));
    let mut block = vec![0; BLOCK];
    for number in 0..u32::try_from(count).unwrap_or(u32::MAX) {
        let at = u64::from(number) * stride;
        if at + BLOCK as u64 <= old.length() {
            old.fill(at, &mut block);
            table.insert(anchors::hash_of(&block), number);
        }
    }
    table
}

/// The first place of a piece whose block is known and `confirm`ed.
fn first_hit(
    piece: &[u8],
    table: &Table,
    confirm: impl Fn(usize, u32) -> Option<u64>,
) -> Option<(usize, u64)> {
    let mut hash = anchors::hash_of(piece.get(..BLOCK)?);
    let leaving = anchors::leaving(BLOCK);
    let last = piece.len() - BLOCK;
    for at in 0..=last {
        if let Some(place) = table.candidate(hash).and_then(|number| confirm(at, number)) {
            return Some((at, place));
        }
        if at < last {
            hash = anchors::rolled(hash, leaving, piece[at], piece[at + BLOCK]);
        }
    }
    None
}

fn stands_at(old: &Watched, at: u64, block: &[u8]) -> bool {
    if at
        .checked_add(BLOCK as u64)
        .is_none_or(|end| end > old.length())
    {
        return false;
    }
    let mut there = [0; BLOCK];
    old.fill(at, &mut there);
    there == *block
}

/// Pieces in which stretches are compared.
const COMPARED: usize = 64 << 10;

/// How many bytes are the same from two places on.
fn same_from(old: &Watched, new: &Watched, (old_at, new_at): (u64, u64)) -> u64 {
    let most = (old.length() - old_at).min(new.length() - new_at);
    let (mut a, mut b) = (vec![0; COMPARED], vec![0; COMPARED]);
    let mut same = 0;
    while same < most {
        let len = usize::try_from(most - same).map_or(COMPARED, |left| left.min(COMPARED));
        old.fill(old_at + same, &mut a[..len]);
        new.fill(new_at + same, &mut b[..len]);
        let equal = common_prefix(&a[..len], &b[..len]);
        same += equal as u64;
        if equal < len {
            break;
        }
    }
    same
}

/// How many bytes are the same before two places, `most` at most.
fn same_before(old: &Watched, new: &Watched, (old_at, new_at): (u64, u64), most: u64) -> u64 {
    let most = most.min(old_at).min(new_at);
    let (mut a, mut b) = (vec![0; COMPARED], vec![0; COMPARED]);
    let mut same = 0;
    while same < most {
        let len = usize::try_from(most - same).map_or(COMPARED, |left| left.min(COMPARED));
        old.fill(old_at - same - len as u64, &mut a[..len]);
        new.fill(new_at - same - len as u64, &mut b[..len]);
        let pairs = a[..len].iter().rev().zip(b[..len].iter().rev());
        let equal = pairs.take_while(|(a, b)| a == b).count();
        same += equal as u64;
        if equal < len {
            break;
        }
    }
    same
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Scale = Scale {
        image_min: 0,
        stride: 8 << 10,
        len_min: 32 << 10,
        margin: 1000,
        unit: 1,
    };

    fn noise(len: u64, seed: u64) -> Vec<u8> {
        (0..len)
            .map(|n| {
                let mixed = (n ^ seed << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                (mixed.rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 51) as u8
            })
            .collect()
    }

    #[test]
    fn the_inside_of_what_moved_is_found_and_nothing_short() {
        let old = noise(400_000, 1);
        let new = [
            b"head",
            &old[100_001..300_000],
            &noise(3000, 2),
            &old[5000..25_000],
            &old[340_000..],
        ]
        .concat();
        let (old, new) = (&old[..], &new[..]);
        let found = find(&Watched::new(&old), &Watched::new(&new), &SMALL);
        let inside = |old: u64, new: u64, len: u64| Equal {
            old: old + 1000,
            new: new + 1000,
            len: len - 2000,
        };
        assert_eq!(
            found,
            [
                inside(100_001, 4, 199_999),
                inside(340_000, 4 + 199_999 + 3000 + 20_000, 60_000)
            ]
        );
        for equal in found {
            let (at, to, len) = (equal.old as usize, equal.new as usize, equal.len as usize);
            assert_eq!(old[at..at + len], new[to..to + len]);
        }
    }

    /// Catches what is left out of the middle of a file system so that its blocks begin elsewhere.
    #[test]
    fn whole_units_are_left_out() {
        let old = noise(400_000, 1);
        let new = [&noise(4096, 2)[..], &old].concat();
        let (old, new) = (&old[..], &new[..]);
        let scale = Scale {
            unit: 4096,
            ..SMALL
        };
        let found = find(&Watched::new(&old), &Watched::new(&new), &scale);
        assert!(!found.is_empty());
        for equal in found {
            assert_eq!(equal.len % 4096, 0);
            let (at, to, len) = (equal.old as usize, equal.new as usize, equal.len as usize);
            assert_eq!(old[at..at + len], new[to..to + len]);
        }
    }

    /// Catches a block that is not compared: hashes of zeros are alike anywhere.
    #[test]
    fn zeros_of_any_length_end_where_they_end() {
        let old = [&noise(30_000, 1)[..], &vec![0; 100_000], &noise(30_000, 2)].concat();
        let new = [&noise(7, 3)[..], &vec![0; 150_000], &noise(30_000, 2)].concat();
        let (old, new) = (&old[..], &new[..]);
        for equal in find(&Watched::new(&old), &Watched::new(&new), &SMALL) {
            let (at, to, len) = (equal.old as usize, equal.new as usize, equal.len as usize);
            assert_eq!(old[at..at + len], new[to..to + len]);
        }
    }
}
