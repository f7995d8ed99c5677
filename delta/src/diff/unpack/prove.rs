//! What made a stream: found by encoding its plain bytes again until its very bytes come out.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::find::Stream;
use crate::container::{Codec, Encoder};
use crate::diff::threads::on_threads;
use crate::plan::extents::CODECS_MAX;

/// Logical bytes of a stream, and the codec that was proven.
pub(super) struct Plain {
    pub(super) raw: Vec<u8>,
    pub(super) codec: Codec,
}

/// Where there are no more streams of a kind, each is searched through.
const FEW: usize = 48;
/// So many streams of a kind are tried for a hint.
const HINTS_TRIED: usize = 4;

/// Decodes each stream and looks for the parameters that give its very bytes again.
pub(super) fn prove(
    image: &[u8],
    streams: &[Stream],
    threads: usize,
    progress: &mut dyn FnMut(u64),
) -> Vec<Option<Plain>> {
    progress(0);
    // Streams of one image are mostly made alike: what holds for one is tried first.
    let mut kinds: BTreeMap<u8, Kind> = BTreeMap::new();
    for (at, stream) in streams.iter().enumerate() {
        kinds
            .entry(kind(stream.codec))
            .or_default()
            .streams
            .push(at);
    }
    for known in kinds.values_mut() {
        let step = known.streams.len().div_ceil(HINTS_TRIED);
        let mut tried = known.streams.iter().step_by(step);
        known.first = tried.find_map(|at| Some((*at, prove_one(image, &streams[*at], None)?)));
    }
    let mut proven = on_threads(streams.len(), threads, &|at| {
        let stream = &streams[at];
        let known = kinds.get(&kind(stream.codec))?;
        let is_one_of_few = known.streams.len() <= FEW;
        match &known.first {
            None if !is_one_of_few => None,
            Some((first, _)) if *first == at => None,
            first => {
                let hint = first.as_ref().map(|(_, plain)| plain.codec);
                prove_hinted(image, stream, hint)
                    .or_else(|| prove_one(image, stream, None).filter(|_| is_one_of_few))
            }
        }
    });
    for (at, plain) in kinds.into_values().filter_map(|known| known.first) {
        proven[at] = Some(plain);
    }
    let mut rarest = Rarest::default();
    for plain in proven.iter().flatten() {
        rarest.count(plain.codec);
    }
    let kept = rarest.most(CODECS_MAX as usize / 2);
    for plain in &mut proven {
        if plain
            .as_ref()
            .is_some_and(|plain| !kept.contains(&plain.codec))
        {
            *plain = None;
        }
    }
    progress(image.len() as u64);
    proven
}

/// The streams of one kind.
#[derive(Default)]
struct Kind {
    streams: Vec<usize>,
    /// The first that was proven: a hint for the others.
    first: Option<(usize, Plain)>,
}

fn kind(codec: Codec) -> u8 {
    match codec {
        Codec::Xz(_) => 0,
        Codec::Lz4(lz4) if lz4.filled => 4,
        Codec::Lz4(_) => 1,
        Codec::Deflate(_) => 2,
        Codec::Zstd(_) => 3,
    }
}

/// Tries what made another stream alone.
fn prove_hinted(image: &[u8], stream: &Stream, hint: Option<Codec>) -> Option<Plain> {
    let encoded = &image[stream.at..stream.at + stream.len];
    let candidates: Vec<Codec> = match (stream.codec, hint?) {
        (codec, _) if codec.has_corrections() => return prove_one(image, stream, hint),
        (Codec::Xz(xz), Codec::Xz(known)) => Vec::from([Codec::Xz(xz.with_preset_of(known))]),
        (Codec::Lz4(lz4), Codec::Lz4(known)) => lz4.with_level_of(known).map(Codec::Lz4).collect(),
        (Codec::Zstd(zstd), Codec::Zstd(known)) => Vec::from([Codec::Zstd(zstd.made_as(known))]),
        _ => return None,
    };
    let raw = stream.codec.decode(encoded, stream.raw_len)?;
    let mut candidates = candidates.into_iter();
    let codec = candidates.find_map(|codec| made_by(codec, &raw, encoded))?;
    Some(Plain { raw, codec })
}

/// The codec, if encoding `raw` by it gives just `encoded`, with no more in it than that takes; it
/// ends at the first byte that differs.
fn made_by(codec: Codec, raw: &[u8], encoded: &[u8]) -> Option<Codec> {
    const PIECE: usize = 1 << 20;
    let (raw_len, len) = (
        u32::try_from(raw.len()).ok()?,
        u32::try_from(encoded.len()).ok()?,
    );
    let mut encoder = Encoder::new(codec, raw_len, len)?;
    let (mut out, mut rest) = (Vec::new(), encoded);
    for piece in raw.chunks(PIECE) {
        encoder.push(piece, &mut out)?;
        rest = rest.strip_prefix(&out[..])?;
        out.clear();
    }
    let codec = encoder.settled(codec);
    encoder.finish(&mut out)?;
    (rest == out).then_some(codec)
}

/// Searches through all that could have made a stream.
fn prove_one(image: &[u8], stream: &Stream, hint: Option<Codec>) -> Option<Plain> {
    let encoded = &image[stream.at..stream.at + stream.len];
    if stream.codec.has_corrections() {
        let (raw, codec) = stream.codec.explain(encoded, stream.raw_len, hint)?;
        let codec = made_by(codec, &raw, encoded)?;
        return Some(Plain { raw, codec });
    }
    let raw = stream.codec.decode(encoded, stream.raw_len)?;
    let proven = |codec: Codec| made_by(codec, &raw, encoded);
    let codec = match stream.codec {
        Codec::Xz(xz) => {
            let presets = xz.candidates().filter(|xz| xz.begins(encoded, &raw));
            presets.map(Codec::Xz).find_map(proven)
        }
        Codec::Lz4(lz4) => lz4.candidates().map(Codec::Lz4).find_map(proven),
        Codec::Zstd(zstd) => {
            let mut candidates = zstd.candidates(encoded, &raw);
            candidates.find_map(|zstd| proven(Codec::Zstd(zstd)))
        }
        Codec::Deflate(_) => None,
    }?;
    Some(Plain { raw, codec })
}

/// How often codecs occur.
#[derive(Default)]
struct Rarest(BTreeMap<Codec, usize>);

impl Rarest {
    fn count(&mut self, codec: Codec) {
        *self.0.entry(codec).or_default() += 1;
    }

    /// The most frequent ones, at most `max`.
    fn most(self, max: usize) -> Vec<Codec> {
        let mut all: Vec<_> = self.0.into_iter().collect();
        all.sort_by_key(|(codec, count)| (core::cmp::Reverse(*count), *codec));
        all.into_iter().take(max).map(|(codec, _)| codec).collect()
    }
}

/// Streams of the old image are only read: what does not matter for that is made equal, and what is
/// still rare is dropped, since a patch names few codecs.
pub(super) fn keep_few_codecs(streams: &mut Vec<Stream>) {
    let mut rarest = Rarest::default();
    for stream in streams.iter_mut() {
        stream.codec = stream.codec.to_read();
        rarest.count(stream.codec);
    }
    let kept = rarest.most(CODECS_MAX as usize / 2);
    streams.retain(|stream| kept.contains(&stream.codec));
}
