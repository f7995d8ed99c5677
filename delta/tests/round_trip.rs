//! patch(diff(old, new), old) is new: for ordinary, odd and random pairs, in both profiles.
#![allow(
    clippy::cast_possible_truncation,
    reason = "the images of these tests are small"
)]

mod common;

use ampoule_delta::{DiffOptions, diff, header, info};
use common::{PROGRAM, applied, noise, pair, patch_of, profiles};
use proptest::prelude::*;

fn check(old: &[u8], new: &[u8]) {
    for options in profiles() {
        let patch = patch_of(old, new, &options);
        assert_eq!(
            applied(old, &patch).expect("it applies"),
            new,
            "{:?}",
            options.profile
        );
        let header = header(&patch).expect("its header reads");
        assert_eq!(
            (header.old_len, header.new_len),
            (old.len() as u64, new.len() as u64)
        );
        assert!(header.memory_needed() <= options.memory_max);
        let info = info(&patch).expect("its parts read");
        assert_eq!(
            info.parts().iter().map(|(_, bytes)| bytes).sum::<u64>(),
            patch.len() as u64
        );
        let accounted = info.copied_exactly + info.copied_with_differences + info.new_bytes;
        assert_eq!(accounted, new.len() as u64);
    }
}

#[test]
fn odd_pairs_come_back() {
    let some = noise(5000, 1);
    check(b"", b"");
    check(b"", b"a");
    check(b"a", b"");
    check(b"a", b"b");
    check(b"", &some);
    check(&some, b"");
    check(&some, &some);
    check(&some, &noise(5000, 2));
    check(&some[..1], &some);
    check(&some, &[&some[..], b"!"].concat());
}

#[test]
fn repetitive_pairs_come_back_and_stay_small() {
    let (old, new) = (vec![0u8; 3 << 20], vec![0u8; 5 << 20]);
    check(&old, &new);
    check(&[7; 1000].repeat(100), &b"ab".repeat(400_000));
    let patch = patch_of(&old, &new, &profiles()[1]);
    assert!(patch.len() < 1000, "{} bytes for zeros", patch.len());
}

#[test]
fn a_pair_with_several_windows_comes_back() {
    let (old, new) = pair(1 << 20);
    check(&old, &new);
    let patch = patch_of(&old, &noise(5 << 20, 3), &profiles()[1]);
    assert!(info(&patch).expect("it reads").windows > 2);
    check(&old, &noise(5 << 20, 3));
}

/// Long enough for several windows, and for several threads to look for covers at once.
#[test]
fn the_same_pair_gives_the_same_patch_on_any_number_of_threads() {
    let (old, new) = pair(5 << 20);
    let patches = [1, 2, 3].map(|threads| {
        patch_of(
            &old,
            &new,
            &DiffOptions {
                threads,
                window_max: 1 << 20,
                ..profiles()[1].clone()
            },
        )
    });
    assert!(patches.iter().all(|patch| *patch == patches[0]));
}

/// Catches a patch that leaves no room for the program in a process of 6 MiB, and one that has the
/// smallest model because the largest does not fit.
#[test]
fn plain_images_take_six_mebibytes_with_the_program() {
    let (old, _) = pair(400_000);
    let new = [&old[..], &noise(700_000, 5)].concat();
    let patch = patch_of(&old, &new, &profiles()[1]);
    let header = header(&patch).expect("it reads");
    let needed = header.memory_needed();
    assert!(needed <= (6 << 20) - PROGRAM, "{needed} bytes");
    assert!(header.limits.model_max > 2 << 20, "{:?}", header.limits);
}

#[test]
fn a_patch_that_fits_no_device_is_not_made() {
    let (old, new) = pair(300_000);
    let options = DiffOptions {
        memory_max: 1 << 20,
        ..DiffOptions::default()
    };
    let error = diff(&old, &new, &options, &mut |_| {}).expect_err("a mebibyte is too little");
    assert_eq!(error.code(), "delta-memory-allowed");
}

/// What may happen to an image between two builds.
#[derive(Debug, Clone)]
enum Edit {
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    Move(prop::sample::Index, prop::sample::Index, usize),
    Flip(prop::sample::Index),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let place = any::<prop::sample::Index>;
    let edit = prop_oneof![
        (place(), prop::collection::vec(any::<u8>(), 0..200))
            .prop_map(|(at, b)| Edit::Insert(at, b)),
        (place(), 0..500usize).prop_map(|(at, len)| Edit::Remove(at, len)),
        (place(), place(), 0..900usize).prop_map(|(from, to, len)| Edit::Move(from, to, len)),
        place().prop_map(Edit::Flip),
    ];
    prop::collection::vec(edit, 0..12)
}

fn edited(old: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut new = old.to_vec();
    for edit in edits {
        let size = new.len();
        match edit {
            Edit::Insert(at, bytes) => {
                let at = at.index(size + 1);
                new.splice(at..at, bytes.iter().copied());
            }
            Edit::Remove(at, len) => {
                let at = at.index(size + 1);
                new.drain(at..(at + len).min(size));
            }
            Edit::Move(from, to, len) => {
                let from = from.index(size + 1);
                let part: Vec<u8> = new.drain(from..(from + len).min(size)).collect();
                let to = to.index(new.len() + 1);
                new.splice(to..to, part);
            }
            Edit::Flip(at) if size > 0 => new[at.index(size)] ^= 0x10,
            Edit::Flip(_) => {}
        }
    }
    new
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn edited_images_come_back(seed in any::<u64>(), len in 0..20_000usize, edits in edits()) {
        let old = noise(len, seed);
        check(&old, &edited(&old, &edits));
    }

    #[test]
    fn unrelated_low_entropy_images_come_back(
        old in prop::collection::vec(0..3u8, 0..2000),
        new in prop::collection::vec(0..3u8, 0..2000),
    ) {
        check(&old, &new);
    }
}
