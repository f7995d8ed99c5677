//! Where the patcher's output goes: counted, and with the unfinished block remembered.
//!
//! The caller checks and writes whole blocks, so a checkpoint must stand at a block's start. The
//! bytes between there and the end of a window are kept here and handed out again after a resume.

use alloc::vec::Vec;

use crate::error::{Damage, PatchError};
use crate::image::NewImage;

#[derive(Debug)]
pub(super) struct Sink {
    block_len: usize,
    written: u64,
    /// The new image is not longer than this.
    written_max: u64,
    /// The bytes since the last multiple of `block_len`.
    tail: Vec<u8>,
    replay: bool,
}

impl Sink {
    pub(super) fn new(block_len: u32) -> Self {
        Self {
            block_len: block_len.max(1) as usize,
            written: 0,
            written_max: 0,
            tail: Vec::new(),
            replay: false,
        }
    }

    /// A sink that has written `written` bytes, the last of which are `tail`.
    pub(super) fn resumed(block_len: u32, written: u64, tail: &[u8]) -> Option<Self> {
        let this = Self::new(block_len);
        (written % this.block_len as u64 == tail.len() as u64).then(|| Self {
            written,
            tail: tail.to_vec(),
            replay: !tail.is_empty(),
            ..this
        })
    }

    /// Tells how long the new image is.
    pub(super) fn expect(&mut self, new_len: u64) {
        self.written_max = new_len;
    }

    pub(super) fn written(&self) -> u64 {
        self.written
    }

    pub(super) fn tail(&self) -> &[u8] {
        &self.tail
    }

    /// After a resume: appends what the caller had not yet as a whole block.
    pub(super) fn replay_tail(&mut self, new: &mut dyn NewImage) -> Result<(), PatchError> {
        if core::mem::take(&mut self.replay) {
            new.append(&self.tail).map_err(PatchError::New)?;
        }
        Ok(())
    }

    /// The sink and the image together, for the window that begins at `frame_at` of the patch.
    pub(super) fn with<'a>(&'a mut self, new: &'a mut dyn NewImage, frame_at: u64) -> Output<'a> {
        Output {
            sink: self,
            new,
            frame_at,
        }
    }
}

/// The sink together with the image it writes to.
pub(super) struct Output<'a> {
    sink: &'a mut Sink,
    new: &'a mut dyn NewImage,
    frame_at: u64,
}

impl Output<'_> {
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), PatchError> {
        let sink = &mut *self.sink;
        if bytes.len() as u64 > sink.written_max - sink.written {
            return Err(PatchError::damaged(self.frame_at, Damage::Window));
        }
        self.new.append(bytes).map_err(PatchError::New)?;
        sink.written += bytes.len() as u64;
        let tail_len = (sink.written % sink.block_len as u64) as usize;
        if tail_len < bytes.len() {
            sink.tail.clear();
            sink.tail
                .extend_from_slice(&bytes[bytes.len() - tail_len..]);
        } else {
            sink.tail.extend_from_slice(bytes);
            let extra = sink.tail.len() - tail_len;
            sink.tail.drain(..extra);
        }
        Ok(())
    }
}
