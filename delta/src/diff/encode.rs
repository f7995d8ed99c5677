//! Writing the patch: covers become regions, regions become windows.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use sha2::{Digest, Sha256};
use twox_hash::XxHash3_64;

use super::elf::Executable;
use super::modules;
use super::scan::Found;
use super::unpack::Unpacked;
use super::{DiffError, DiffOptions};
use crate::code::{self, Mapping};
use crate::codec::model::Model;
use crate::codec::range::Encoder;
use crate::codec::{frame, varint, zstd};
use crate::header::{Caps, Header, Limits, Profile};
use crate::plan::extents::{decode_cost, encode_cost};
use crate::plan::{Cover, Map, PIECE, REGION_LEN_MAX, Segment};

/// A window holds at most this much output.
const WINDOW_OUTPUT: u32 = 32 << 20;
/// A window closes when its new bytes and an eighth of its differing stretches pass this: its frame
/// stays near 1 MiB at most.
const WINDOW_BUSY: u32 = 2 << 20;
/// The highest that needs no more memory on the device than our window.
const ZSTD_LEVEL: i32 = 19;
/// Decoded extents of the old image that a device keeps may take this much at least.
const CACHE_MIN: u64 = 4 << 20;
/// Decoded extents of the old image that a device keeps take no more than this.
const CACHE_MAX: u64 = 32 << 20;

/// Memory that is left for a patch beside what extents need.
pub(super) const PLAIN_MEMORY: u64 = 8 << 20;

