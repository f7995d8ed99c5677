//! Frames: a length, a check, and that many bytes. A frame is read whole before it is decoded.

#[cfg(feature = "diff")]
use alloc::vec::Vec;

use super::check::{self, check};
use super::varint::{self, Reader};
use crate::error::Damage;

#[cfg(feature = "diff")]
/// Appends `payload` as the frame that begins at `offset` of the patch.
pub(crate) fn write(out: &mut Vec<u8>, offset: u64, payload: &[u8]) {
    varint::write(out, payload.len() as u64);
    out.extend_from_slice(&check(offset, payload));
    out.extend_from_slice(payload);
}

/// What the head of a frame says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) start: usize,
    pub(crate) len: usize,
    check: [u8; check::LEN],
}

impl Head {
    /// No head is longer.
    pub(crate) const LEN_MAX: usize = varint::LEN_MAX + check::LEN;

    /// Parses a head; `None` while bytes are missing.
    pub(crate) fn parse(bytes: &[u8], payload_max: u64) -> Result<Option<Self>, Damage> {
        let mut reader = Reader::new(bytes);
        let Some(len) = reader.number() else {
            return if bytes.len() < varint::LEN_MAX {
                Ok(None)
            } else {
                Err(Damage::FrameLength)
            };
        };
        if len > payload_max {
            return Err(Damage::FrameLength);
        }
        let len = usize::try_from(len).map_err(|_| Damage::FrameLength)?;
        let Some(check) = reader.array() else {
            return Ok(None);
        };
        Ok(Some(Self {
            start: reader.position(),
            len,
            check,
        }))
    }

    /// Whether `payload` is what was framed at `offset`.
    pub(crate) fn matches(&self, offset: u64, payload: &[u8]) -> bool {
        check(offset, payload) == self.check
    }
}
