//! The map of a region: which bytes of the new image come from where in the old one.
//!
//! A region is a stretch of the new image with one map; a window is a stretch of a region with one
//! frame. The map is a list of covers in order of the new image, what lies between them is literal.
//!
//! Both images are logical ones here: see [`extents`].
//!
//! Invariants of a [`Map`]: covers are in order and do not overlap in the new image, each has a
//! length, and each lies within the old image and within the region.

pub(crate) mod covers;
pub(crate) mod extents;
pub(crate) mod lessons;
mod models;

use alloc::vec::Vec;

use crate::code::{Mapping, Module};
use crate::codec::numbers::unzigzag;
#[cfg(feature = "diff")]
use crate::codec::numbers::zigzag;
use crate::codec::range::Decoder;
use crate::header::Limits;
use covers::Covers;
use extents::Extents;
use models::{Models, START};

/// Regions are not longer, so that a cover's place and length fit 32 bits.
pub(crate) const REGION_LEN_MAX: u64 = 1 << 31;

/// A stretch of the new image that is, but for some bytes, a stretch of the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cover {
    /// Where it begins in the old image, and in the highest bit whether the bytes are the same: a
    /// device holds many covers.
    place: u64,
    /// Where it begins, counted from the region's start.
    pub(crate) new: u32,
    /// Its length, never 0.
    pub(crate) len: u32,
}

/// The bit of [`Cover::place`] that says that the bytes are the same; places are below it.
const EXACT: u64 = 1 << 63;

impl Cover {
    /// A cover of a place below 2^63.
    pub(crate) const fn new(old: u64, new: u32, len: u32, exact: bool) -> Self {
        let place = if exact { old | EXACT } else { old & !EXACT };
        Self { place, new, len }
    }

    /// Where it begins in the old image.
    #[inline]
    pub(crate) fn old(&self) -> u64 {
        self.place & !EXACT
    }

    /// Whether the bytes are the same, so that no difference is coded.
    #[inline]
    pub(crate) fn is_exact(&self) -> bool {
        self.place & EXACT != 0
    }

    pub(crate) fn new_end(&self) -> u32 {
        self.new + self.len
    }

    pub(crate) fn old_end(&self) -> u64 {
        self.old() + u64::from(self.len)
    }
}

/// Where a region's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Map {
    /// Bytes of the logical new image in this region.
    pub(crate) len: u32,
    /// Whether the new image ends with it.
    pub(crate) last: bool,
    /// What is compressed in it and in the old image.
    pub(crate) extents: Extents,
    /// In order of the new image.
    pub(crate) covers: Covers,
    /// Executables whose references are predicted, in order of the old image.
    pub(crate) modules: Vec<Module>,
}

/// A piece of the new image with one origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Segment {
    /// Bytes of the old image, to which differences may be added.
    Copy { cover: Cover, skip: u32, len: u32 },
    /// Bytes that are in the patch. `hint` is where the copy before them would go on in the old
    /// image.
    Literal { len: u32, hint: u64 },
}

/// Work goes in pieces of this size at most, counted from a cover's start.
pub(crate) const PIECE: u32 = 16 << 10;
/// What is copied as it is goes in pieces of this size at most: each is a call into the kernel.
pub(crate) const PIECE_EXACT: u32 = 64 << 10;

/// A part of a segment that is worked on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Where it, or its hint, stands in the logical old image.
    pub(crate) old: u64,
    pub(crate) len: u32,
}

impl Segment {
    pub(crate) fn len(&self) -> u32 {
        match *self {
            Self::Copy { len, .. } | Self::Literal { len, .. } => len,
        }
    }

    /// The pieces of this segment, in order. Signer and device cut alike.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Piece> + use<> {
        let (old, skip, total) = match *self {
            Self::Copy { cover, skip, len } => (cover.old() + u64::from(skip), skip, len),
            Self::Literal { len, hint } => (hint, 0, len),
        };
        let most = match self {
            Self::Copy { cover, .. } if cover.is_exact() => PIECE_EXACT,
            _ => PIECE,
        };
        let mut done = 0;
        core::iter::from_fn(move || {
            let len = (most - (skip + done) % most).min(total - done);
            let piece = Piece {
                old: old.checked_add(u64::from(done))?,
                len,
            };
            done += len;
            (len > 0).then_some(piece)
        })
    }
}

