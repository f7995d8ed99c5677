//! What each file or section of the new image costs in a patch.
//!
//! The patch is applied, which shows where each extent ends in the new image. A window's bytes are
//! exact; within a window, those for differences are spread over the copied stretches by the bytes
//! that differ there (by length within compressed extents), those for literals by length.

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use super::Frames;
use super::names::names;
use crate::codec::range::Decoder;
use crate::codec::varint::Reader;
use crate::error::{Damage, PatchError};
use crate::header::{Accept, Header};
use crate::image::{ImageError, NewImage};
use crate::plan::{Bounds, Map, Segment, window_len};

/// What a named part of the new image costs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Spent {
    /// A path, a section, or what else it is.
    pub name: String,
    /// Bytes of it in the new image.
    pub len: u64,
    /// Bytes of the patch that name differences in it.
    pub differences: u64,
    /// Bytes of the patch that are wholly new in it.
    pub literals: u64,
}

impl Spent {
    /// All bytes of it in the patch, but for its share of the maps.
    pub fn total(&self) -> u64 {
        self.differences + self.literals
    }
}

/// Tells what each part of `new` costs in `patch`, the dearest first; parts that cost nothing are
/// left out.
///
/// # Errors
/// As [`apply`](crate::apply), and [`PatchError::New`] when the patch does not make `new`.
pub fn spent(old: &mut &[u8], new: &[u8], patch: &[u8]) -> Result<Vec<Spent>, PatchError> {
    let mut made = Made {
        new,
        at: 0,
        lens: Vec::new(),
    };
    let accept = Accept {
        memory_max: super::MEMORY_MAX,
        ..Accept::default()
    };
    let header = crate::apply(old, patch, &mut made, &accept)?;
    let stretches = stretches(old, new, patch, &header, &made.lens)?;
    Ok(by_name(new, &stretches))
}

/// The new image, compared as it comes; the length of each piece is noted.
struct Made<'a> {
    new: &'a [u8],
    at: usize,
    lens: Vec<usize>,
}

impl NewImage for Made<'_> {
    fn append(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        let end = self.at + bytes.len();
        if self.new.get(self.at..end) != Some(bytes) {
            return Err(ImageError::new("it differs from the image that was given"));
        }
        self.lens.push(bytes.len());
        self.at = end;
        Ok(())
    }
}

/// A stretch of the new image and what it costs.
struct Stretch {
    place: Range<u64>,
    differences: f64,
    literals: f64,
}

fn stretches(
    old: &[u8],
    new: &[u8],
    patch: &[u8],
    header: &Header,
    lens: &[usize],
) -> Result<Vec<Stretch>, PatchError> {
    let Ok(Some((_, header_len))) = Header::parse(patch) else {
        return Err(PatchError::damaged(0, Damage::Header));
    };
    let mut frames = Frames {
        patch,
        at: header_len,
        max: header.limits.frame_max,
    };
    let bounds = Bounds {
        old_len: header.old_len,
        new_len: header.new_len,
        limits: header.limits,
    };
    let (mut stretches, mut lens, mut region_at) = (Vec::new(), lens.iter(), 0u64);
    while region_at < header.new_len {
        let (at, _, payload) = frames.next()?;
        let map = Map::read(&mut Decoder::new(payload), &bounds)
            .ok_or(PatchError::damaged(at as u64, Damage::Map))?;
        let real = Real::new(&map, region_at, &mut lens);
        let mut from = 0;
        while from < map.len {
            let (at, _, payload) = frames.next()?;
            let mut reader = Reader::new(payload);
            let told = reader.number();
            let len = told.and_then(|told| window_len(told, map.len - from));
            let (Some(len), Some(differences)) = (len, reader.number()) else {
                return Err(PatchError::damaged(at as u64, Damage::Window));
            };
            let rest = (payload.len() - reader.position()) as u64;
            let costs = (differences as f64, rest.saturating_sub(differences) as f64);
            let to = from + len;
            window(&map, from..to, &real, (old, new), costs, &mut stretches);
            from = to;
        }
        region_at = real.end;
    }
    Ok(stretches)
}

/// From places in a region to places in the new image.
struct Real {
    /// Where the plain bytes after each extent begin: in the region, and in the image.
    after: Vec<(u32, u64)>,
    end: u64,
}

