//! Looking inside: compressed stretches of both images are found by their magic, and opened where
//! that is worth it and can be undone.
//!
//! An extent of the new image is opened when the old image does not hold the very same bytes and
//! when encoding its plain bytes again gives exactly its bytes; that is tried here, for each. An
//! extent of the old image is opened when it is not in the new image as it is.

mod erofs;
mod find;
mod prove;
mod squashfs;

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::ops::Range;

use twox_hash::XxHash3_64;

use find::Stream;
use prove::{Plain, prove};

use super::threads::{both, on_threads};
use crate::container::Codec;
use crate::header::Caps;
use crate::plan::extents::{NewExtent, OldExtent, decode_cost, encode_cost};

/// Both images as covers see them.
pub(super) struct Unpacked {
    /// `None` where nothing was opened.
    pub(super) old: Option<Vec<u8>>,
    pub(super) new: Option<Vec<u8>>,
    pub(super) old_extents: Vec<OldExtent>,
    /// Places are in the whole logical new image.
    pub(super) new_extents: Vec<Opened>,
    /// Stretches of the old image that are read decoded: no use to look for matches in them.
    pub(super) old_encoded: Vec<Range<usize>>,
}

/// An extent of the new image, wherever it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opened {
    /// Where it stood in the image that was looked into, and its length there.
    pub(super) at: usize,
    pub(super) len: usize,
    pub(super) raw_at: usize,
    pub(super) raw_len: usize,
    pub(super) codec: Codec,
}

impl Opened {
    /// The extent in the region that begins at `start`.
    pub(super) fn within(&self, start: usize) -> NewExtent {
        NewExtent {
            at: (self.raw_at - start) as u32,
            raw_len: self.raw_len as u32,
            len: if self.codec.asks_length() {
                self.len as u32
            } else {
                0
            },
            codec: self.codec,
        }
    }
}

/// A compressed stretch of an image, and whether it can be reproduced byte for byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// Where it begins in the image.
    pub at: usize,
    /// Its length in the image.
    pub len: usize,
    /// The length of what it decodes to.
    pub raw_len: usize,
    /// What a device must have to make it again.
    pub needs: Caps,
    /// Whether it comes out the same: a delta opens no others.
    pub reproduced: bool,
}

/// Finds what is compressed in an image, in order, and tries each whether it can be reproduced.
pub fn openings(image: &[u8], caps: Caps, threads: usize) -> Vec<Opening> {
    let streams = find::streams(image, caps);
    let proven = prove(image, &streams, threads, &mut |_| {});
    let both = streams.iter().zip(&proven);
    both.map(|(stream, plain)| Opening {
        at: stream.at,
        len: stream.len,
        raw_len: stream.raw_len,
        needs: stream.codec.caps(),
        reproduced: plain.is_some(),
    })
    .collect()
}

/// Looks into both images.
pub(super) fn unpack(
    old: &[u8],
    new: &[u8],
    caps: Caps,
    memory_max: u64,
    threads: usize,
    progress: &mut dyn FnMut(u64),
) -> Unpacked {
    let (old_streams, new_streams) = both(
        threads,
        || find::streams(old, caps),
        || find::streams(new, caps),
    );
    let sums = |image: &[u8], streams: &[Stream]| -> BTreeSet<u64> {
        streams
            .iter()
            .map(|s| XxHash3_64::oneshot(&image[s.at..s.at + s.len]))
            .collect()
    };
    let (old_sums, new_sums) = (sums(old, &old_streams), sums(new, &new_streams));
    let changed = |image: &[u8], streams: Vec<Stream>, others: &BTreeSet<u64>| -> Vec<Stream> {
        let sum = |s: &Stream| XxHash3_64::oneshot(&image[s.at..s.at + s.len]);
        let frames: BTreeSet<usize> = streams
            .iter()
            .filter(|s| !others.contains(&sum(s)))
            .map(|s| s.frame)
            .collect();
        streams
            .into_iter()
            .filter(|s| frames.contains(&s.frame))
            .collect()
    };
    let mut new_streams = changed(new, new_streams, &old_sums);
    let mut old_streams = changed(old, old_streams, &new_sums);
    fit(&mut old_streams, &mut new_streams, memory_max);

    let mut new_plain = prove(new, &new_streams, threads, progress);
    // What made a stream may need more than was thought of.
    let left = memory_max.saturating_sub(most_to_decode(&old_streams));
    for plain in &mut new_plain {
        let fits = |plain: &Plain| encode_cost(plain.codec, plain.raw.len() as u32) <= left;
        *plain = plain.take().filter(fits);
    }
    if new_plain.iter().all(Option::is_none) {
        old_streams.clear();
    }
    prove::keep_few_codecs(&mut old_streams);
    let old_plain = on_threads(old_streams.len(), threads, &|at| {
        let stream = &old_streams[at];
        stream
            .codec
            .decode(&old[stream.at..stream.at + stream.len], stream.raw_len)
    });
    assemble(old, new, &old_streams, old_plain, &new_streams, new_plain)
}

