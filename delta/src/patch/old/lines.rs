//! Plain bytes of the old image, read in lines: most covers go on where one before ended, and each
//! read of a file or a device is a call into the kernel.

use alloc::vec;
use alloc::vec::Vec;

use crate::error::PatchError;
use crate::image::OldImage;

/// Lines of the old image, each at a multiple of its length: those read last.
#[derive(Debug, Default)]
pub(super) struct Lines {
    bytes: Vec<u8>,
    /// Which line stands in which place: its number and one.
    held: Vec<u64>,
    /// Nothing is read but what is asked for.
    pub(super) off: bool,
}

/// Bytes of a line: a page. The patch of docs/BENCHMARKS.md for x86-64 leaps: with lines of 16 KiB in the
/// same memory it reads 333 MB, with these 114.
const LINE: usize = 4 << 10;
/// How many there are.
const LINES: usize = 64;
/// Memory of the lines.
pub(crate) const LINES_MEMORY: u64 = (LINES * (LINE + size_of::<u64>())) as u64;

impl Lines {
    /// Fills `buf` with the bytes of an image of `image_len` bytes that begin at `offset`.
    pub(super) fn read_at(
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