impl Real {
    /// `lens` are the pieces in which the image came: an extent comes in one.
    fn new(map: &Map, region_at: u64, lens: &mut core::slice::Iter<'_, usize>) -> Self {
        let (mut after, mut real, mut logical) = (Vec::from([(0, region_at)]), region_at, 0u32);
        for extent in &map.extents.new {
            let mut plain = u64::from(extent.at - logical);
            while plain > 0 {
                let len = lens.next().map_or(plain, |len| *len as u64).max(1);
                plain = plain.saturating_sub(len);
            }
            real += u64::from(extent.at - logical);
            real += lens.next().map_or(0, |len| *len as u64);
            logical = extent.end();
            after.push((logical, real));
        }
        let mut plain = u64::from(map.len - logical);
        let end = real + plain;
        while plain > 0 {
            let len = lens.next().map_or(plain, |len| *len as u64).max(1);
            plain = plain.saturating_sub(len);
        }
        Self { after, end }
    }

    /// The image's bytes that a stretch of the region becomes; and whether they are the same bytes.
    fn place(&self, map: &Map, at: u32, len: u32) -> (Range<u64>, bool) {
        let index = self.after.partition_point(|(logical, _)| *logical <= at) - 1;
        let (logical, real) = self.after[index];
        match map.extents.new.get(index) {
            Some(extent) if extent.at <= at => {
                let plain = real + u64::from(extent.at - logical);
                (plain..self.after[index + 1].1.max(plain + 1), false)
            }
            _ => {
                let start = real + u64::from(at - logical);
                (start..start + u64::from(len), true)
            }
        }
    }
}

/// Spreads the bytes of one window.
fn window(
    map: &Map,
    range: Range<u32>,
    real: &Real,
    (old, new): (&[u8], &[u8]),
    (differences, literals): (f64, f64),
    out: &mut Vec<Stretch>,
) {
    let mut weighed = Vec::new();
    let mut at = range.start;
    for segment in map.segments(range.start, range.end) {
        for piece in segment.pieces() {
            let (place, plain) = real.place(map, at, piece.len);
            let weights = match segment {
                Segment::Copy { cover, .. } if cover.is_exact() => (0.0, 0.0),
                Segment::Copy { .. } if plain => {
                    let known = new.get(place.start as usize..place.end as usize);
                    let before =
                        old.get(piece.old as usize..(piece.old + u64::from(piece.len)) as usize);
                    let differing = known.zip(before).map_or(piece.len as usize, |(a, b)| {
                        a.iter().zip(b).filter(|(a, b)| a != b).count()
                    });
                    (differing as f64, 0.0)
                }
                Segment::Copy { .. } => (f64::from(piece.len) / 64.0, 0.0),
                Segment::Literal { .. } => (0.0, f64::from(piece.len)),
            };
            if weights != (0.0, 0.0) {
                weighed.push((place, weights));
            }
            at += piece.len;
        }
    }
    let sum = |of: fn(&(f64, f64)) -> f64| -> f64 {
        weighed
            .iter()
            .map(|(_, weights)| of(weights))
            .sum::<f64>()
            .max(1.0)
    };
    let (all_differences, all_literals) = (sum(|w| w.0), sum(|w| w.1));
    out.extend(weighed.into_iter().map(|(place, weights)| Stretch {
        place,
        differences: weights.0 / all_differences * differences,
        literals: weights.1 / all_literals * literals,
    }));
}

/// Adds up by the names that the new image has.
fn by_name(new: &[u8], stretches: &[Stretch]) -> Vec<Spent> {
    let parts = names(new);
    let mut sums: Vec<(f64, f64)> = alloc::vec![(0.0, 0.0); parts.len()];
    for stretch in stretches {
        let whole = (stretch.place.end - stretch.place.start) as f64;
        let first = parts.partition_point(|part| part.place.end <= stretch.place.start);
        for (part, sum) in parts[first..].iter().zip(&mut sums[first..]) {
            if part.place.start >= stretch.place.end {
                break;
            }
            let start = part.place.start.max(stretch.place.start);
            let share = (part.place.end.min(stretch.place.end) - start) as f64 / whole;
            sum.0 += stretch.differences * share;
            sum.1 += stretch.literals * share;
        }
    }
    let rounded = |number: f64| (number + 0.5) as u64;
    let mut spent: Vec<Spent> = parts
        .into_iter()
        .zip(sums)
        .map(|(part, (differences, literals))| Spent {
            name: part.name,
            len: part.place.end - part.place.start,
            differences: rounded(differences),
            literals: rounded(literals),
        })
        .filter(|spent| spent.total() > 0)
        .collect();
    spent.sort_by(|a, b| b.total().cmp(&a.total()).then_with(|| a.name.cmp(&b.name)));
    spent
}
