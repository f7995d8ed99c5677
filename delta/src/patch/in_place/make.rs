//! Making a patch in place: an ordinary patch with small windows, put in another order.
//!
//! What a window reads is not computed but observed: the device's own code decodes it here, once,
//! with an old image that notes what is asked for. So the order holds whatever the format does.

use alloc::vec::Vec;
use core::ops::Range;

use sha2::{Digest as _, Sha256};

use super::order::{Asked, arrange};
use super::plan::{InPlaceHeader, Plan, Step};
use super::view::digest;
use super::{Patcher, read_frame};
use crate::codec::{check, frame, varint};
use crate::diff::{DiffError, DiffOptions, Progress, diff};
use crate::error::{Damage, PatchError};
use crate::header::{Accept, Caps, Header};
use crate::image::{ImageError, OldImage};

/// Windows are whole pages of the media.
const PAGE: u64 = 4096;
/// Larger windows gain nothing: a frame is to be held in memory.
const WINDOW_MAX: u64 = 2 << 20;
/// Shares of the scratch that a window may take, tried in turn; the rest is for what is kept.
const SHARES: [u64; 5] = [1, 2, 4, 8, 16];
/// Memory on the device beside that of an ordinary patch, as long as the plan is not huge.
const PLAN_MEMORY: u64 = 256 << 10;

