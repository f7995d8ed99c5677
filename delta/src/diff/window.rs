//! Regions become windows: where one ends, and the payload of its frame.

use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::DiffOptions;
use super::encode::{Images, Plan, mapping_of};
use super::streams::Streams;
use super::threads::on_threads;
use crate::code::{Guess, Mapping};
use crate::codec::model::Size;
use crate::codec::range::Encoder;
use crate::codec::varint;
use crate::header::Profile;
use crate::plan::{Map, PIECE, Segment};

/// A window holds at most this much output.
pub(super) const WINDOW_OUTPUT: u32 = 48 << 20;

/// A window with a longer payload has no use for lessons.
const TAUGHT_MAX: usize = 64 << 10;
/// Classes of lessons that are tried.
const CLASSES: [u8; 5] = [1, 2, 4, 6, 8];

/// A window to be written.
struct Window<'a> {
    images: &'a Images<'a>,
    /// Where the map's region begins in the logical new image.
    start: u64,
    map: &'a Map,
    mapping: &'a Mapping,
    range: Range<u32>,
}

/// What is coded.
pub(super) struct Coding<'a> {
    pub(super) images: &'a Images<'a>,
    pub(super) maps: &'a [Map],
    pub(super) new_len: u64,
    pub(super) options: &'a DiffOptions,
}

/// What of the coded frames takes memory on a device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// Bytes of the longest frame.
    pub(super) frame_max: u64,
    /// Memory of the largest model.
    pub(super) model_max: u64,
}

impl Coding<'_> {
    /// The payloads of all frames, in order, where they fit by what `fits` says. What does not is not
    /// coded to its end.
    ///
    /// # Errors
    /// Sizes that do not fit; the whole would have had no smaller ones.
    pub(super) fn frames(
        &self,
        plan: Plan,
        fits: &(dyn Fn(Sizes) -> bool + Sync),
        progress: &mut dyn FnMut(u64),
    ) -> Result<(Vec<Vec<u8>>, Sizes), Sizes> {
        let options = self.options;
        let mappings: Vec<Mapping> = self.maps.iter().map(mapping_of).collect();
        let windows = self.windows(&mappings, plan);
        let mut frames: Vec<Vec<u8>> = self.maps.iter().map(|map| self.told(map)).collect();
        let models = windows.iter().map(|window| match options.profile {
            Profile::Fast => 0,
            Profile::Small => window.size(plan.model).memory(),
        });
        let model_max = models.max().unwrap_or(0);
        let sizes = |longest: usize| Sizes {
            frame_max: longest as u64,
            model_max,
        };
        let least = sizes(frames.iter().map(Vec::len).max().unwrap_or(0));
        if !fits(least) {
            return Err(least);
        }
        progress(0);
        let too_long = AtomicUsize::new(0);
        let coded = on_threads(windows.len(), options.threads, &|at| {
            if too_long.load(Ordering::Relaxed) > 0 {
                return Vec::new();
            }
            let payload = windows[at].code(options.profile, plan.model);
            if !fits(sizes(payload.len())) {
                too_long.fetch_max(payload.len(), Ordering::Relaxed);
            }
            payload
        });
        progress(self.images.new.length());
        match too_long.into_inner() {
            0 => {}
            longest => return Err(sizes(longest)),
        }
        let mut maps = core::mem::take(&mut frames).into_iter();
        for (window, payload) in windows.iter().zip(coded) {
            if window.range.start == 0 {
                frames.extend(maps.next());
            }
            frames.push(payload);
        }
        let longest = frames.iter().map(Vec::len).max().unwrap_or(0);
        Ok((frames, sizes(longest)))
    }

    /// The payload of a region's first frame: its map.
    fn told(&self, map: &Map) -> Vec<u8> {
        let mut bits = Encoder::new();
        map.write(&mut bits, self.new_len);
        bits.finish()
    }

    /// What each window holds.
    fn windows<'a>(&'a self, mappings: &'a [Mapping], plan: Plan) -> Vec<Window<'a>> {
        let mut windows = Vec::new();
        let mut start = 0;
        for (map, mapping) in self.maps.iter().zip(mappings) {
            let mut from = 0;
            while from < map.len {
                let range = from..window_end(map, from, plan.busy, self.options.window_max);
                from = range.end;
                windows.push(Window {
                    images: self.images,
                    start,
                    map,
                    mapping,
                    range,
                });
            }
            start += u64::from(map.len);
        }
        windows
    }
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
    /// The payload.
    fn code(&self, profile: Profile, model: Size) -> Vec<u8> {
        let made = self.range.end - self.range.start;
        let streams = |class| match profile {
            Profile::Fast => Streams::Fast(Vec::new(), Vec::new()),
            Profile::Small => Streams::small(self.size(model), (class, made)),
        };
        let mut best = self.code_into(profile, streams(0));
        if profile == Profile::Small && self.has_new() && best.len() < TAUGHT_MAX {
            for class in CLASSES {
                let taught = self.code_into(profile, streams(class));
                if taught.len() < best.len() {
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

    /// What comes of these streams.
    fn code_into(&self, profile: Profile, mut streams: Streams) -> Vec<u8> {
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
        streams.finish(&mut out);
        out
    }

    /// The size of the model, at most `most`.
    fn size(&self, most: Size) -> Size {
        Size::of_payload(self.busy(), most)
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