impl Map {
    /// The segments of `from..to`, in order.
    pub(crate) fn segments(&self, from: u32, to: u32) -> impl Iterator<Item = Segment> + '_ {
        let mut walk = self.covers.after(from);
        let mut before = walk.before;
        let mut next = walk.next();
        let mut at = from;
        core::iter::from_fn(move || {
            if at >= to {
                return None;
            }
            let segment = match next {
                Some(cover) if cover.new <= at => {
                    (before, next) = (cover, walk.next());
                    let len = cover.new_end().min(to) - at;
                    Segment::Copy {
                        cover,
                        skip: at - cover.new,
                        len,
                    }
                }
                follower => {
                    let end = follower.map_or(to, |cover| cover.new.min(to));
                    // Read as zeros beyond the end, so where exactly it lies beyond is all one.
                    let hint = before
                        .old_end()
                        .saturating_add(u64::from(at - before.new_end()));
                    Segment::Literal {
                        len: end - at,
                        hint,
                    }
                }
            };
            at += segment.len();
            Some(segment)
        })
    }

    /// Writes a map, by the steps that read it.
    #[cfg(feature = "diff")]
    pub(crate) fn write(&self, bits: &mut impl crate::codec::range::Bits, new_len: u64) {
        let mut models = Models::new();
        let beside = u64::from(self.len).wrapping_sub(new_len) as i64;
        models.head.code(bits, 0, zigzag(beside));
        models.head.code(bits, 1, self.covers.len() as u64);
        models.head.code(bits, 2, self.last.into());
        self.extents.write(bits);
        let mut previous = START;
        for cover in self.covers.iter() {
            models.cover(bits, &previous, Some(cover));
            previous = cover;
        }
        Module::write_all(&self.modules, bits);
    }

    /// Reads a map; `None` when it leads outside of the bounds.
    pub(crate) fn read(bits: &mut Decoder, bounds: &Bounds) -> Option<Self> {
        let mut models = Models::new();
        let beside = unzigzag(models.head.code(bits, 0, 0));
        let len = bounds.new_len.wrapping_add_signed(beside);
        let count = models.head.code(bits, 1, 0);
        let last = models.head.code(bits, 2, 0) != 0;
        if len == 0 || len > REGION_LEN_MAX || count > bounds.limits.covers_max {
            return None;
        }
        let len = u32::try_from(len).ok()?;
        let extents = Extents::read(bits, len, bounds)?;
        let logical_len = extents.logical_len(bounds.old_len);
        // Bounded by what the device accepted; grown as covers really come.
        let mut covers = Covers::default();
        let mut previous = START;
        for _ in 0..count {
            let cover = models.cover(bits, &previous, None)?;
            let fits = u64::from(cover.new) + u64::from(cover.len) <= u64::from(len)
                && cover.old().checked_add(u64::from(cover.len))? <= logical_len
                && !bits.ran_dry();
            if !fits {
                return None;
            }
            covers.push(cover);
            if covers.memory() > bounds.limits.tables_max {
                return None;
            }
            previous = cover;
        }
        covers.shrink();
        let held = extents.memory().saturating_add(covers.memory());
        let room = bounds.limits.tables_max.checked_sub(held)?;
        let modules = Module::read_all(bits, room)?;
        let map = Self {
            len,
            last,
            extents,
            covers,
            modules,
        };
        (map.lists_memory() <= bounds.limits.tables_max).then_some(map)
    }

    /// Where the old image's places went: empty when nobody asks, `None` when that takes more
    /// memory than there is.
    pub(crate) fn mapping(&self, memory_max: u64) -> Option<Mapping> {
        if self.modules.is_empty() {
            return Some(Mapping::default());
        }
        Mapping::new(&self.covers, memory_max.checked_sub(self.lists_memory())?)
    }

    /// Memory of all of it, and of the mapping.
    #[cfg(feature = "diff")]
    pub(crate) fn tables_memory(&self) -> u64 {
        let mapping = if self.modules.is_empty() {
            0
        } else {
            Mapping::memory(&self.covers)
        };
        self.lists_memory() + mapping
    }

    /// Memory of covers, extents and modules.
    fn lists_memory(&self) -> u64 {
        let modules: u64 = self.modules.iter().map(Module::memory).sum();
        self.covers.memory() + self.extents.memory() + modules
    }
}

/// What a window makes: `told` bytes of the `left` ones, or all of them where it says 0. `None`
/// beyond.
pub(crate) fn window_len(told: u64, left: u32) -> Option<u32> {
    match u32::try_from(told).ok()? {
        0 => Some(left),
        len => (len <= left).then_some(len),
    }
}

/// What a map has to stay within.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) old_len: u64,
    pub(crate) new_len: u64,
    pub(crate) limits: Limits,
}
