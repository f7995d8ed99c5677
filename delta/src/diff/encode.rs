//! Writing the patch: covers become regions, regions become windows.

use alloc::vec::Vec;
use core::ops::Range;

use sha2::{Digest, Sha256};
use twox_hash::XxHash3_64;

use super::elf::Executable;
use super::image::Image;
use super::modules::{self, Sides};
use super::source::Watched;
use super::streams::Streams;
use super::suffix;
use super::unpack::{Opened, on_threads};
use super::{DiffError, DiffOptions};
use crate::code::{Guess, Mapping};
use crate::codec::model::Size;
use crate::codec::range::Encoder;
use crate::codec::{frame, varint};
use crate::header::{Caps, Header, Limits, Profile, VERSION};
use crate::plan::extents::{OldExtent, decode_cost, encode_cost};
use crate::plan::{Cover, Map, PIECE, REGION_LEN_MAX, Segment};

/// A window holds at most this much output.
pub(super) const WINDOW_OUTPUT: u32 = 48 << 20;
/// Decoded extents of the old image that a device keeps may take this much at least.
const CACHE_MIN: u64 = 4 << 20;
/// Decoded extents of the old image that a device keeps take no more than this.
const CACHE_MAX: u64 = 16 << 20;

/// An equal stretch of this length within a cover is told of: that costs a few bytes.
const EXACT_MIN: usize = 32 << 10;

/// A window with a longer payload has no use for lessons.
const TAUGHT_MAX: usize = 64 << 10;
/// Classes of lessons that are tried.
const CLASSES: [u8; 5] = [1, 2, 4, 6, 8];

/// How much of a device's memory windows take.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// A window closes when its new bytes and a 32nd of its differing stretches pass this: its
    /// frame is half as long at most.
    busy: u32,
    /// The largest model.
    model: Size,
}

/// From the shortest patch to the least memory: the first that fits is taken.
const PLANS: [Plan; 6] = [
    Plan::new(2048, 3),
    Plan::new(2048, 2),
    Plan::new(1024, 2),
    Plan::new(512, 1),
    Plan::new(256, 1),
    Plan::new(128, 0),
];

impl Plan {
    const fn new(busy_kib: u32, size: usize) -> Self {
        Self {
            busy: busy_kib << 10,
            model: Size::ALL[size],
        }
    }
}

/// Both images, and what is known of them.
pub(super) struct Images<'a> {
    pub(super) old: Image<'a>,
    pub(super) new: Image<'a>,
    /// What covers see decoded, in places of the images.
    pub(super) old_extents: Vec<OldExtent>,
    pub(super) new_extents: Vec<Opened>,
    /// Executables of both.
    pub(super) found: [Vec<Executable>; 2],
}