/// Makes the patch that turns `old` into `new` in its place, with `scratch_len` bytes beside it.
///
/// # Errors
/// [`DiffError::Memory`] as [`diff`](crate::diff()); [`DiffError::Scratch`] when the scratch is too
/// small for any order.
pub fn diff_in_place(
    old: &[u8],
    new: &[u8],
    options: &DiffOptions,
    scratch_len: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<u8>, DiffError> {
    let extents = [Caps::XZ, Caps::LZ4, Caps::ZLIB, Caps::ZSTD];
    let plain = extents.into_iter().fold(options.caps, Caps::without);
    let mut needed = u64::MAX;
    let kinds = if plain == options.caps { 1 } else { 2 };
    for caps in [options.caps, plain].into_iter().take(kinds) {
        for share in SHARES {
            let window_max = (scratch_len / share).min(WINDOW_MAX) / PAGE * PAGE;
            if window_max == 0 {
                break;
            }
            let options = DiffOptions {
                caps,
                memory_max: options.memory_max.saturating_sub(PLAN_MEMORY),
                window_max: window_max as u32,
                ..options.clone()
            };
            let patch = diff(old, new, &options, progress)?;
            match reordered(old, new, &patch, scratch_len) {
                Ok((out, head)) if head.plan_memory() <= PLAN_MEMORY => return Ok(out),
                Ok((_, head)) => {
                    let header = crate::header::header(&patch).map_err(|e| broken(&e))?;
                    return Err(DiffError::Memory {
                        needed: header.memory_needed() + head.plan_memory(),
                        allowed: options.memory_max + PLAN_MEMORY,
                    });
                }
                Err(Refused::Scratch(more)) => needed = needed.min(more),
                Err(Refused::Broken(why)) => return Err(why),
            }
        }
    }
    let needed = if needed == u64::MAX { PAGE } else { needed };
    Err(DiffError::Scratch {
        needed,
        allowed: scratch_len,
    })
}

/// Why an ordinary patch gives none in place.
enum Refused {
    /// It takes this much scratch.
    Scratch(u64),
    Broken(DiffError),
}

fn broken(error: &PatchError) -> DiffError {
    DiffError::InPlace(alloc::format!("{error}"))
}

impl From<PatchError> for Refused {
    fn from(error: PatchError) -> Self {
        Self::Broken(broken(&error))
    }
}

/// A window of an ordinary patch.
struct Window {
    payload: Vec<u8>,
    from: u32,
    place: Range<u64>,
    reads: Vec<Range<u64>>,
}

/// The windows that change something, in an order that works within the scratch.
fn reordered(
    old: &[u8],
    new: &[u8],
    patch: &[u8],
    scratch_len: u64,
) -> Result<(Vec<u8>, InPlaceHeader), Refused> {
    let (header_bytes, map, mut windows) = windows_of(old, new, patch)?;
    windows.retain(|window| {
        let place = window.place.start as usize..window.place.end as usize;
        old.get(place.clone()) != Some(&new[place])
    });
    let lens = windows
        .iter()
        .map(|window| window.place.end - window.place.start);
    let staged_max = lens.max().unwrap_or(0);
    let asked: Vec<Asked> = windows
        .iter()
        .map(|window| Asked {
            place: window.place.clone(),
            reads: window.reads.clone(),
        })
        .collect();
    let turns = arrange(&asked, staged_max, scratch_len).map_err(Refused::Scratch)?;
    let mut steps = Vec::new();
    for turn in &turns {
        let window = &windows[turn.window];
        let place = window.place.start as usize..window.place.end as usize;
        steps.push(Step {
            place: window.place.start,
            len: place.len() as u32,
            from: window.from,
            frame_at: 0,
            digest: digest(&new[place]),
            kept: turn.kept.clone(),
        });
    }
    let payloads: Vec<&[u8]> = turns
        .iter()
        .map(|turn| &windows[turn.window].payload[..])
        .collect();
    let frame_lens: Vec<u64> = payloads.iter().map(|payload| frame_len(payload)).collect();
    let plan = Plan::write(&steps, &frame_lens);
    let kept = turns
        .iter()
        .flat_map(|turn| &turn.kept)
        .map(|kept| kept.at + u64::from(kept.len));
    let head = InPlaceHeader {
        scratch_len: kept.max().unwrap_or(0).max(staged_max),
        staged_max,
        steps: steps.len() as u64,
        plan_len: plan.len() as u64,
        old_digest: Sha256::digest(old).into(),
    };
    let mut out = head.to_bytes();
    out.extend_from_slice(header_bytes);
    for payload in map
        .iter()
        .map(Vec::as_slice)
        .chain([&plan[..]])
        .chain(payloads)
    {
        let at = out.len() as u64;
        frame::write(&mut out, at, payload);
    }
    Ok((out, head))
}

fn frame_len(payload: &[u8]) -> u64 {
    let mut head = Vec::new();
    varint::write(&mut head, payload.len() as u64);
    (head.len() + check::LEN + payload.len()) as u64
}

/// Decodes an ordinary patch window by window: its header's bytes, its map, its windows.
#[allow(clippy::type_complexity, reason = "three parts of one patch")]
fn windows_of<'p>(
    old: &[u8],
    new: &[u8],
    patch: &'p [u8],
) -> Result<(&'p [u8], Option<Vec<u8>>, Vec<Window>), Refused> {
    let parsed = Header::parse(patch).map_err(|what| PatchError::damaged(0, what))?;
    let (header, header_len) =
        parsed.ok_or_else(|| PatchError::damaged(patch.len() as u64, Damage::Truncated))?;
    let header_bytes = &patch[..header_len];
    if header.new_len == 0 {
        return Ok((header_bytes, None, Vec::new()));
    }
    let mut patcher = Patcher::new(Accept {
        memory_max: u64::MAX,
        ..Accept::default()
    });
    let frame_max = header.limits.frame_max;
    patcher.header = Some(header);
    let mut patch = patch;
    let (map, mut at) = read_frame(&mut patch, header_len as u64, frame_max)?;
    patcher.buffer.clone_from(&map);
    patcher.open_region(header_len as u64)?;
    if !patcher.map.last {
        let why = "the image has more than one region".into();
        return Err(Refused::Broken(DiffError::InPlace(why)));
    }
    let (mut windows, mut from, mut place) = (Vec::new(), 0, 0u64);
    while from < patcher.map.len {
        let (payload, end) = read_frame(&mut patch, at, frame_max)?;
        let mut seen = Seen {
            old,
            reads: Vec::new(),
        };
        let mut out = Vec::new();
        let room = new.len() as u64 - place;
        let len = patcher.decode_alone(at, &payload, (from, room), &mut seen, &mut out)?;
        let end_place = place + out.len() as u64;
        let reads = seen.joined();
        windows.push(Window {
            payload,
            from,
            place: place..end_place,
            reads,
        });
        (from, place, at) = (from + len, end_place, end);
    }
    Ok((header_bytes, Some(map), windows))
}

/// An old image that notes what is read of it.
struct Seen<'a> {
    old: &'a [u8],
    reads: Vec<Range<u64>>,
}

impl OldImage for Seen<'_> {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), ImageError> {
        let end = offset + buf.len() as u64;
        match self.reads.last_mut() {
            Some(last) if last.end == offset => last.end = end,
            _ => self.reads.push(offset..end),
        }
        self.old.read_at(offset, buf)
    }
}

impl Seen<'_> {
    fn joined(mut self) -> Vec<Range<u64>> {
        self.reads.retain(|read| !read.is_empty());
        self.reads.sort_by_key(|read| read.start);
        let mut joined: Vec<Range<u64>> = Vec::new();
        for read in self.reads {
            match joined.last_mut() {
                Some(open) if read.start <= open.end => open.end = open.end.max(read.end),
                _ => joined.push(read),
            }
        }
        joined
    }
}
