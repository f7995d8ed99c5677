//! The logical old image: the old image, followed by the decoded bytes of its extents.
//!
//! Decoded extents are kept while there is room, the least recently read going first. Plain bytes
//! come through some lines that are read whole: most covers go on where one before ended, and each
//! read of a file or a device is a call into the kernel.

use alloc::vec;
use alloc::vec::Vec;

use crate::error::{Damage, PatchError};
use crate::image::OldImage;
use crate::plan::extents::{OldExtent, decode_cost};

/// Decoded extents, the most recently read last.
#[derive(Debug, Default)]
pub(super) struct Cache {
    kept: Vec<(usize, Vec<u8>)>,
    lines: Lines,
}

impl Cache {
    /// One that reads no more than it is asked for: where the old image is being overwritten, old
    /// bytes are not to be kept, and where it is noted what is read, nothing else is to be read.
    pub(super) fn exact() -> Self {
        let mut this = Self::default();
        this.lines.off = true;
        this
    }

    /// Forgets decoded extents: they are numbered anew in each region.
    pub(super) fn clear(&mut self) {
        self.kept.clear();
    }

    /// Makes room so that what is kept and `cost` more stay within `cache_max`.
    fn make_room(&mut self, cost: u64, cache_max: u64) {
        let mut held: u64 = self.kept.iter().map(|(_, raw)| raw.len() as u64).sum();
        let mut gone = 0;
        while gone < self.kept.len() && held.saturating_add(cost) > cache_max {
            held -= self.kept[gone].1.len() as u64;
            gone += 1;
        }
        self.kept.drain(..gone);
    }
}

/// Lines of the old image, each at a multiple of its length: those read last.
#[derive(Debug, Default)]
struct Lines {
    bytes: Vec<u8>,
    /// Which line stands in which place: its number and one.
    held: Vec<u64>,
    off: bool,
}

/// Bytes of a line.
const LINE: usize = 16 << 10;
/// How many there are.
const LINES: usize = 16;
/// Memory of the lines.
pub(crate) const LINES_MEMORY: u64 = (LINES * (LINE + size_of::<u64>())) as u64;

impl Lines {
    /// Fills `buf` with the bytes of an image of `image_len` bytes that begin at `offset`.
    fn read_at(
        &mut self,
        image: &mut dyn OldImage,
        image_len: u64,
        mut offset: u64,
        mut buf: &mut [u8],
    ) -> Result<(), PatchError> {
        while !buf.is_empty() {
            let within = (offset % LINE as u64) as usize;
            let number = offset / LINE as u64;
            let line_len = usize::try_from(image_len - number * LINE as u64)
                .map_or(LINE, |left| left.min(LINE));
            if self.off || buf.len() >= LINE && within == 0 {
                // Whole lines go where they are wanted; what follows them comes from a line again.
                let whole = if self.off {
                    buf.len()
                } else {
                    buf.len() / LINE * LINE
                };
                let (now, later) = buf.split_at_mut(whole);
                image.read_at(offset, now).map_err(PatchError::Old)?;
                (offset, buf) = (offset + whole as u64, later);
                continue;
            }
            let len = (line_len - within).min(buf.len());
            let (now, later) = buf.split_at_mut(len);
            now.copy_from_slice(&self.line(image, number, line_len)?[within..within + len]);
            (offset, buf) = (offset + len as u64, later);
        }
        Ok(())
    }

    /// The line of this number, read where it is not held.
    fn line(
        &mut self,
        image: &mut dyn OldImage,
        number: u64,
        len: usize,
    ) -> Result<&[u8], PatchError> {
        if self.held.is_empty() {
            self.bytes = vec![0; LINES * LINE];
            self.held = vec![0; LINES];
        }
        let place = (number % LINES as u64) as usize;
        let line = &mut self.bytes[place * LINE..][..len];
        if self.held[place] != number + 1 {
            self.held[place] = 0;
            image
                .read_at(number * LINE as u64, line)
                .map_err(PatchError::Old)?;
            self.held[place] = number + 1;
        }
        Ok(line)
    }
}

/// The old image as covers see it.
pub(super) struct OldView<'a> {
    pub(super) image: &'a mut dyn OldImage,
    pub(super) image_len: u64,
    pub(super) extents: &'a [OldExtent],
    pub(super) cache: &'a mut Cache,
    pub(super) cache_max: u64,
    /// Where in the patch the window begins that asks, for errors.
    pub(super) asked_at: u64,
}

impl OldView<'_> {
    /// Fills `buf` from logical `offset` on. The map has bounded both.
    pub(super) fn read_at(
        &mut self,
        mut offset: u64,
        mut buf: &mut [u8],
    ) -> Result<(), PatchError> {
        while !buf.is_empty() {
            let len = if offset < self.image_len {
                let len = buf
                    .len()
                    .min(usize::try_from(self.image_len - offset).unwrap_or(usize::MAX));
                let lines = &mut self.cache.lines;
                lines.read_at(self.image, self.image_len, offset, &mut buf[..len])?;
                len
            } else {
                self.read_decoded(offset, buf)?
            };
            offset += len as u64;
            buf = &mut buf[len..];
        }
        Ok(())
    }

    /// Like [`read_at`](Self::read_at), but what is beyond the end reads as zeros.
    pub(super) fn hint_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), PatchError> {
        let end = self
            .extents
            .last()
            .map_or(self.image_len, |e| e.raw_at + u64::from(e.raw_len));
        let known = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let (known, beyond) = buf.split_at_mut(known.min(buf.len()));
        beyond.fill(0);
        self.read_at(offset, known)
    }

    fn read_decoded(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, PatchError> {
        let index = self
            .extents
            .partition_point(|extent| extent.raw_at <= offset)
            - 1;
        let from = (offset - self.extents[index].raw_at) as usize;
        let damaged = PatchError::damaged(self.asked_at, Damage::Map);
        let raw = self.decoded(index)?;
        let Some(raw) = raw.get(from..).filter(|raw| !raw.is_empty()) else {
            return Err(damaged);
        };
        let len = raw.len().min(buf.len());
        buf[..len].copy_from_slice(&raw[..len]);
        Ok(len)
    }

    fn decoded(&mut self, index: usize) -> Result<&[u8], PatchError> {
        let kept = &mut self.cache.kept;
        if let Some(at) = kept.iter().rposition(|(known, _)| *known == index) {
            let last = kept.len() - 1;
            kept[at..].rotate_left(1);
            return Ok(&self.cache.kept[last].1);
        }
        let extent = &self.extents[index];
        self.cache.make_room(
            decode_cost(extent.codec, extent.len, extent.raw_len),
            self.cache_max,
        );
        let mut encoded = vec![0; extent.len as usize];
        self.image
            .read_at(extent.at, &mut encoded)
            .map_err(PatchError::Old)?;
        let raw = extent
            .codec
            .decode(&encoded, extent.raw_len as usize)
            .ok_or(PatchError::damaged(self.asked_at, Damage::Map))?;
        self.cache.kept.push((index, raw));
        Ok(&self.cache.kept[self.cache.kept.len() - 1].1)
    }
}
