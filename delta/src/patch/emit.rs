//! From the logical new image to the real one: what belongs to an extent is collected and encoded.

use alloc::vec::Vec;

use super::sink::Output;
use crate::error::{Damage, PatchError};
use crate::plan::extents::NewExtent;

/// Takes logical bytes in order and appends real ones.
pub(super) struct Emitter<'a, 'b> {
    extents: &'a [NewExtent],
    /// Place in the region.
    at: u32,
    raw: Vec<u8>,
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
            raw: Vec::new(),
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
                Some(open) if self.at > open.at => {
                    self.raw
                        .reserve_exact((open.raw_len as usize).saturating_sub(self.raw.len()));
                    self.raw.extend_from_slice(part);
                    if self.at == open.end() {
                        self.encode(open)?;
                    }
                }
                _ => self.output.append(part)?,
            }
        }
        Ok(())
    }

    fn encode(&mut self, extent: NewExtent) -> Result<(), PatchError> {
        let encoded = extent
            .codec
            .encode(&self.raw)
            .ok_or(PatchError::damaged(self.frame_at, Damage::Window))?;
        self.raw = Vec::new();
        self.extents = &self.extents[1..];
        self.output.append(&encoded)
    }

    /// Whether no extent is open: a window ends only there.
    pub(super) fn is_closed(&self) -> bool {
        self.raw.is_empty()
    }
}
