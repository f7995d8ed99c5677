//! Writing the patch: covers become regions, regions become windows.

use alloc::vec::Vec;

use sha2::{Digest, Sha256};
use twox_hash::XxHash3_64;

use super::scan::Found;
use super::{DiffError, DiffOptions};
use crate::codec::range::Encoder;
use crate::codec::{frame, varint, zstd};
use crate::header::{Caps, Header, Limits, Profile};
use crate::plan::{Cover, Map, REGION_LEN_MAX, Segment};

/// A window holds at most this much output.
const WINDOW_OUTPUT: u32 = 8 << 20;
/// A window closes when its differing and new bytes pass this: its frame stays well below 1 MiB.
const WINDOW_BUSY: u32 = 512 << 10;
/// Longest frame of a window: what is busy, uncompressed, and zstd's own bound on top.
const FRAME_MAX: u64 = 2 << 20;

/// Writes the whole patch.
pub(super) fn patch(
    old: &[u8],
    new: &[u8],
    covers: &[Found],
    options: &DiffOptions,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<u8>, DiffError> {
    let maps = regions(old, new, covers);
    let mut header = Header {
        version: 1,
        profile: options.profile,
        caps_needed: Caps::NONE,
        old_len: old.len() as u64,
        new_len: new.len() as u64,
        old_digest: Sha256::digest(old).into(),
        new_digest: Sha256::digest(new).into(),
        old_check: XxHash3_64::oneshot(old),
        limits: Limits::default(),
    };
    let frames = frames(old, new, &maps, options, progress);
    header.limits = Limits {
        frame_max: frames
            .iter()
            .map(|frame| frame.len() as u64)
            .max()
            .unwrap_or(0),
        covers_max: maps
            .iter()
            .map(|map| map.covers.len() as u64)
            .max()
            .unwrap_or(0),
        ..Limits::default()
    };
    debug_assert!(
        header.limits.frame_max <= FRAME_MAX,
        "windows close in time"
    );
    if header.memory_needed() > options.memory_max {
        return Err(DiffError::Memory {
            needed: header.memory_needed(),
            allowed: options.memory_max,
        });
    }
    let mut out = header.to_bytes();
    for payload in frames {
        let at = out.len() as u64;
        frame::write(&mut out, at, &payload);
    }
    Ok(out)
}

/// Cuts the new image into regions and notes which covers are exact.
fn regions(old: &[u8], new: &[u8], covers: &[Found]) -> Vec<Map> {
    let mut maps = Vec::new();
    let mut start = 0usize;
    let mut covers = covers.iter().copied().peekable();
    while start < new.len() {
        let len = (new.len() - start).min(REGION_LEN_MAX as usize);
        let mut map = Map {
            len: len as u32,
            covers: Vec::new(),
        };
        while let Some(cover) = covers.peek_mut().filter(|cover| cover.new < start + len) {
            let part = cover.len.min(start + len - cover.new);
            let exact = old[cover.old..cover.old + part] == new[cover.new..cover.new + part];
            map.covers.push(Cover {
                old: cover.old as u64,
                new: (cover.new - start) as u32,
                len: part as u32,
                exact,
            });
            if part == cover.len {
                covers.next();
            } else {
                cover.old += part;
                cover.new += part;
                cover.len -= part;
                break;
            }
        }
        maps.push(map);
        start += len;
    }
    maps
}

/// The payloads of all frames, in order.
fn frames(
    old: &[u8],
    new: &[u8],
    maps: &[Map],
    options: &DiffOptions,
    progress: &mut dyn FnMut(u64),
) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut start = 0usize;
    for map in maps {
        let mut bits = Encoder::new();
        map.write(&mut bits);
        frames.push(bits.finish());
        let region = &new[start..start + map.len as usize];
        let mut from = 0;
        while from < map.len {
            let to = window_end(map, from);
            frames.push(window(old, region, map, from..to, options.profile));
            from = to;
            progress((start + from as usize) as u64);
        }
        start += map.len as usize;
    }
    frames
}

/// Where the window that begins at `from` ends.
fn window_end(map: &Map, from: u32) -> u32 {
    let limit = map.len.min(from.saturating_add(WINDOW_OUTPUT));
    let (mut at, mut busy) = (from, 0u32);
    for segment in map.segments(from, limit) {
        let (len, cost) = match segment {
            Segment::Copy { cover, len, .. } if cover.exact => (len, 0),
            // Most differences are zeros; they cost next to nothing but may not be unlimited.
            Segment::Copy { len, .. } => (len, len / 8),
            Segment::Literal { len } => (len, len),
        };
        if busy + cost > WINDOW_BUSY {
            let share = u64::from(len) * u64::from(WINDOW_BUSY - busy) / u64::from(cost);
            return (at + share as u32).max(from + 1);
        }
        busy += cost;
        at += len;
    }
    limit
}

/// One window's payload.
fn window(
    old: &[u8],
    region: &[u8],
    map: &Map,
    range: core::ops::Range<u32>,
    profile: Profile,
) -> Vec<u8> {
    let (mut differences, mut literals) = (Vec::new(), Vec::new());
    let mut at = range.start as usize;
    for segment in map.segments(range.start, range.end) {
        match segment {
            Segment::Copy { cover, skip, len } => {
                if !cover.exact {
                    let from = cover.old as usize + skip as usize;
                    let pairs = region[at..at + len as usize].iter().zip(&old[from..]);
                    differences.extend(pairs.map(|(new, old)| new.wrapping_sub(*old)));
                }
                at += len as usize;
            }
            Segment::Literal { len } => {
                literals.extend_from_slice(&region[at..at + len as usize]);
                at += len as usize;
            }
        }
    }
    let level = match profile {
        Profile::Fast => 19,
        Profile::Small => 22,
    };
    let (differences, literals) = (
        zstd::compress(&differences, level),
        zstd::compress(&literals, level),
    );
    let mut out = Vec::new();
    varint::write(&mut out, u64::from(range.end - range.start));
    varint::write(&mut out, differences.len() as u64);
    out.extend_from_slice(&differences);
    out.extend_from_slice(&literals);
    out
}
