//! Compressed blocks of an erofs, which have no magic.
//!
//! LZ4 fills whole blocks of the file system, zeros before it (feature `LZ4_0PADDING`, by all tools
//! since 2019). Where such a block begins and ends follows from its bytes: bytes that are something
//! else hardly ever are a block of LZ4 up to the very end, since copies would lead to before their
//! beginning. So inodes and their indexes, of which there are five kinds, are not read. Numbers are
//! a stranger's: what leads outside of the image ends the search.

use crate::container::lz4::filled;

/// The superblock's first bytes, which stand [`SUPERBLOCK`] bytes behind the file system's.
pub(super) const MAGIC: &[u8; 4] = &[0xe2, 0xe1, 0xf5, 0xe0];
const SUPERBLOCK: usize = 1024;
/// Where the lists of what compressors were set to stand, in the superblock's own bytes.
const SETTINGS: usize = 128;
/// Features: zeros stand before what LZ4 made; compressors have settings.
const ZEROS_BEFORE: u32 = 1;
const HAS_SETTINGS: u32 = 2;
/// Blocks that are longer together are not opened.
const LEN_MAX: usize = 128 << 10;
/// What decodes to more than this is not, nor to more than so many times its length: a device holds
/// it whole, and what shrinks that much costs little.
const RAW_MAX: usize = 128 << 10;
const RATIO_MAX: usize = 4;

/// A file system whose blocks LZ4 may have made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Erofs {
    /// Where it begins and ends in the image.
    pub(super) start: usize,
    pub(super) end: usize,
    /// The length of a block.
    pub(super) block_len: usize,
    /// So many are filled together at most.
    together_max: usize,
}

impl Erofs {
    /// The one whose superblock stands at `at`.
    pub(super) fn at(image: &[u8], at: usize) -> Option<Self> {
        let start = at.checked_sub(SUPERBLOCK)?;
        let head: &[u8; SETTINGS + 16] = image.get(at..)?.first_chunk()?;
        let word =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let short = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let (bits, blocks, features) = (head[12], word(36), word(80));
        if !(9..=16).contains(&bits) || features & ZEROS_BEFORE == 0 {
            return None;
        }
        let block_len = 1 << bits;
        let together = if features & HAS_SETTINGS == 0 {
            1
        } else if short(84) & 1 == 1 {
            // Their length, the distance of copies, the blocks.
            usize::from(short(SETTINGS + 4)).max(1)
        } else {
            return None;
        };
        let end = start.checked_add((blocks as usize).checked_mul(block_len)?)?;
        Some(Self {
            start,
            end: end.min(image.len()),
            block_len,
            together_max: together.min(LEN_MAX / block_len),
        })
    }

    /// How long the compressed blocks at `at` are together, and what they decode to.
    pub(super) fn compressed(&self, image: &[u8], at: usize) -> Option<(usize, usize)> {
        // Fewer zeros than a block has stand before what was filled.
        let first = image.get(at..at.checked_add(self.block_len)?)?;
        first.iter().find(|byte| **byte != 0)?;
        let most = self.together_max.min((self.end - at) / self.block_len);
        // What fills several blocks might seem to end with an earlier one.
        (1..=most).rev().find_map(|count| {
            let len = count * self.block_len;
            let raw_max = RAW_MAX.max(RATIO_MAX * len);
            Some((len, filled::raw_len(&image[at..at + len], raw_max)?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image with a superblock of such fields.
    fn image(bits: u8, blocks: u32, features: u32, together: u16) -> Vec<u8> {
        let mut image = vec![0; 8192];
        let mut put = |at: usize, bytes: &[u8]| {
            image[SUPERBLOCK + at..SUPERBLOCK + at + bytes.len()].copy_from_slice(bytes);
        };
        put(0, MAGIC);
        put(12, &[bits]);
        put(36, &blocks.to_le_bytes());
        put(80, &features.to_le_bytes());
        put(84, &1u16.to_le_bytes());
        put(SETTINGS + 4, &together.to_le_bytes());
        image
    }

    /// Catches a number that leads outside of the image, and one that makes nothing of a block.
    #[test]
    fn a_strangers_numbers_are_bounded() {
        let at = |image: &[u8]| Erofs::at(image, SUPERBLOCK);
        let whole = image(12, u32::MAX, ZEROS_BEFORE, 0);
        let found = at(&whole).expect("a file system");
        assert_eq!((found.end, found.together_max), (8192, 1));
        assert_eq!(found.compressed(&whole, 4096), None);
        assert_eq!(found.compressed(&whole, 8192), None);
        let settings = ZEROS_BEFORE | HAS_SETTINGS;
        let together = |told| at(&image(12, 2, settings, told)).map(|found| found.together_max);
        assert_eq!((together(0), together(u16::MAX)), (Some(1), Some(32)));
        for (bits, features) in [(0, 1), (8, 1), (17, 1), (255, 1), (12, 0)] {
            assert_eq!(at(&image(bits, 2, features, 1)), None);
        }
        assert_eq!(Erofs::at(&whole, 0), None);
        assert_eq!(at(&whole[..1100]), None);
    }
}
