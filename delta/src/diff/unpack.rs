//! Looking inside: compressed stretches of both images are found by their magic, and opened where
//! that is worth it and can be undone.
//!
//! An extent of the new image is opened when the old image does not hold the very same bytes and
//! when encoding its plain bytes again gives exactly its bytes; that is tried here, for each. An
//! extent of the old image is opened when it is not in the new image as it is.
//!
//! Nothing is parsed but the streams themselves: in tar, squashfs, ext4, cpio or a kernel image
//! they stand whole.

use alloc::borrow::Cow;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;

use twox_hash::XxHash3_64;

use crate::container::Codec;
use crate::container::lz4::{self, Lz4};
use crate::container::xz::{self, Xz};
use crate::header::Caps;
use crate::plan::extents::{NewExtent, OldExtent, decode_cost, encode_cost};

/// Both images as covers see them.
pub(super) struct Unpacked<'a> {
    pub(super) old: Cow<'a, [u8]>,
    pub(super) new: Cow<'a, [u8]>,
    pub(super) old_extents: Vec<OldExtent>,
    /// Places are in the whole logical new image.
    pub(super) new_extents: Vec<Opened>,
    /// Stretches of the old image that are read decoded: no use to look for matches in them.
    pub(super) old_encoded: Vec<Range<usize>>,
}

/// An extent of the new image, wherever it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opened {
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
            codec: self.codec,
        }
    }
}

/// A compressed stretch, its codec not yet proven.
#[derive(Debug, Clone, Copy)]
struct Stream {
    at: usize,
    len: usize,
    raw_len: usize,
    codec: Codec,
    /// Where the frame begins that it is a part of: such a one is opened whole or not at all, so
    /// that its plain bytes stay together.
    frame: usize,
}

/// Plain bytes of a stream, and the codec that was proven.
struct Plain {
    raw: Vec<u8>,
    codec: Codec,
}

/// Looks into both images.
pub(super) fn unpack<'a>(
    old: &'a [u8],
    new: &'a [u8],
    caps: Caps,
    memory_max: u64,
    threads: usize,
    progress: &mut dyn FnMut(u64),
) -> Unpacked<'a> {
    let (old_streams, new_streams) = (find(old, caps), find(new, caps));
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
    let fits = |stream: &Stream| {
        let raw_len = stream.raw_len as u32;
        let decode = decode_cost(stream.codec, stream.len as u32, raw_len);
        encode_cost(stream.codec, raw_len).saturating_add(decode.saturating_mul(2)) <= memory_max
    };
    let mut new_streams = changed(new, new_streams, &old_sums);
    let mut old_streams = changed(old, old_streams, &new_sums);
    new_streams.retain(fits);
    old_streams.retain(fits);

    let new_plain = prove(new, &new_streams, threads, progress);
    if new_plain.iter().all(Option::is_none) {
        old_streams.clear();
    }
    let old_plain = on_threads(old_streams.len(), threads, &|at| {
        let stream = &old_streams[at];
        stream
            .codec
            .decode(&old[stream.at..stream.at + stream.len], stream.raw_len)
    });
    assemble(old, new, &old_streams, old_plain, &new_streams, new_plain)
}

/// Puts the logical images together.
fn assemble<'a>(
    old: &'a [u8],
    new: &'a [u8],
    old_streams: &[Stream],
    old_plain: Vec<Option<Vec<u8>>>,
    new_streams: &[Stream],
    new_plain: Vec<Option<Plain>>,
) -> Unpacked<'a> {
    let (mut logical_old, mut old_extents) = (Cow::Borrowed(old), Vec::new());
    for (stream, raw) in old_streams.iter().zip(old_plain) {
        let Some(raw) = raw else { continue };
        old_extents.push(OldExtent {
            at: stream.at as u64,
            len: stream.len as u32,
            raw_at: logical_old.len() as u64,
            raw_len: stream.raw_len as u32,
            codec: stream.codec,
        });
        logical_old.to_mut().extend_from_slice(&raw);
    }
    let (mut new_extents, mut done) = (Vec::new(), 0);
    let mut logical_new = Vec::new();
    for (stream, plain) in new_streams.iter().zip(new_plain) {
        let Some(plain) = plain else { continue };
        logical_new.extend_from_slice(&new[done..stream.at]);
        let raw_len = plain.raw.len();
        new_extents.push(Opened {
            raw_at: logical_new.len(),
            raw_len,
            codec: plain.codec,
        });
        logical_new.extend_from_slice(&plain.raw);
        done = stream.at + stream.len;
    }
    let logical_new = if new_extents.is_empty() {
        Cow::Borrowed(new)
    } else {
        logical_new.extend_from_slice(&new[done..]);
        Cow::Owned(logical_new)
    };
    let old_encoded = old_extents
        .iter()
        .map(|e| e.at as usize..e.at as usize + e.len as usize)
        .collect();
    Unpacked {
        old: logical_old,
        new: logical_new,
        old_extents,
        new_extents,
        old_encoded,
    }
}