/// Writes the whole patch.
pub(super) fn patch(
    (old, new): (&Watched, &Watched),
    images: &Images,
    covers: &[Found],
    options: &DiffOptions,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<u8>, DiffError> {
    let mut maps = regions(images, covers);
    if options.caps.contains(Caps::CODE) {
        add_modules(images, &mut maps);
    }
    let (old_check, new_digest) = (check_of(old), digest_of(new));
    let header = |limits| Header {
        version: VERSION,
        profile: options.profile,
        caps_needed: caps_needed(&maps),
        old_len: old.length(),
        new_len: new.length(),
        new_digest,
        old_check,
        limits,
    };
    let mut needed = u64::MAX;
    for plan in PLANS {
        let about = limits(
            &maps,
            u64::from(plan.busy / 2),
            plan.model.memory(),
            options,
        );
        let about = about.memory(options.profile);
        if about > options.memory_max {
            needed = needed.min(about);
            continue;
        }
        let (frames, model_max) = frames(images, (&maps, new.length()), plan, options, progress);
        let frame_max = frames.iter().map(Vec::len).max().unwrap_or(0) as u64;
        let header = header(limits(&maps, frame_max, model_max, options));
        if header.memory_needed() > options.memory_max {
            needed = needed.min(header.memory_needed());
            continue;
        }
        let mut out = header.to_bytes();
        for payload in frames {
            let at = out.len() as u64;
            frame::write(&mut out, at, &payload);
        }
        return Ok(out);
    }
    Err(DiffError::Memory {
        needed,
        allowed: options.memory_max,
    })
}

/// The digest of an image.
fn digest_of(image: &Watched) -> [u8; 32] {
    let mut digest = Sha256::new();
    image.each_piece(|piece| digest.update(piece));
    digest.finalize().into()
}

/// The quick check of an image.
fn check_of(image: &Watched) -> u64 {
    use core::hash::Hasher as _;
    let mut check = XxHash3_64::new();
    image.each_piece(|piece| check.write(piece));
    check.finish()
}

/// What the device has to hold for these maps, and for frames and models of such a size.
fn limits(maps: &[Map], frame_max: u64, model_max: u64, options: &DiffOptions) -> Limits {
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
        frame_max,
        covers_max: most(&|map| map.covers.len() as u64),
        tables_max: most(&Map::tables_memory),
        encode_max,
        cache_max: 0,
        model_max,
    };
    if decode_max > 0 {
        // Room for a few extents saves decoding the same ones again and again.
        let room = options
            .memory_max
            .saturating_sub(limits.memory(options.profile));
        limits.cache_max = decode_max.max((decode_max * 2).clamp(CACHE_MIN, CACHE_MAX).min(room));
    }
    limits
}

/// Cuts the logical new image into regions and notes which covers are exact.
fn regions(images: &Images, covers: &[Found]) -> Vec<Map> {
    let (old, new) = (&images.old, &images.new);
    let mut maps = Vec::new();
    let mut start = 0;
    let mut covers = covers.iter().copied().peekable();
    let mut opened = images.new_extents.iter().peekable();
    while start < new.length() {
        let end = region_end(images, start);
        let mut map = Map {
            len: (end - start) as u32,
            last: end == new.length(),
            ..Map::default()
        };
        let mut parts = Vec::new();
        while let Some(extent) = opened.next_if(|extent| (extent.raw_at as u64) < end) {
            map.extents.new.push(extent.within(start as usize));
        }
        while let Some(cover) = covers.peek_mut().filter(|cover| cover.new < end) {
            let len = cover.len.min(end - cover.new);
            let at = (cover.new - start) as u32;
            if cover.same {
                let part = Part {
                    from: 0,
                    len: len as u32,
                    exact: true,
                };
                add_part(&mut parts, cover.old, at, &part);
            } else {
                let (old, new) = (
                    old.get(cover.old, len as usize),
                    new.get(cover.new, len as usize),
                );
                for part in split(&old, &new) {
                    add_part(&mut parts, cover.old, at, &part);
                }
            }
            if len == cover.len {
                covers.next();
            } else {
                cover.old += len;
                cover.new += len;
                cover.len -= len;
                break;
            }
        }
        map.covers = parts.into_iter().collect();
        map.extents.old.clone_from(&images.old_extents);
        maps.push(map);
        start = end;
    }
    maps
}

/// Adds a part of the cover that begins at `old` and `new`; exact ones that go on are one.
fn add_part(covers: &mut Vec<Cover>, old: u64, new: u32, part: &Part) {
    let cover = Cover::new(
        old + u64::from(part.from),
        new + part.from,
        part.len,
        part.exact,
    );
    match covers.last_mut() {
        Some(last)
            if last.is_exact()
                && cover.is_exact()
                && last.old_end() == cover.old()
                && last.new_end() == cover.new =>
        {
            last.len += cover.len;
        }
        _ => covers.push(cover),
    }
}

/// A cover in places of both logical images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) old: u64,
    pub(super) new: u64,
    pub(super) len: u64,
    /// Whether all of it is known to be the same.
    pub(super) same: bool,
}

/// Part of a cover.
struct Part {
    from: u32,
    len: u32,
    exact: bool,
}

