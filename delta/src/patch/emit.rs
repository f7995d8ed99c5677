//! From the logical new image to the real one: what belongs to an extent is encoded as it comes.

use alloc::vec::Vec;

use super::sink::Output;
use crate::container::Encoder;
use crate::error::{Damage, PatchError};
use crate::plan::extents::NewExtent;

/// Room for what an encoder gives that is kept.
const ENCODED_KEPT: usize = 128 << 10;

/// Takes logical bytes in order and appends real ones.
pub(super) struct Emitter<'a, 'b> {
    extents: &'a [NewExtent],
    /// Place in the region.
    at: u32,
    open: Option<Encoder>,
    /// What the encoder gave and nobody took yet.
    encoded: Vec<u8>,
    output: &'a mut Output<'b>,
    /// Where in the patch the window begins, for errors.
    frame_at: u64,
}

impl<'a, 'b> Emitter<'a, 'b> {
    /// An emitter that goes on at `from`, which is not inside of an extent.
    pub(super) fn new(
        extents: &'a [NewExtent],
        from: u32,
        output: &'a mut Output<'b>,
        frame_at: u64,
    ) -> Self {
        let extents = &extents[extents.partition_point(|extent| extent.end() <= from)..];
        Self {
            extents,
            at: from,
            open: None,
            encoded: Vec::new(),
            output,
            frame_at,
        }
    }

    /// Takes the next logical bytes.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<(), PatchError> {
        while !bytes.is_empty() {
            let len = match self.extents.first() {
                None => bytes.len(),
                Some(next) if self.at < next.at => bytes.len().min((next.at - self.at) as usize),
                Some(open) => bytes.len().min((open.end() - self.at) as usize),
            };
            let (part, rest) = bytes.split_at(len);
            self.at += len as u32;
            bytes = rest;
            match self.extents.first().copied() {
                Some(open) if self.at > open.at => self.encode(open, part)?,
                _ => self.output.append(part)?,
            }
        }
        Ok(())
    }

    /// Takes bytes of the open extent; `self.at` is behind them.
    fn encode(&mut self, extent: NewExtent, part: &[u8]) -> Result<(), PatchError> {
        let damaged = PatchError::damaged(self.frame_at, Damage::Window);
        let is_whole = self.at == extent.end();
        if self.encode_part(extent, part, is_whole).is_none() {
            return Err(damaged);
        }
        if is_whole {
            self.extents = &self.extents[1..];
        }
        self.output.append(&self.encoded)?;
        self.encoded.clear();
        self.encoded.shrink_to(ENCODED_KEPT);
        Ok(())
    }

    fn encode_part(&mut self, extent: NewExtent, part: &[u8], is_whole: bool) -> Option<()> {
        let mut encoder = match self.open.take() {
            Some(encoder) => encoder,
            None => Encoder::new(extent.codec, extent.raw_len, extent.len)?,
        };
        encoder.push(part, &mut self.encoded)?;
        if is_whole {
            return encoder.finish(&mut self.encoded);
        }
        self.open = Some(encoder);
        Some(())
    }

    /// Whether no extent is open: a window ends only there.
    pub(super) fn is_closed(&self) -> bool {
        self.open.is_none()
    }
}
