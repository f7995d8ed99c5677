//! A damaged patch, or one against the wrong base, is an error before wrong bytes are believed:
//! never a panic, never memory beyond the accepted bound.
#![allow(
    clippy::cast_possible_truncation,
    reason = "the images of these tests are small"
)]

mod common;

use ampoule_delta::{Accept, Caps, ImageError, NewImage, PatchError, Patcher, header};
use common::{applied, pair, patch_of, profiles};

#[test]
fn any_flipped_bit_is_an_error() {
    let (old, new) = pair(6_000);
    for options in profiles() {
        let patch = patch_of(&old, &new, &options);
        for at in 0..patch.len() {
            for bit in 0..8 {
                let mut bad = patch.clone();
                bad[at] ^= 1 << bit;
                assert!(applied(&old, &bad).is_err(), "bit {bit} of byte {at}");
            }
        }
    }
}

#[test]
fn any_truncation_or_extension_is_an_error() {
    let (old, new) = pair(6_000);
    for options in profiles() {
        let patch = patch_of(&old, &new, &options);
        for len in 0..patch.len() {
            assert!(applied(&old, &patch[..len]).is_err(), "cut at {len}");
        }
        let error = applied(&old, &[&patch[..], b"x"].concat()).expect_err("one byte too many");
        assert_eq!(error.code(), "delta-trailing-bytes");
    }
}

/// A new image that must never be touched.
struct Untouched;

impl NewImage for Untouched {
    fn append(&mut self, _: &[u8]) -> Result<(), ImageError> {
        panic!("a byte was appended");
    }
}

#[test]
fn a_wrong_base_is_found_before_the_first_write() {
    let (old, new) = pair(60_000);
    let patch = patch_of(&old, &new, &profiles()[1]);
    for at in [0, 1234, old.len() - 1] {
        let mut wrong = old.clone();
        wrong[at] ^= 1;
        let mut patcher = Patcher::new(Accept::default());
        let error = patcher
            .push(&patch, &mut &wrong[..], &mut Untouched)
            .expect_err("wrong base");
        assert_eq!(error.code(), "delta-wrong-base");
    }
    let mut patcher = Patcher::new(Accept::default());
    let short = &old[..old.len() - 1];
    let error = patcher
        .push(&patch, &mut &short[..], &mut Untouched)
        .expect_err("short base");
    assert_eq!(error.code(), "delta-old-unreadable");
}

#[test]
fn what_the_device_does_not_accept_is_refused_before_the_base_is_read() {
    let (old, new) = pair(60_000);
    let patch = patch_of(&old, &new, &profiles()[0]);
    let needed = header(&patch).expect("it reads").memory_needed();
    let refused = |accept| {
        Patcher::new(accept)
            .push(&patch, &mut &b"not the base"[..], &mut Untouched)
            .expect_err("refused")
    };
    let little = Accept {
        memory_max: needed - 1,
        ..Accept::default()
    };
    assert!(matches!(refused(little), PatchError::Memory { .. }));
    let enough = Accept {
        memory_max: needed,
        caps: Caps::all(),
        ..Accept::default()
    };
    assert!(!matches!(refused(enough), PatchError::Memory { .. }));
}

#[test]
fn other_files_and_versions_are_told_apart() {
    let (old, new) = pair(600);
    let mut patch = patch_of(&old, &new, &profiles()[0]);
    assert_eq!(
        applied(&old, b"PK\x03\x04").expect_err("a zip").code(),
        "delta-not-a-patch"
    );
    assert_eq!(
        applied(&old, b"").expect_err("nothing").code(),
        "delta-truncated"
    );
    patch[4] = 99;
    assert_eq!(
        applied(&old, &patch).expect_err("version 99").code(),
        "delta-version-unknown"
    );
}