/// All streams that this build and the devices know, in order.
fn find(image: &[u8], caps: Caps) -> Vec<Stream> {
    let mut streams = Vec::new();
    let mut at = 0;
    // Both magics begin with a byte that is rare enough to look at every one.
    while let Some(next) = image[at..]
        .iter()
        .position(|byte| matches!(byte, 0xfd | 0x02))
    {
        at += next;
        let rest = &image[at..];
        let from = streams.len();
        if caps.contains(Caps::XZ) && rest.starts_with(xz::MAGIC) {
            streams.extend(Xz::measure(rest).map(|found| Stream {
                at,
                len: found.len,
                raw_len: found.raw_len,
                codec: Codec::Xz(found.xz),
                frame: at,
            }));
        } else if caps.contains(Caps::LZ4) && rest.starts_with(lz4::LEGACY_MAGIC) {
            find_legacy_blocks(image, at + lz4::LEGACY_MAGIC.len(), &mut streams);
        }
        at = match streams.last() {
            Some(last) if streams.len() > from => last.at + last.len,
            _ => at + 1,
        };
    }
    streams.retain(|s| s.raw_len > 0 && u32::try_from(s.raw_len.max(s.len)).is_ok());
    streams
}

/// The blocks of an LZ4 legacy frame.
fn find_legacy_blocks(image: &[u8], mut at: usize, streams: &mut Vec<Stream>) {
    let frame = at;
    while let Some(length) = image.get(at..at + 4) {
        let len = 4 + u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
        let Some(encoded) = image.get(at..at + len).filter(|encoded| encoded.len() > 8) else {
            return;
        };
        let Some(raw) = lz4::decode(encoded, lz4::LEGACY_BLOCK) else {
            return;
        };
        let codec = Codec::Lz4(Lz4 { level: 9 });
        streams.push(Stream {
            at,
            len,
            raw_len: raw.len(),
            codec,
            frame,
        });
        at += len;
        if raw.len() < lz4::LEGACY_BLOCK {
            return;
        }
    }
}

/// Decodes each stream and looks for the parameters that give its very bytes again.
fn prove(
    image: &[u8],
    streams: &[Stream],
    threads: usize,
    progress: &mut dyn FnMut(u64),
) -> Vec<Option<Plain>> {
    // Streams of one image are mostly made alike: what holds for the first is tried first.
    let hint = streams
        .first()
        .and_then(|first| prove_one(image, first, None))
        .map(|p| p.codec);
    progress(0);
    let proven = on_threads(streams.len(), threads, &|at| {
        prove_one(image, &streams[at], hint)
    });
    progress(image.len() as u64);
    proven
}

fn prove_one(image: &[u8], stream: &Stream, hint: Option<Codec>) -> Option<Plain> {
    let encoded = &image[stream.at..stream.at + stream.len];
    let raw = stream.codec.decode(encoded, stream.raw_len)?;
    let same = |codec: &Codec| codec.encode(&raw).is_some_and(|again| again == encoded);
    let hinted = match (stream.codec, hint) {
        (Codec::Xz(xz), Some(Codec::Xz(known))) => Some(Codec::Xz(xz.with_preset_of(known))),
        (Codec::Lz4(_), Some(known @ Codec::Lz4(_))) => Some(known),
        _ => None,
    };
    if let Some(codec) = hinted {
        // When the hint fails the stream is rarely worth a search.
        return same(&codec).then_some(Plain { raw, codec });
    }
    let codec = match stream.codec {
        Codec::Xz(xz) => xz.candidates().map(Codec::Xz).find(same),
        Codec::Lz4(_) => Lz4::candidates().map(Codec::Lz4).find(same),
    }?;
    Some(Plain { raw, codec })
}

/// Does `work` for `0..count` on some threads; results are in order.
pub(super) fn on_threads<T: Send>(
    count: usize,
    threads: usize,
    work: &(dyn Fn(usize) -> T + Sync),
) -> Vec<T> {
    if threads <= 1 || count <= 1 {
        return (0..count).map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(count));
    std::thread::scope(|scope| {
        for _ in 0..threads.min(count) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count {
                        return;
                    }
                    let result = work(at);
                    done.lock().expect("no worker panics").push((at, result));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no worker panics");
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}
