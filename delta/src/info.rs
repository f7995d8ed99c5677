//! Where the bytes of a patch went.

#[cfg(feature = "diff")]
mod names;
#[cfg(feature = "diff")]
mod spent;

use alloc::vec::Vec;

use crate::codec::frame;
use crate::codec::range::Decoder;
use crate::codec::varint::Reader;
use crate::error::{Damage, PatchError};
use crate::header::{Accept, Header};
use crate::plan::{Bounds, Map, window_len};
#[cfg(feature = "diff")]
pub use spent::{Spent, spent};

/// What [`info`] found out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// The header.
    pub header: Header,
    /// Bytes of the patch in all.
    pub patch_len: u64,
    /// Bytes of the header.
    pub header_len: u64,
    /// Bytes of the maps: where the new image's bytes come from.
    pub maps_len: u64,
    /// Bytes of the windows: what is added to them, and what is wholly new.
    pub windows_len: u64,
    /// Bytes that name differences to the old image.
    pub differences_len: u64,
    /// Bytes that are wholly new.
    pub literals_len: u64,
    /// Regions in the patch.
    pub regions: u64,
    /// Windows in the patch.
    pub windows: u64,
    /// Stretches copied from the old image.
    pub covers: u64,
    /// Bytes of the new image that are copied as they are.
    pub copied_exactly: u64,
    /// Bytes of the new image that are copied with differences.
    pub copied_with_differences: u64,
    /// Bytes of the new image that are not in the old one.
    pub new_bytes: u64,
}

/// Explaining a patch holds one map at a time, within what its header declares; a header that
/// declares more than this is not believed. A map of a few bytes can name millions of covers.
pub(crate) const MEMORY_MAX: u64 = 1 << 30;

/// Reads a whole patch without the old image and tells where its bytes went.
///
/// # Errors
/// [`PatchError::Damaged`] where the patch is not what the format says; [`PatchError::Memory`]
/// where it asks for more than a gibibyte.
pub fn info(patch: &[u8]) -> Result<Info, PatchError> {
    let parsed = Header::parse(patch).map_err(|what| PatchError::damaged(0, what))?;
    let truncated = || PatchError::damaged(patch.len() as u64, Damage::Truncated);
    let (header, header_len) = parsed.ok_or_else(truncated)?;
    header.accepted_by(&Accept {
        memory_max: MEMORY_MAX,
        caps: header.caps_needed,
        ..Accept::default()
    })?;
    let mut info = Info {
        patch_len: patch.len() as u64,
        header_len: header_len as u64,
        maps_len: 0,
        windows_len: 0,
        differences_len: 0,
        literals_len: 0,
        regions: 0,
        windows: 0,
        covers: 0,
        copied_exactly: 0,
        copied_with_differences: 0,
        new_bytes: 0,
        header,
    };
    let mut frames = Frames {
        patch,
        at: header_len,
        max: info.header.limits.frame_max,
    };
    let mut whole = info.header.new_len == 0;
    while !whole {
        let (at, len, payload) = frames.next()?;
        let damaged = |what| PatchError::damaged(at as u64, what);
        let bounds = Bounds {
            old_len: info.header.old_len,
            new_len: info.header.new_len,
            limits: info.header.limits,
        };
        let map = Map::read(&mut Decoder::new(payload), &bounds).ok_or(damaged(Damage::Map))?;
        info.regions += 1;
        info.maps_len += len;
        info.count_covers(&map);
        let mut done = 0;
        while done < map.len {
            let (at, len, payload) = frames.next()?;
            let damaged = || PatchError::damaged(at as u64, Damage::Window);
            let mut reader = Reader::new(payload);
            let told = reader.number();
            done += told
                .and_then(|told| window_len(told, map.len - done))
                .ok_or_else(damaged)?;
            let differences = reader.number().ok_or_else(damaged)?;
            let streams = (payload.len() - reader.position()) as u64;
            info.windows += 1;
            info.windows_len += len;
            info.differences_len += differences;
            info.literals_len += streams.checked_sub(differences).ok_or_else(damaged)?;
        }
        whole = map.last;
    }
    if frames.at != patch.len() {
        return Err(PatchError::damaged(frames.at as u64, Damage::Trailing));
    }
    Ok(info)
}

impl Info {
    fn count_covers(&mut self, map: &Map) {
        let mut copied = 0;
        self.covers += map.covers.len() as u64;
        for cover in map.covers.iter() {
            let len = u64::from(cover.len);
            copied += len;
            if cover.is_exact() {
                self.copied_exactly += len;
            } else {
                self.copied_with_differences += len;
            }
        }
        self.new_bytes += u64::from(map.len) - copied;
    }
}

struct Frames<'a> {
    patch: &'a [u8],
    at: usize,
    max: u64,
}

impl<'a> Frames<'a> {
    /// The next frame: where it begins, its length in all, its payload.
    fn next(&mut self) -> Result<(usize, u64, &'a [u8]), PatchError> {
        let at = self.at;
        let damaged = |what| PatchError::damaged(at as u64, what);
        let rest = &self.patch[at..];
        let head = frame::Head::parse(&rest[..rest.len().min(frame::Head::LEN_MAX)], self.max)
            .map_err(damaged)?
            .ok_or_else(|| damaged(Damage::Truncated))?;
        // A length that was only claimed may be close to the largest there is.
        let whole = head.start.checked_add(head.len);
        let (end, payload) = whole
            .and_then(|end| Some((end, rest.get(head.start..end)?)))
            .ok_or_else(|| damaged(Damage::Truncated))?;
        if !head.matches(at as u64, payload) {
            return Err(damaged(Damage::Check));
        }
        self.at += end;
        Ok((at, end as u64, payload))
    }
}

/// Parts of a patch and their bytes, in order: for tables and for `--json`.
impl Info {
    /// The parts of the patch with their names.
    pub fn parts(&self) -> Vec<(&'static str, u64)> {
        let frames = self.windows_len - self.differences_len - self.literals_len;
        Vec::from([
            ("header", self.header_len),
            ("maps", self.maps_len),
            ("differences", self.differences_len),
            ("literals", self.literals_len),
            ("frames", frames),
        ])
    }
}
