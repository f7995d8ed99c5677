//! A frame whose check is right but whose bytes are not: a check is no signature, so whoever made
//! the patch may have written anything. The decoders must answer with an error or with wrong bytes
//! (which the block hash tree finds), never with a panic and never beyond the accepted memory.

#[path = "../../tests/common/executables.rs"]
mod executables;

use alloc::vec::Vec;

use executables::executables;

use super::{Patcher, apply};
use crate::codec::frame;
use crate::header::{Accept, Header, Profile};
use crate::{DiffOptions, diff};

/// Header bytes, and the payloads of all frames.
fn taken_apart(patch: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (header, mut at) = Header::parse(patch)
        .expect("it is one")
        .expect("it is whole");
    let (start, mut payloads) = (at, Vec::new());
    while at < patch.len() {
        let head = frame::Head::parse(&patch[at..], header.limits.frame_max)
            .expect("a head")
            .expect("a whole head");
        payloads.push(patch[at + head.start..at + head.start + head.len].to_vec());
        at += head.start + head.len;
    }
    (patch[..start].to_vec(), payloads)
}

fn put_together(header: &[u8], payloads: &[Vec<u8>]) -> Vec<u8> {
    let mut patch = header.to_vec();
    for payload in payloads {
        let at = patch.len() as u64;
        frame::write(&mut patch, at, payload);
    }
    patch
}

/// An image and its successor with executables and a compressed stretch in them.
fn images() -> (Vec<u8>, Vec<u8>) {
    let xz = |seed: u8| {
        let raw: Vec<u8> = (0..20_000u32)
            .map(|n| ((n / 3 * u32::from(seed)) >> 4) as u8)
            .collect();
        let mut stream =
            liblzma::stream::Stream::new_easy_encoder(6, liblzma::stream::Check::Crc32)
                .expect("an encoder");
        let mut out = Vec::with_capacity(40_000);
        stream
            .process_vec(&raw, &mut out, liblzma::stream::Action::Finish)
            .expect("it encodes");
        out
    };
    let (x64_old, x64_new) = executables(62);
    let (a64_old, a64_new) = executables(183);
    (
        [x64_old, a64_old, xz(7)].concat(),
        [x64_new, a64_new, xz(9)].concat(),
    )
}

/// What looks like an executable or a stream may be anything: the signer's readers pass it over.
#[test]
fn odd_executables_and_streams_make_a_good_patch() {
    let (old, new) = images();
    let mut state = 11u32;
    for round in 0..60 {
        let (mut old, mut new) = (old.clone(), new.clone());
        for image in [&mut old, &mut new] {
            for _ in 0..8 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Headers stand at the start; what follows them is hit now and then.
                let reach = if state & 1 == 0 { 64 } else { image.len() };
                let place = (state >> 8) as usize % reach;
                image[place] = (state >> 3) as u8;
            }
        }
        let options = DiffOptions {
            memory_max: 256 << 20,
            ..DiffOptions::default()
        };
        let patch = diff(&old, &new, &options, &mut |_| {}).expect("a patch");
        let mut whole = Vec::new();
        apply(&mut &old[..], &patch, &mut whole, &Accept::default()).expect("it applies");
        assert!(whole == new, "round {round}");
    }
}

/// New bytes in the middle of others like them: the model is shown those first, and a class that
/// there is not is refused. Catches a class that is taken for another by the device.
#[test]
fn a_short_patch_is_taught() {
    let word = |n: u32| alloc::format!("function step{n}(value, index) {{ return value; }}\n");
    let old: alloc::string::String = (0..400).map(word).collect();
    let (before, after) = old.split_at(old.len() / 2);
    let new = [before, "function stepped(index) { return index; }\n", after].concat();
    let patch = diff(
        old.as_bytes(),
        new.as_bytes(),
        &DiffOptions::default(),
        &mut |_| {},
    )
    .expect("a patch");
    let made = |patch: &[u8]| {
        let mut out = Vec::new();
        apply(&mut old.as_bytes(), patch, &mut out, &Accept::default()).map(|_| out)
    };
    assert_eq!(made(&patch).expect("it applies"), new.as_bytes());
    let (header, payloads) = taken_apart(&patch);
    // Behind the length and the number of differences, a byte each.
    let class = |payload: &[u8]| payload[2] >> 2;
    assert!((1..=8).contains(&class(&payloads[1])), "it has lessons");
    for other in 0..64 {
        let mut payloads = payloads.clone();
        payloads[1][2] = payloads[1][2] & 3 | other << 2;
        let forged = put_together(&header, &payloads);
        assert_eq!(made(&forged).is_ok(), forged == patch, "class {other}");
    }
}

#[test]
fn tampered_frames_never_panic() {
    let (old, new) = images();
    for profile in [Profile::Fast, Profile::Small] {
        let options = DiffOptions {
            profile,
            memory_max: 256 << 20,
            ..DiffOptions::default()
        };
        let patch = diff(&old, &new, &options, &mut |_| {}).expect("a patch");
        let header = crate::header(&patch).expect("a header");
        assert_eq!(
            header.caps_needed,
            crate::Caps::CODE.with(crate::Caps::XZ),
            "it uses everything"
        );
        let mut whole = Vec::new();
        apply(&mut &old[..], &patch, &mut whole, &Accept::default()).expect("it applies");
        assert!(whole == new);

        let (header, payloads) = taken_apart(&patch);
        let mut state = 7u32;
        for _ in 0..300 {
            let mut payloads = payloads.clone();
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let frame = (state >> 16) as usize % payloads.len();
            let place = (state >> 8) as usize % payloads[frame].len();
            match state >> 30 {
                0 => payloads[frame].truncate(place),
                _ => payloads[frame][place] ^= (state >> 4) as u8 | 1,
            }
            let mut out = Vec::new();
            let mut patcher = Patcher::new(Accept::default());
            let tampered = put_together(&header, &payloads);
            let _ = patcher.push(&tampered, &mut &old[..], &mut out);
            assert!(out.len() <= new.len(), "more came out than the header says");
        }
    }
}
