//! Where the compressed stretches of an image are: by their magic, wherever it stands.
//!
//! In tar, zip, ar, cpio, ext4 (where a file is not fragmented), squashfs or a kernel image the
//! streams stand whole, so nothing else has to be parsed. What has a magic of two bytes alone is
//! believed when it decodes to the end and its sum is right.

use alloc::vec::Vec;

use super::erofs::{self, Erofs};
use super::squashfs;
use crate::container::Codec;
use crate::container::deflate::Deflate;
use crate::container::lz4::{self, Lz4};
use crate::container::xz::{self, Xz};
use crate::container::zstd::{self, Zstd};
use crate::header::Caps;

/// A compressed stretch, its codec not yet proven.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream {
    pub(super) at: usize,
    pub(super) len: usize,
    pub(super) raw_len: usize,
    pub(super) codec: Codec,
    /// Where the frame begins that it is a part of: such a one is opened whole or not at all, so
    /// that its plain bytes stay together.
    pub(super) frame: usize,
}

/// No stream decodes to more: what would is somebody's joke, or not worth a device's time.
const RAW_MAX: usize = 1 << 30;
/// What is said to decode to more than this for each of its bytes is not believed (LZMA makes 7,000
/// zeros of one byte at most; zstd's are counted by blocks).
const RATIO_MAX: usize = 40_000;
/// Shorter streams are cheaper sent again than told of.
const LEN_MIN: usize = 32;

/// All streams that this build and the devices know, in order.
pub(super) fn streams(image: &[u8], caps: Caps) -> Vec<Stream> {
    let mut finder = Finder {
        image,
        caps,
        streams: Vec::new(),
        is_within: false,
    };
    let mut at = 0;
    while let Some(next) = image[at..].iter().position(|byte| is_first(*byte)) {
        at += next;
        at = finder.look(at).unwrap_or(at + 1);
    }
    let mut streams = finder.streams;
    streams.retain(|s| {
        let is_sane = s.raw_len <= RAW_MAX && s.raw_len / RATIO_MAX <= s.len;
        s.raw_len > 0 && s.len >= LEN_MIN && is_sane && u32::try_from(s.len).is_ok()
    });
    streams
}

/// Whether some magic begins with it.
fn is_first(byte: u8) -> bool {
    matches!(
        byte,
        0xfd | 0x02 | 0x04 | 0x1f | 0x28 | 0x50 | 0x68 | 0x78 | 0xe2
    )
}

struct Finder<'a> {
    image: &'a [u8],
    caps: Caps,
    streams: Vec<Stream>,
    /// Whether what is looked at belongs to a file system that was found: one within is not.
    is_within: bool,
}

