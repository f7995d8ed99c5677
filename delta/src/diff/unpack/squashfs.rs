//! Blocks of a squashfs (format 4.0) whose compressor writes no magic: LZ4.
//!
//! The inode table tells the lengths of the files' blocks, the fragment table those of the shared
//! ones. All numbers are a stranger's: what leads outside of the image ends the search.

use alloc::vec::Vec;

use crate::container::lz4::Lz4;

/// The first bytes of the file system.
pub(super) const MAGIC: &[u8; 4] = b"hsqs";
const LZ4: u16 = 5;
/// Metadata stands in blocks of so many plain bytes.
const METADATA: usize = 8192;
/// Metadata that is not longer is read.
const TABLE_MAX: usize = 256 << 20;
const NO_FRAGMENT: u32 = u32::MAX;

/// A compressed block: its place, its length, and what it decodes to at most.
pub(super) type Block = (usize, usize, usize);

/// The LZ4 blocks of the file system that begins at `start`, in order.
pub(super) fn blocks(image: &[u8], start: usize) -> Option<Vec<Block>> {
    let image = image.get(start..)?;
    let field = |at: usize| number(image, at, 4).map(|n| n as usize);
    let block_len = field(12)?;
    let is_ours = number(image, 20, 2)? == u64::from(LZ4)
        && number(image, 28, 2)? == 4
        && (4096..=1 << 20).contains(&block_len);
    if !is_ours {
        return None;
    }
    let place = |at: usize| usize::try_from(number(image, at, 8)?).ok();
    let (inodes, directories, fragments) = (place(64)?, place(72)?, place(80)?);
    let mut reader = Reader {
        image,
        block_len,
        found: Vec::new(),
    };
    let table = reader.metadata(inodes, directories)?;
    reader.inodes(&table)?;
    reader.fragments(fragments, field(16)?)?;
    let mut found = reader.found;
    found.sort_unstable();
    found.dedup();
    let mut end = 0;
    found.retain(|(at, len, _)| {
        let is_apart = *at >= end && at + len <= image.len();
        end = end.max(at + len);
        is_apart
    });
    for block in &mut found {
        block.0 += start;
    }
    Some(found)
}

struct Reader<'a> {
    image: &'a [u8],
    block_len: usize,
    found: Vec<Block>,
}

impl Reader<'_> {
    /// The plain bytes of the metadata blocks in `at..end`.
    fn metadata(&mut self, mut at: usize, end: usize) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        while at < end && out.len() < TABLE_MAX {
            let (plain, next) = self.metadata_block(at)?;
            out.extend_from_slice(&plain);
            at = next;
        }
        Some(out)
    }

    /// One metadata block, and where the next begins.
    fn metadata_block(&mut self, at: usize) -> Option<(Vec<u8>, usize)> {
        let head = number(self.image, at, 2)? as usize;
        let (at, len) = (at + 2, head & 0x7fff);
        let bytes = self.image.get(at..at + len)?;
        if head & 0x8000 != 0 {
            return Some((bytes.to_vec(), at + len));
        }
        self.found.push((at, len, METADATA));
        let lz4 = Lz4 {
            level: 9,
            with_length: false,
            reach: 0,
            filled: false,
        };
        Some((lz4.decode(bytes, METADATA)?, at + len))
    }

    /// Walks the inodes and notes the blocks of files.
    fn inodes(&mut self, table: &[u8]) -> Option<()> {
        let mut at = 0;
        while at < table.len() {
            let field = |from: usize, len| number(table, at + from, len).map(|n| n as usize);
            at += match field(0, 2)? {
                1 => 32,
                2 => {
                    let blocks = (field(16, 4)?, field(28, 4)?, field(20, 4)?);
                    32 + self.file(table, at + 32, blocks)?
                }
                3 => 24 + field(20, 4)?,
                4 | 5 | 13 | 14 => 24,
                6 | 7 => 20,
                8 => {
                    let mut len = 40;
                    for _ in 0..field(32, 2)? {
                        len += 12 + field(len + 8, 4)? + 1;
                    }
                    len
                }
                9 => {
                    let blocks = (field(16, 8)?, field(24, 8)?, field(44, 4)?);
                    56 + self.file(table, at + 56, blocks)?
                }
                10 => 28 + field(20, 4)?,
                11 | 12 => 28,
                _ => return None,
            };
        }
        Some(())
    }

    /// Notes the blocks of a file, whose lengths stand at `list`; how many bytes these take.
    fn file(
        &mut self,
        table: &[u8],
        list: usize,
        (mut at, len, fragment): (usize, usize, usize),
    ) -> Option<usize> {
        let count = if fragment as u32 == NO_FRAGMENT {
            len.div_ceil(self.block_len)
        } else {
            len / self.block_len
        };
        for index in 0..count {
            at = self.block(at, number(table, list + 4 * index, 4)?)?;
        }
        count.checked_mul(4)
    }

    /// Notes a block by its word of length; where the next one begins.
    fn block(&mut self, at: usize, word: u64) -> Option<usize> {
        let len = (word & 0x00ff_ffff) as usize;
        if word >> 24 & 1 == 0 && len > 0 {
            self.found.push((at, len, self.block_len));
        }
        at.checked_add(len)
    }

    fn fragments(&mut self, table: usize, count: usize) -> Option<()> {
        const ENTRY: usize = 16;
        let mut left = count;
        let mut at = table;
        while left > 0 {
            let place = usize::try_from(number(self.image, at, 8)?).ok()?;
            let (entries, _) = self.metadata_block(place)?;
            for entry in entries.chunks_exact(ENTRY).take(left) {
                let place = usize::try_from(number(entry, 0, 8)?).ok()?;
                self.block(place, number(entry, 8, 4)?)?;
            }
            left = left.saturating_sub(METADATA / ENTRY);
            at += 8;
        }
        Some(())
    }
}

/// A little-endian number of `len` bytes.
fn number(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(len)?)?;
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    )
}
