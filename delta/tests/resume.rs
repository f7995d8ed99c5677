//! A cut patch goes on from every checkpoint, whatever the pieces, and ends equal.
#![allow(
    clippy::cast_possible_truncation,
    reason = "the images of these tests are small"
)]

mod common;

use ampoule_delta::{Accept, Patcher};
use common::{noise, pair, patch_of, profiles};

/// Feeds `patch` in pieces, following the leaps the patcher asks for.
fn feed(
    patcher: &mut Patcher,
    patch: &[u8],
    old: &[u8],
    new: &mut Vec<u8>,
    piece: usize,
    mut seen: impl FnMut(&Patcher, &[u8]),
) -> u64 {
    let mut fed = 0;
    while !patcher.progress().done {
        let at = patcher.progress().wanted_at as usize;
        assert!(at < patch.len(), "it asks for byte {at} of {}", patch.len());
        let bytes = &patch[at..patch.len().min(at + piece)];
        fed += bytes.len() as u64;
        patcher.push(bytes, &mut &old[..], new).expect("it goes on");
        seen(patcher, new);
    }
    fed
}

#[test]
fn pieces_of_any_size_give_the_same_image() {
    let (old, new) = pair(50_000);
    for options in profiles() {
        let patch = patch_of(&old, &new, &options);
        for piece in [1, 2, 7, 100, 4096, usize::MAX >> 1] {
            let (mut patcher, mut out) = (Patcher::new(Accept::default()), Vec::new());
            feed(&mut patcher, &patch, &old, &mut out, piece, |_, _| {});
            patcher.finish().expect("it is whole");
            assert_eq!(out, new);
        }
    }
}

#[test]
fn a_cut_goes_on_from_every_checkpoint() {
    let (old, mut new) = pair(1 << 20);
    // New bytes enough for several windows.
    new.extend_from_slice(&noise(5 << 20, 4));
    new.extend_from_slice(&old[1000..]);
    for (options, block_len) in profiles().into_iter().zip([1 << 16, 4096]) {
        let patch = patch_of(&old, &new, &options);
        let accept = Accept {
            block_len,
            ..Accept::default()
        };
        let (mut patcher, mut out) = (Patcher::new(accept), Vec::new());
        let mut stored = Vec::new();
        feed(
            &mut patcher,
            &patch,
            &old,
            &mut out,
            1000,
            |patcher, out| {
                let Some(checkpoint) = patcher.checkpoint() else {
                    return;
                };
                assert_eq!(checkpoint.output_offset() % u64::from(block_len), 0);
                let bytes = checkpoint.to_bytes();
                assert!(bytes.len() < 1024 + block_len as usize);
                if stored.last().is_none_or(|(last, _)| *last != bytes) {
                    stored.push((bytes, out[..checkpoint.output_offset() as usize].to_vec()));
                }
            },
        );
        assert!(stored.len() > 2, "{} checkpoints", stored.len());
        for (checkpoint, durable) in stored {
            let mut patcher = Patcher::resume(accept, &checkpoint).expect("it resumes");
            let mut out = durable;
            let fed = feed(&mut patcher, &patch, &old, &mut out, 1000, |_, _| {});
            // The last checkpoint is at the end; nothing is fed, and the tail is still owed.
            if fed == 0 {
                patcher
                    .push(&[], &mut &old[..], &mut out)
                    .expect("the tail comes");
            }
            patcher.finish().expect("it is whole");
            assert!(out == new, "the resumed image differs");
        }
    }
}

#[test]
fn a_damaged_checkpoint_is_refused() {
    let (old, new) = pair(50_000);
    let patch = patch_of(&old, &new, &profiles()[0]);
    let (mut patcher, mut out) = (Patcher::new(Accept::default()), Vec::new());
    feed(&mut patcher, &patch, &old, &mut out, 1 << 20, |_, _| {});
    let bytes = patcher.checkpoint().expect("there is one").to_bytes();
    for at in (0..bytes.len()).step_by(13) {
        let mut bad = bytes.clone();
        bad[at] ^= 4;
        assert_eq!(
            Patcher::resume(Accept::default(), &bad)
                .expect_err("bad")
                .code(),
            "delta-checkpoint"
        );
    }
    let other = Accept {
        block_len: 1 << 20,
        ..Accept::default()
    };
    // Another block length would let appending begin inside of a block.
    assert_eq!(
        Patcher::resume(other, &bytes).is_ok(),
        out.len() % (1 << 20) == out.len() % (1 << 16)
    );
}
