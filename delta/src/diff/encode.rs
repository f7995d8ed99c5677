//! Writing the patch: covers become regions, whose windows ([`super::window`]) fit the device's memory.

use alloc::vec::Vec;

use sha2::{Digest, Sha256};
use twox_hash::XxHash3_64;

use super::elf::Executable;
use super::image::Image;
use super::modules::{self, Sides};
use super::source::Watched;
use super::suffix;
use super::unpack::Opened;
use super::window::{Coding, Sizes};
use super::{DiffError, DiffOptions};
use crate::code::Mapping;
use crate::codec::frame;
use crate::codec::model::Size;
use crate::header::{Caps, Header, Limits, Profile, VERSION};
use crate::plan::extents::{OldExtent, decode_cost, encode_cost};
use crate::plan::{Cover, Map, REGION_LEN_MAX};

/// Decoded extents of the old image that a device keeps may take this much at least.
const CACHE_MIN: u64 = 3 << 20;
/// Decoded extents of the old image that a device keeps take no more than this.
const CACHE_MAX: u64 = 16 << 20;

/// An equal stretch of this length within a cover is told of: that costs a few bytes.
const EXACT_MIN: usize = 32 << 10;

/// How much of a device's memory windows take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// A window closes when its new bytes and a 32nd of its differing stretches pass this: its
    /// frame is half as long at most.
    pub(super) busy: u32,
    /// The largest model.
    pub(super) model: Size,
}

/// From the shortest patch to the least memory: the first that fits is taken.
const PLANS: [Plan; 8] = [
    Plan::new(2048, 4),
    Plan::new(2048, 3),
    Plan::new(2048, 2),
    Plan::new(1024, 2),
    Plan::new(512, 2),
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

/// Memory of the process that a patch is made for where devices give more: without extents, with
/// blocks of a file system, with whole compressed streams.
const AIMS: [u64; 3] = [6 << 20, 10 << 20, 20 << 20];
/// What such a process takes beside the patch, when it is linked statically (docs/adr/0053).
const PROGRAM: u64 = 7 << 18;
/// The longest block of a file system that is made to be read at random.
const BLOCK_MAX: usize = 128 << 10;

impl Images<'_> {
    /// Memory that is enough for what these images have inside, in most cases.
    fn aim(&self) -> u64 {
        let old = self.old_extents.iter().map(|e| e.raw_len as usize);
        let new = self.new_extents.iter().map(|e| e.raw_len);
        match old.chain(new).max() {
            None => AIMS[0] - PROGRAM,
            Some(..=BLOCK_MAX) => AIMS[1] - PROGRAM,
            Some(_) => AIMS[2] - PROGRAM,
        }
    }
}

/// What a patch may take on a device.
#[derive(Debug, Clone, Copy)]
struct Room {
    memory_max: u64,
    /// Rather a smaller model than fewer extents that are kept decoded: those cost time.
    is_cache_whole: bool,
}

/// Writes the whole patch: for little memory, or for all that devices give where that is not enough.
pub(super) fn patch(
    both: (&Watched, &Watched),
    images: &Images,
    covers: &[Found],
    options: &DiffOptions,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<u8>, DiffError> {
    let mut maps = regions(images, covers);
    if options.caps.contains(Caps::CODE) {
        add_modules(images, &mut maps);
    }
    let thrifty = Room {
        memory_max: images.aim().min(options.memory_max),
        is_cache_whole: true,
    };
    let all = Room {
        memory_max: options.memory_max,
        is_cache_whole: false,
    };
    match patch_within(both, (images, &maps), (options, thrifty), progress) {
        Err(DiffError::Memory { .. }) => {
            patch_within(both, (images, &maps), (options, all), progress)
        }
        patch => patch,
    }
}

fn patch_within(
    (old, new): (&Watched, &Watched),
    (images, maps): (&Images, &[Map]),
    (options, room): (&DiffOptions, Room),
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<u8>, DiffError> {
    let (old_check, new_digest) = (check_of(old), digest_of(new));
    let header = |limits| Header {
        version: VERSION,
        profile: options.profile,
        caps_needed: caps_needed(maps),
        old_len: old.length(),
        new_len: new.length(),
        new_digest,
        old_check,
        limits,
    };
    // However short its frames are, and however small the model.
    let least = limits(maps, 0, 0, (options.profile, room)).memory(options.profile);
    if least > room.memory_max {
        return Err(DiffError::Memory {
            needed: least,
            allowed: room.memory_max,
        });
    }
    let limits = |sizes: Sizes| {
        let Sizes {
            frame_max,
            model_max,
        } = sizes;
        limits(maps, frame_max, model_max, (options.profile, room))
    };
    let memory = |sizes| limits(sizes).memory(options.profile);
    let fits = |sizes| memory(sizes) <= room.memory_max;
    let mut needed = u64::MAX;
    for plan in PLANS {
        let coding = Coding {
            images,
            maps,
            new_len: new.length(),
            options,
        };
        let (frames, sizes) = match coding.frames(plan, &fits, progress) {
            Ok(frames) => frames,
            Err(sizes) => {
                needed = needed.min(memory(sizes));
                continue;
            }
        };
        let mut out = header(limits(sizes)).to_bytes();
        for payload in frames {
            let at = out.len() as u64;
            frame::write(&mut out, at, &payload);
        }
        return Ok(out);
    }
    Err(DiffError::Memory {
        needed,
        allowed: room.memory_max,
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
fn limits(
    maps: &[Map],
    frame_max: u64,
    model_max: u64,
    (profile, room): (Profile, Room),
) -> Limits {
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
        let few = (decode_max * 2).clamp(CACHE_MIN, CACHE_MAX);
        let left = room.memory_max.saturating_sub(limits.memory(profile));
        let kept = if room.is_cache_whole {
            few
        } else {
            few.min(left)
        };
        limits.cache_max = decode_max.max(kept);
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
pub(super) fn mapping_of(map: &Map) -> Mapping {
    map.mapping(u64::MAX).expect("any memory is enough")
}