impl Finder<'_> {
    /// Looks for a stream that begins at `at`; where to go on when there is one.
    fn look(&mut self, at: usize) -> Option<usize> {
        let rest = &self.image[at..];
        let head: [u8; 4] = *rest.first_chunk()?;
        let has = |cap| self.caps.contains(cap);
        match head {
            [0xfd, ..] if has(Caps::XZ) && rest.starts_with(xz::MAGIC) => self.xz(at),
            _ if has(Caps::LZ4) && head == *lz4::LEGACY_MAGIC => self.legacy_blocks(at),
            _ if has(Caps::LZ4) && head == *lz4::FRAME_MAGIC => self.lz4_frame(at),
            _ if has(Caps::ZSTD) && head == *zstd::MAGIC => self.zstd(at),
            _ if has(Caps::LZ4) && head == *squashfs::MAGIC => self.squashfs(at),
            _ if has(Caps::LZ4) && head == *erofs::MAGIC && !self.is_within => self.erofs(at),
            [0x1f, 0x8b, 8, flags] if has(Caps::ZLIB) => {
                let start = at + gzip_header_len(rest, flags)?;
                self.deflate(start, true)
            }
            [b'P', b'K', 3, 4] if has(Caps::ZLIB) => {
                let start = at + zip_header_len(rest)?;
                self.deflate(start, false)
            }
            [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..] if has(Caps::ZLIB) => {
                let found = Deflate::measure_zlib(rest, RAW_MAX)?;
                Some(self.push(at, found.len, found.raw_len, Codec::Deflate(found.deflate)))
            }
            _ => None,
        }
    }

    /// Notes a stream; where it ends.
    fn push(&mut self, at: usize, len: usize, raw_len: usize, codec: Codec) -> usize {
        self.streams.push(Stream {
            at,
            len,
            raw_len,
            codec,
            frame: at,
        });
        at + len
    }

    fn xz(&mut self, at: usize) -> Option<usize> {
        let blocks = Xz::measure(&self.image[at..])?;
        let mut end = None;
        for (place, found) in blocks {
            end = Some(self.push(at + place, found.len, found.raw_len, Codec::Xz(found.xz)));
            self.streams.last_mut()?.frame = at;
        }
        end
    }

    fn zstd(&mut self, at: usize) -> Option<usize> {
        let found = Zstd::measure(&self.image[at..], RAW_MAX)?;
        Some(self.push(at, found.len, found.raw_len, Codec::Zstd(found.zstd)))
    }

    fn deflate(&mut self, at: usize, with_sums: bool) -> Option<usize> {
        let found = Deflate::measure(self.image.get(at..)?, with_sums, RAW_MAX)?;
        Some(self.push(at, found.len, found.raw_len, Codec::Deflate(found.deflate)))
    }

    /// The blocks of an LZ4 legacy frame.
    fn legacy_blocks(&mut self, frame: usize) -> Option<usize> {
        let mut at = frame + lz4::LEGACY_MAGIC.len();
        let mut end = None;
        while let Some(raw_len) = self.lz4_block(at, lz4::LEGACY_BLOCK, frame) {
            at += self.streams.last()?.len;
            end = Some(at);
            if raw_len < lz4::LEGACY_BLOCK {
                break;
            }
        }
        end
    }

    /// The blocks of an LZ4 frame whose blocks do not refer to one another.
    fn lz4_frame(&mut self, frame: usize) -> Option<usize> {
        let [flags, size] = *self.image.get(frame + 4..)?.first_chunk()?;
        let (has_size, has_dictionary) = (flags >> 3 & 1, flags & 1);
        let is_known = flags >> 6 == 1 && flags >> 5 & 1 == 1 && has_dictionary == 0;
        let block = match (is_known, size >> 4 & 7) {
            (true, code @ 4..=7) => 1 << (8 + 2 * code),
            _ => return None,
        };
        let mut at = frame + 7 + 8 * usize::from(has_size);
        let mut end = None;
        while let Some(head) = self.image.get(at..at + 4) {
            let head = u32::from_le_bytes(head.try_into().expect("four bytes"));
            if head == 0 {
                break;
            }
            if head >> 31 == 1 {
                at += 4 + (head & 0x7fff_ffff) as usize;
            } else {
                self.lz4_block(at, block, frame)?;
                at += self.streams.last()?.len;
                end = Some(at);
            }
            at += 4 * usize::from(flags >> 4 & 1);
        }
        end
    }

    /// The blocks of a squashfs, where they have no magic of their own.
    fn squashfs(&mut self, at: usize) -> Option<usize> {
        let mut end = None;
        for (at, len, raw_max) in squashfs::blocks(self.image, at)? {
            let lz4 = Lz4 {
                level: 12,
                with_length: false,
                reach: 0,
                filled: false,
            };
            let raw = self
                .image
                .get(at..at + len)
                .and_then(|bytes| lz4.decode(bytes, raw_max));
            if let Some(raw) = raw {
                end = Some(self.push(at, len, raw.len(), Codec::Lz4(lz4)));
            }
        }
        end
    }

    /// The blocks of an erofs whose superblock stands at `at`, and what its other blocks hold.
    fn erofs(&mut self, at: usize) -> Option<usize> {
        let found = Erofs::at(self.image, at)?;
        let lz4 = Lz4 {
            level: 9,
            with_length: false,
            reach: 0,
            filled: true,
        };
        self.is_within = true;
        let mut next = found.start + found.block_len;
        while next.checked_add(found.block_len)? <= found.end {
            if let Some((len, raw_len)) = found.compressed(self.image, next) {
                next = self.push(next, len, raw_len, Codec::Lz4(lz4));
                continue;
            }
            let end = next + found.block_len;
            while let Some(more) = self.image[next..end.max(next)]
                .iter()
                .position(|byte| is_first(*byte))
            {
                next += more;
                next = self.look(next).unwrap_or(next + 1);
            }
            let past = next.max(end) - found.start;
            next = found.start + past.next_multiple_of(found.block_len);
        }
        self.is_within = false;
        Some(next.max(at + 1))
    }

    /// A block after its length; what it decodes to.
    fn lz4_block(&mut self, at: usize, raw_max: usize, frame: usize) -> Option<usize> {
        let length = self.image.get(at..at + 4)?;
        let len = 4 + u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
        let encoded = self.image.get(at..at.checked_add(len)?)?;
        let lz4 = Lz4 {
            level: 9,
            with_length: true,
            // Until it is known what it takes.
            reach: 1,
            filled: false,
        };
        let raw_len = lz4.decode(encoded, raw_max)?.len();
        if len <= 8 {
            return None;
        }
        self.streams.push(Stream {
            at,
            len,
            raw_len,
            codec: Codec::Lz4(lz4),
            frame,
        });
        Some(raw_len)
    }
}

