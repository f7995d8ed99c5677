//! Any two images: a patch is made and gives the second again. What looks like an executable or a
//! compressed stretch in them goes through the signer's readers of those.
//!
//! The first byte says where the first image ends, in 256ths.
#![no_main]

use ampoule_delta::{Accept, DiffOptions, Profile, apply, diff};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let [first, rest @ ..] = bytes else { return };
    let (old, new) = rest.split_at(rest.len() * usize::from(*first) / 256);
    let profile = if first % 2 == 0 { Profile::Fast } else { Profile::Small };
    let options = DiffOptions { profile, memory_max: 64 << 20, threads: 1, ..DiffOptions::default() };
    let Ok(patch) = diff(old, new, &options, &mut |_| {}) else { return };
    let mut out = Vec::new();
    apply(&mut &old[..], &patch, &mut out, &Accept::default()).expect("what we make, applies");
    assert_eq!(out, new);
});
