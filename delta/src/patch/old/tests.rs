//! What is kept of decoded extents.

use alloc::vec;
use alloc::vec::Vec;

use super::slices::SLICE;
use super::{Cache, OldView};
use crate::container::lz4::Lz4;
use crate::container::{Codec, Encoder};
use crate::image::{ImageError, OldImage};
use crate::plan::extents::{OldExtent, decode_cost};
use crate::plan::{Cover, Map};

const EXTENTS: usize = 40;
/// Slices of an extent.
const SLICES: usize = 16;
const RAW_LEN: usize = SLICES * SLICE as usize;

/// An image that counts its reads: there is one for each extent that is decoded.
struct Counted {
    bytes: Vec<u8>,
    reads: usize,
}

impl OldImage for Counted {
    fn read_at(&mut self, at: u64, buf: &mut [u8]) -> Result<(), ImageError> {
        self.reads += 1;
        buf.copy_from_slice(&self.bytes[at as usize..][..buf.len()]);
        Ok(())
    }
}

/// Compressed extents one after the other, and the map of an image that takes the first slice of
/// each, then the second, and so on; also what they hold.
fn scattered(mut byte: impl FnMut() -> u8) -> (Vec<u8>, Map, Vec<u8>) {
    let codec = Codec::Lz4(Lz4 {
        level: 1,
        with_length: false,
        reach: 0,
        filled: false,
    });
    let raw: Vec<u8> = (0..EXTENTS * RAW_LEN).map(|_| byte()).collect();
    let (mut image, mut extents) = (Vec::new(), Vec::new());
    for raw in raw.chunks(RAW_LEN) {
        let at = image.len();
        let mut encoder = Encoder::new(codec, RAW_LEN as u32, 0).expect("a known codec");
        encoder.push(raw, &mut image).expect("it is encoded");
        encoder.finish(&mut image).expect("it is encoded");
        extents.push((at, image.len() - at));
    }
    let image_len = image.len() as u64;
    let raw_at = |index: usize| image_len + (index * RAW_LEN) as u64;
    let extents = extents.iter().enumerate();
    let extents = extents.map(|(index, (at, len))| OldExtent {
        at: *at as u64,
        len: *len as u32,
        raw_at: raw_at(index),
        raw_len: RAW_LEN as u32,
        codec,
    });
    let mut map = Map {
        len: raw.len() as u32,
        ..Map::default()
    };
    map.extents.old = extents.collect();
    let places = (0..SLICES).flat_map(|slice| (0..EXTENTS).map(move |index| (index, slice)));
    let covers = places.zip(0..).map(|((index, slice), number)| {
        let old = raw_at(index) + u64::from(SLICE) * slice as u64;
        Cover::new(old, number * SLICE, SLICE, true)
    });
    map.covers = covers.collect();
    (image, map, raw)
}

/// Reads what the map says, in its order, with so much room; says how often an extent was decoded.
fn decoded((bytes, map, raw): (Vec<u8>, Map, Vec<u8>), room: u64) -> usize {
    let (image_len, mut image) = (bytes.len() as u64, Counted { bytes, reads: 0 });
    let mut cache = Cache::default();
    for cover in map.covers.iter() {
        let mut view = OldView {
            image: &mut image,
            image_len,
            map: &map,
            at: cover.new,
            cache: &mut cache,
            cache_max: room,
            asked_at: 0,
        };
        let mut read = vec![0; SLICE as usize];
        view.read_at(cover.old(), &mut read).expect("it is there");
        let at = (cover.old() - image_len) as usize;
        assert!(read == raw[at..][..read.len()], "{cover:?}");
    }
    image.reads
}

/// What it takes to decode any extent of a map.
fn least(map: &Map) -> u64 {
    let costs = map.extents.old.iter();
    let costs = costs.map(|extent| decode_cost(extent.codec, extent.len, extent.raw_len));
    costs.max().expect("there are extents")
}

/// Catches keeping extents whole, and keeping what was read last instead of what is read next: then
/// each slice costs the decoding of its extent, 640 in all.
#[test]
fn what_is_read_soonest_is_kept() {
    let mut state = 1_u32;
    let noise = scattered(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    let room = (1 << 20) + least(&noise.1);
    let decoded = decoded(noise, room);
    assert!(decoded >= EXTENTS, "each is decoded");
    assert!(decoded <= 5 * EXTENTS, "{decoded} were decoded");
}

/// Catches a patch that is refused because the room that its header declares holds what is decoded and
/// not the slice that is wanted: zeros take none beside them.
#[test]
fn the_least_room_is_enough() {
    let zeros = scattered(|| 0);
    let room = least(&zeros.1);
    assert_eq!(decoded(zeros, room), EXTENTS * SLICES);
}
