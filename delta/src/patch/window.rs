//! One window: the streams of a frame, added to what the map points at.

use alloc::vec;

use super::emit::Emitter;
use super::old::OldView;
use super::sink::Output;
use crate::codec::varint::Reader;
use crate::codec::zstd::Stream;
use crate::error::{Damage, PatchError};
use crate::header::Profile;
use crate::plan::{Map, Segment};

/// Work goes in pieces of this size, counted from a cover's start.
pub(crate) const PIECE: u32 = 16 << 10;

/// Where a window stands.
pub(super) struct Place<'a> {
    pub(super) frame_at: u64,
    pub(super) profile: Profile,
    pub(super) map: &'a Map,
    /// What of the region was done before it.
    pub(super) from: u32,
}

/// Decodes a window and appends its output; returns how much of the region it made.
pub(super) fn apply(
    payload: &[u8],
    place: &Place,
    old: &mut OldView,
    out: &mut Output,
) -> Result<u32, PatchError> {
    let damaged = || PatchError::damaged(place.frame_at, Damage::Window);
    let mut reader = Reader::new(payload);
    let len = (|| {
        let len = u32::try_from(reader.number()?).ok()?;
        (len > 0 && len <= place.map.len - place.from).then_some(len)
    })()
    .ok_or_else(damaged)?;
    let mut streams = (|| {
        let difference_len = usize::try_from(reader.number()?).ok()?;
        let difference = reader.slice(difference_len)?;
        let literal = &payload[reader.position()..];
        match place.profile {
            Profile::Fast | Profile::Small => {
                Some((Stream::new(difference)?, Stream::new(literal)?))
            }
        }
    })()
    .ok_or_else(damaged)?;

    let mut out = Emitter::new(&place.map.extents.new, place.from, out, place.frame_at);
    let mut buffer = vec![0; PIECE as usize];
    let mut addend = vec![0; PIECE as usize];
    for segment in place.map.segments(place.from, place.from + len) {
        match segment {
            Segment::Copy { cover, skip, len } => {
                let mut done = 0;
                while done < len {
                    let at = skip + done;
                    let size = (PIECE - at % PIECE).min(len - done);
                    let piece = &mut buffer[..size as usize];
                    old.read_at(cover.old + u64::from(at), piece)?;
                    if !cover.exact {
                        let addend = &mut addend[..size as usize];
                        streams.0.read(addend).ok_or_else(damaged)?;
                        for (byte, add) in piece.iter_mut().zip(addend) {
                            *byte = byte.wrapping_add(*add);
                        }
                    }
                    out.take(piece)?;
                    done += size;
                }
            }
            Segment::Literal { len } => {
                let mut left = len;
                while left > 0 {
                    let size = left.min(PIECE);
                    let piece = &mut buffer[..size as usize];
                    streams.1.read(piece).ok_or_else(damaged)?;
                    out.take(piece)?;
                    left -= size;
                }
            }
        }
    }
    if streams.0.at_end() && streams.1.at_end() && out.is_closed() {
        Ok(len)
    } else {
        Err(damaged())
    }
}