/// Length of a gzip header (RFC 1952).
fn gzip_header_len(bytes: &[u8], flags: u8) -> Option<usize> {
    /// Names and comments are not longer.
    const TEXT_MAX: usize = 4096;
    if flags & 0xe0 != 0 {
        return None;
    }
    let mut at = 10;
    if flags & 4 != 0 {
        at += 2 + usize::from(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    }
    for _ in 0..(flags >> 3 & 1) + (flags >> 4 & 1) {
        let text = bytes.get(at..)?.iter().take(TEXT_MAX);
        at += text.clone().position(|byte| *byte == 0)? + 1;
    }
    Some(at + 2 * usize::from(flags >> 1 & 1))
}

/// Length of the local header of a deflated member of a zip archive (APPNOTE 6.3, 4.3.7).
fn zip_header_len(bytes: &[u8]) -> Option<usize> {
    let header: &[u8; 30] = bytes.first_chunk()?;
    let field = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let (is_encrypted, method) = (field(6) & 1 == 1, field(8));
    (method == 8 && !is_encrypted).then(|| 30 + usize::from(field(26)) + usize::from(field(28)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a file system that is looked for within another: in a hostile image one stands in the
    /// other until the stack ends.
    #[test]
    fn file_systems_in_one_another_are_one() {
        let mut image = vec![0; 16 << 10];
        let mut superblock = |at: usize, bits: u8, blocks: u8| {
            image[at..at + 4].copy_from_slice(erofs::MAGIC);
            (image[at + 12], image[at + 36], image[at + 80]) = (bits, blocks, 1);
        };
        superblock(1024, 12, 4);
        // Its own superblock is not in the blocks that are looked through.
        superblock(4096 + 1024, 11, 2);
        // A block of the inner one, which is none of the outer one's.
        image[8192 - 9..][..9].copy_from_slice(&[0x40, 1, 2, 3, 4, 4, 0, 0x10, 9]);
        assert!(streams(&image, Caps::all()).is_empty());
        let inner = streams(&image[4096..], Caps::all());
        assert_eq!(inner.len(), 1, "it is one by itself");
    }
}