/// Drops streams that a device could not open: when not all fit its memory together, each side gets
/// half of it.
fn fit(old: &mut Vec<Stream>, new: &mut Vec<Stream>, memory_max: u64) {
    let encode = |s: &Stream| encode_cost(s.codec, s.raw_len as u32);
    let most = new.iter().map(encode).max().unwrap_or(0);
    if most_to_decode(old).saturating_add(most) > memory_max {
        old.retain(|s| to_decode(s) <= memory_max / 2);
        let left = memory_max - most_to_decode(old);
        new.retain(|s| encode(s) <= left);
    }
}

fn to_decode(stream: &Stream) -> u64 {
    decode_cost(stream.codec, stream.len as u32, stream.raw_len as u32)
}

fn most_to_decode(streams: &[Stream]) -> u64 {
    streams.iter().map(to_decode).max().unwrap_or(0)
}

/// Puts the logical images together.
fn assemble(
    old: &[u8],
    new: &[u8],
    old_streams: &[Stream],
    old_plain: Vec<Option<Vec<u8>>>,
    new_streams: &[Stream],
    new_plain: Vec<Option<Plain>>,
) -> Unpacked {
    let more = |plain: &mut dyn Iterator<Item = usize>| plain.sum::<usize>();
    let grown = old.len() + more(&mut old_plain.iter().flatten().map(Vec::len));
    let mut logical_old = Vec::new();
    let mut old_extents = Vec::new();
    for (stream, raw) in old_streams.iter().zip(old_plain) {
        let Some(raw) = raw else { continue };
        if logical_old.is_empty() {
            logical_old.reserve_exact(grown);
            logical_old.extend_from_slice(old);
        }
        old_extents.push(OldExtent {
            at: stream.at as u64,
            len: stream.len as u32,
            raw_at: logical_old.len() as u64,
            raw_len: stream.raw_len as u32,
            codec: stream.codec,
        });
        logical_old.extend_from_slice(&raw);
    }
    let grown = new.len() + more(&mut new_plain.iter().flatten().map(|plain| plain.raw.len()));
    let mut logical_new = Vec::new();
    let (mut new_extents, mut done) = (Vec::new(), 0);
    for (stream, plain) in new_streams.iter().zip(new_plain) {
        let Some(plain) = plain else { continue };
        if new_extents.is_empty() {
            logical_new.reserve_exact(grown);
        }
        logical_new.extend_from_slice(&new[done..stream.at]);
        let raw_len = plain.raw.len();
        new_extents.push(Opened {
            at: stream.at,
            len: stream.len,
            raw_at: logical_new.len(),
            raw_len,
            codec: plain.codec,
        });
        logical_new.extend_from_slice(&plain.raw);
        done = stream.at + stream.len;
    }
    if !new_extents.is_empty() {
        logical_new.extend_from_slice(&new[done..]);
    }
    let old_encoded = old_extents
        .iter()
        .map(|e| e.at as usize..e.at as usize + e.len as usize)
        .collect();
    Unpacked {
        old: (!old_extents.is_empty()).then_some(logical_old),
        new: (!new_extents.is_empty()).then_some(logical_new),
        old_extents,
        new_extents,
        old_encoded,
    }
}