/// Writes the whole patch.
pub(super) fn patch(
    old: &[u8],
    new: &[u8],
    unpacked: &Unpacked,
    executables: &[Executable],
    covers: &[Found],
    options: &DiffOptions,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<u8>, DiffError> {
    let mut maps = regions(unpacked, covers);
    if options.caps.contains(Caps::CODE) {
        add_modules(unpacked, executables, &mut maps);
    }
    let frames = frames(unpacked, &maps, options, progress);
    let header = Header {
        version: 1,
        profile: options.profile,
        caps_needed: caps_needed(&maps),
        old_len: old.len() as u64,
        new_len: new.len() as u64,
        old_digest: Sha256::digest(old).into(),
        new_digest: Sha256::digest(new).into(),
        old_check: XxHash3_64::oneshot(old),
        limits: limits(&maps, &frames, options),
    };
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

/// What the device has to hold for these maps and frames.
fn limits(maps: &[Map], frames: &[Vec<u8>], options: &DiffOptions) -> Limits {
    let most = |of: &dyn Fn(&Map) -> u64| maps.iter().map(of).max().unwrap_or(0);
    let encode_max = most(&|map| {
        let costs = map
            .extents
            .new
            .iter()
            .map(|e| encode_cost(e.codec, e.raw_len));
        costs.max().unwrap_or(0)
    });
    let decode_max = most(&|map| {
        let costs = map
            .extents
            .old
            .iter()
            .map(|e| decode_cost(e.codec, e.len, e.raw_len));
        costs.max().unwrap_or(0)
    });
    let mut limits = Limits {
        frame_max: frames
            .iter()
            .map(|frame| frame.len() as u64)
            .max()
            .unwrap_or(0),
        covers_max: most(&|map| map.covers.len() as u64),
        tables_max: most(&Map::tables_memory),
        encode_max,
        cache_max: 0,
    };
    if decode_max > 0 {
        // Room for a few extents saves decoding the same ones again and again.
        let room = options
            .memory_max
            .saturating_sub(limits.memory(options.profile));
        limits.cache_max = decode_max.max((decode_max * 3).clamp(CACHE_MIN, CACHE_MAX).min(room));
    }
    limits
}

/// Cuts the logical new image into regions and notes which covers are exact.
fn regions(unpacked: &Unpacked, covers: &[Found]) -> Vec<Map> {
    let (old, new) = (&unpacked.old, &unpacked.new);
    let mut maps = Vec::new();
    let mut start = 0usize;
    let mut covers = covers.iter().copied().peekable();
    let mut opened = unpacked.new_extents.iter().peekable();
    while start < new.len() {
        let end = region_end(unpacked, start);
        let mut map = Map {
            len: (end - start) as u32,
            last: end == new.len(),
            ..Map::default()
        };
        while let Some(extent) = opened.next_if(|extent| extent.raw_at < end) {
            map.extents.new.push(extent.within(start));
        }
        while let Some(cover) = covers.peek_mut().filter(|cover| cover.new < end) {
            let part = cover.len.min(end - cover.new);
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
        map.extents.old.clone_from(&unpacked.old_extents);
        maps.push(map);
        start = end;
    }
    maps
}

/// Finds the executables of each region.
fn add_modules(unpacked: &Unpacked, executables: &[Executable], maps: &mut [Map]) {
    let mut start = 0;
    for map in maps {
        let region = &unpacked.new[start..start + map.len as usize];
        map.modules = modules::find(&unpacked.old, executables, region, map);
        start += region.len();
    }
}

/// What the devices must be able to do.
fn caps_needed(maps: &[Map]) -> Caps {
    let extents = maps.iter().flat_map(|map| &map.extents.new);
    let code = maps.iter().any(|map| !map.modules.is_empty());
    extents.fold(if code { Caps::CODE } else { Caps::NONE }, |caps, e| {
        caps.with(e.codec.caps())
    })
}

/// Where the region that begins at `start` ends: not inside of an extent.
fn region_end(unpacked: &Unpacked, start: usize) -> usize {
    let end = unpacked.new.len().min(start + REGION_LEN_MAX as usize);
    let open = unpacked
        .new_extents
        .iter()
        .find(|e| e.raw_at < end && end < e.raw_at + e.raw_len);
    open.map_or(end, |extent| extent.raw_at)
}

/// The payloads of all frames, in order.
fn frames(
    unpacked: &Unpacked,
    maps: &[Map],
    options: &DiffOptions,
    progress: &mut dyn FnMut(u64),
) -> Vec<Vec<u8>> {
    let (old, new) = (&unpacked.old[..], &unpacked.new[..]);
    let mut frames = Vec::new();
    let mut start = 0usize;
    for map in maps {
        let mut bits = Encoder::new();
        map.write(&mut bits);
        frames.push(bits.finish());
        let region = &new[start..start + map.len as usize];
        let mapping = map.mapping();
        let mut from = 0;
        while from < map.len {
            let to = window_end(map, from);
            frames.push(window(
                old,
                region,
                map,
                &mapping,
                from..to,
                options.profile,
            ));
            from = to;
            progress((start + from as usize) as u64);
        }
        start += map.len as usize;
    }
    frames
}

/// Where the window that begins at `from` ends: not inside of an extent.
fn window_end(map: &Map, from: u32) -> u32 {
    let end = busy_end(map, from);
    let open = map
        .extents
        .new
        .partition_point(|extent| extent.end() <= end);
    match map.extents.new.get(open) {
        Some(extent) if extent.at < end && extent.at > from => extent.at,
        Some(extent) if extent.at < end => extent.end(),
        _ => end,
    }
}

/// Where a window has taken enough.
fn busy_end(map: &Map, from: u32) -> u32 {
    let limit = map.len.min(from.saturating_add(WINDOW_OUTPUT));
    let (mut at, mut busy) = (from, 0u32);
    for segment in map.segments(from, limit) {
        let (len, cost) = match segment {
            Segment::Copy { cover, len, .. } if cover.exact => (len, 0),
            // Most differences are zeros; they cost next to nothing but may not be unlimited.
            Segment::Copy { len, .. } => (len, len / 8),
            Segment::Literal { len, .. } => (len, len),
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
    mapping: &Mapping,
    range: core::ops::Range<u32>,
    profile: Profile,
) -> Vec<u8> {
    let mut streams = match profile {
        Profile::Fast => Streams::Fast(Vec::new(), Vec::new()),
        Profile::Small => Streams::Small(Box::new(Model::new()), Encoder::new(), 0),
    };
    let mut at = range.start as usize;
    let mut guess = Vec::new();
    let mut fields = vec![0; PIECE as usize];
    for segment in map.segments(range.start, range.end) {
        for piece in segment.pieces() {
            let size = piece.len as usize;
            let bytes = &region[at..at + size];
            let from = piece.old as usize;
            at += size;
            match segment {
                Segment::Copy { cover, .. } if cover.exact => {}
                Segment::Copy { .. } => {
                    let old = &old[from..from + size];
                    guess.clear();
                    guess.extend_from_slice(old);
                    fields[..size].fill(0);
                    let places = (piece.old, (at - size) as u64);
                    let fields = &mut fields[..size];
                    code::predict(&map.modules, mapping, old, places, &mut guess, fields);
                    streams.copied(&guess, fields, piece.old, bytes);
                }
                Segment::Literal { .. } => {
                    guess.clear();
                    guess.extend(old.iter().skip(from).take(size));
                    guess.resize(size, 0);
                    streams.new_bytes(&guess, bytes);
                }
            }
        }
    }
    let mut out = Vec::new();
    varint::write(&mut out, u64::from(range.end - range.start));
    streams.finish(&mut out);
    out
}

/// What a window adds, by profile: the mirror of the patcher's.
enum Streams {
    /// Differences, and new bytes.
    Fast(Vec<u8>, Vec<u8>),
    /// The last number counts the bytes that went into differences.
    Small(Box<Model>, Encoder, u64),
}

impl Streams {
    fn copied(&mut self, guess: &[u8], fields: &[u8], at: u64, bytes: &[u8]) {
        match self {
            Self::Fast(differences, _) => {
                let pairs = bytes.iter().zip(guess);
                differences.extend(pairs.map(|(byte, guess)| byte.wrapping_sub(*guess)));
            }
            Self::Small(model, bits, differences) => {
                let before = bits.len();
                // The model fills in what it decodes; what it encodes it writes back as it was.
                model.copied(bits, guess, fields, at, &mut bytes.to_vec());
                *differences += (bits.len() - before) as u64;
            }
        }
    }

    fn new_bytes(&mut self, hint: &[u8], bytes: &[u8]) {
        match self {
            Self::Fast(_, literals) => literals.extend_from_slice(bytes),
            Self::Small(model, bits, _) => model.new_bytes(bits, hint, &mut bytes.to_vec()),
        }
    }

    fn finish(self, out: &mut Vec<u8>) {
        match self {
            Self::Fast(differences, literals) => {
                let differences = zstd::compress(&differences, ZSTD_LEVEL);
                varint::write(out, differences.len() as u64);
                out.extend_from_slice(&differences);
                out.extend_from_slice(&zstd::compress(&literals, ZSTD_LEVEL));
            }
            Self::Small(_, bits, differences) => {
                let coded = bits.finish();
                varint::write(out, differences.min(coded.len() as u64));
                out.extend_from_slice(&coded);
            }
        }
    }
}