/// Cuts a cover so that long stretches of equal bytes stand alone: a device copies them as they are.
fn split<'a>(old: &'a [u8], new: &'a [u8]) -> impl Iterator<Item = Part> + 'a {
    let len = new.len();
    // What is left, and the length of the equal stretch that begins there when that is known.
    let (mut at, mut equal) = (0, None::<usize>);
    core::iter::from_fn(move || {
        let from = at;
        let mut next = from;
        while next < len {
            let same = equal
                .take()
                .unwrap_or_else(|| suffix::common_prefix(&old[next..], &new[next..]));
            if same >= EXACT_MIN || from == 0 && same == len {
                if next > from {
                    equal = Some(same);
                    break;
                }
                at = next + same;
                return Some(Part {
                    from: from as u32,
                    len: same as u32,
                    exact: true,
                });
            }
            next += same;
            next += usize::from(next < len);
        }
        at = next;
        (next > from).then_some(Part {
            from: from as u32,
            len: (next - from) as u32,
            exact: false,
        })
    })
}

/// Finds the executables of each region.
fn add_modules(images: &Images, maps: &mut [Map]) {
    let mut start = 0;
    for map in maps {
        let sides = Sides {
            old: &images.old,
            new: &images.new,
            start,
        };
        map.modules = modules::find(sides, (&images.found[0], &images.found[1]), map);
        start += u64::from(map.len);
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
fn region_end(images: &Images, start: u64) -> u64 {
    let end = images.new.length().min(start + REGION_LEN_MAX);
    let begin = |extent: &Opened| extent.raw_at as u64;
    let open = images
        .new_extents
        .iter()
        .find(|e| begin(e) < end && end < begin(e) + e.raw_len as u64);
    open.map_or(end, begin)
}

/// The mapping of a map of our own: what it takes is declared later.
fn mapping_of(map: &Map) -> Mapping {
    map.mapping(u64::MAX).expect("any memory is enough")
}

/// A window to be written.
struct Window<'a> {
    images: &'a Images<'a>,
    /// Where the map's region begins in the logical new image.
    start: u64,
    map: &'a Map,
    mapping: &'a Mapping,
    range: Range<u32>,
}

/// The payloads of all frames, in order, and the memory of the largest model.
fn frames(
    images: &Images,
    (maps, new_len): (&[Map], u64),
    plan: Plan,
    options: &DiffOptions,
    progress: &mut dyn FnMut(u64),
) -> (Vec<Vec<u8>>, u64) {
    let mappings: Vec<Mapping> = maps.iter().map(mapping_of).collect();
    let mut windows = Vec::new();
    let mut start = 0;
    for (map, mapping) in maps.iter().zip(&mappings) {
        let mut from = 0;
        while from < map.len {
            let range = from..window_end(map, from, plan.busy, options.window_max);
            from = range.end;
            windows.push(Window {
                images,
                start,
                map,
                mapping,
                range,
            });
        }
        start += u64::from(map.len);
    }
    progress(0);
    let coded = on_threads(windows.len(), options.threads, &|at| {
        windows[at].code(options.profile, plan.model)
    });
    progress(images.new.length());
    let (mut frames, mut model_max) = (Vec::new(), 0);
    for (window, (payload, model)) in windows.iter().zip(coded) {
        if window.range.start == 0 {
            let mut bits = Encoder::new();
            window.map.write(&mut bits, new_len);
            frames.push(bits.finish());
        }
        frames.push(payload);
        model_max = model_max.max(model);
    }
    (frames, model_max)
}

/// Where the window that begins at `from` ends: not inside of an extent.
fn window_end(map: &Map, from: u32, busy_max: u32, window_max: u32) -> u32 {
    let end = busy_end(map, from, busy_max, window_max.clamp(1, WINDOW_OUTPUT));
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
fn busy_end(map: &Map, from: u32, busy_max: u32, window_max: u32) -> u32 {
    let limit = map.len.min(from.saturating_add(window_max));
    let (mut at, mut busy) = (from, 0u32);
    for segment in map.segments(from, limit) {
        let (len, cost) = match segment {
            Segment::Copy { cover, len, .. } if cover.is_exact() => (len, 0),
            // Most differences are zeros; they cost next to nothing but may not be unlimited.
            Segment::Copy { len, .. } => (len, len / 32),
            Segment::Literal { len, .. } => (len, len),
        };
        if busy + cost > busy_max {
            let share = u64::from(len) * u64::from(busy_max - busy) / u64::from(cost);
            return (at + share as u32).max(from + 1);
        }
        busy += cost;
        at += len;
    }
    limit
}

impl Window<'_> {
    /// The payload, and the memory of its model.
    fn code(&self, profile: Profile, model: Size) -> (Vec<u8>, u64) {
        let made = self.range.end - self.range.start;
        let streams = |class| match profile {
            Profile::Fast => Streams::Fast(Vec::new(), Vec::new()),
            Profile::Small => Streams::small(self.busy(), model, (class, made)),
        };
        let mut best = self.code_into(profile, streams(0));
        if profile == Profile::Small && self.has_new() && best.0.len() < TAUGHT_MAX {
            for class in CLASSES {
                let taught = self.code_into(profile, streams(class));
                if taught.0.len() < best.0.len() {
                    best = taught;
                }
            }
        }
        best
    }

    /// Whether there are bytes that no cover gives.
    fn has_new(&self) -> bool {
        self.map
            .segments(self.range.start, self.range.end)
            .any(|segment| matches!(segment, Segment::Literal { .. }))
    }

    /// What comes of these streams, and the memory of their model.
    fn code_into(&self, profile: Profile, mut streams: Streams) -> (Vec<u8>, u64) {
        let (old, new) = (&self.images.old, &self.images.new);
        let mut at = self.range.start;
        let mut guess = match profile {
            Profile::Fast => Guess::of_bytes(),
            Profile::Small => Guess::default(),
        };
        for segment in self.map.segments(self.range.start, self.range.end) {
            for piece in segment.pieces() {
                let size = piece.len as usize;
                let place = u64::from(at);
                at += piece.len;
                if matches!(segment, Segment::Copy { cover, .. } if cover.is_exact()) {
                    continue;
                }
                let bytes = new.get(self.start + place, size);
                if matches!(segment, Segment::Literal { .. }) {
                    let mut shown = streams.lesson(piece.old);
                    while !shown.is_empty() {
                        let len = (shown.end - shown.start).min(PIECE.into()) as usize;
                        let known = old.get(shown.start, len);
                        let begun = guess.begin(len);
                        begun[..known.len()].copy_from_slice(&known);
                        begun[known.len()..].fill(0);
                        streams.teach(begun);
                        shown.start += len as u64;
                    }
                }
                let known = old.get(piece.old, size);
                let begun = guess.begin(size);
                begun[..known.len()].copy_from_slice(&known);
                begun[known.len()..].fill(0);
                if matches!(segment, Segment::Copy { .. }) {
                    guess.predict(&self.map.modules, self.mapping, (piece.old, place));
                    streams.copied(&mut guess, piece.old, &bytes);
                } else {
                    streams.new_bytes(&guess.bytes, &bytes);
                }
            }
        }
        let mut out = Vec::new();
        let is_rest = self.range.end == self.map.len;
        let made = if is_rest {
            0
        } else {
            self.range.end - self.range.start
        };
        varint::write(&mut out, u64::from(made));
        let memory = streams.finish(&mut out);
        (out, memory)
    }

    /// About how long the payload becomes.
    fn busy(&self) -> u64 {
        let segments = self.map.segments(self.range.start, self.range.end);
        segments
            .map(|segment| match segment {
                Segment::Copy { cover, .. } if cover.is_exact() => 0,
                Segment::Copy { len, .. } => u64::from(len) / 16,
                Segment::Literal { len, .. } => u64::from(len) / 2,
            })
            .sum()
    }
}
