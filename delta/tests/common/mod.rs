//! Images to make patches of, shared by the stories beside it.
#![allow(dead_code, reason = "each test binary uses its part")]

use ampoule_delta::{Accept, DiffOptions, Profile, diff};

/// Bytes that look random and are the same each time.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

/// An image and its successor: moved, changed, grown and shrunk parts, some repetition.
pub(crate) fn pair(len: usize) -> (Vec<u8>, Vec<u8>) {
    let mut old = noise(len, 7);
    let quarter = len / 4;
    old[..quarter]
        .iter_mut()
        .enumerate()
        .for_each(|(at, byte)| *byte = (at % 251) as u8);
    let mut new = old[quarter..3 * quarter].to_vec();
    new.extend_from_slice(&noise(len / 16, 8));
    new.extend_from_slice(&old[..quarter]);
    new.extend_from_slice(&old[3 * quarter..]);
    for at in (0..new.len()).step_by(997) {
        new[at] = new[at].wrapping_add(3);
    }
    (old, new)
}

/// Both profiles, with the defaults else.
pub(crate) fn profiles() -> [DiffOptions; 2] {
    [Profile::Fast, Profile::Small].map(|profile| DiffOptions {
        profile,
        memory_max: 64 << 20,
        ..DiffOptions::default()
    })
}

/// A patch, in a profile.
pub(crate) fn patch_of(old: &[u8], new: &[u8], options: &DiffOptions) -> Vec<u8> {
    diff(old, new, options, &mut |_| {}).expect("a patch can be made")
}

/// Applies a patch in one piece.
pub(crate) fn applied(old: &[u8], patch: &[u8]) -> Result<Vec<u8>, ampoule_delta::PatchError> {
    let mut out = Vec::new();
    ampoule_delta::apply(&mut &old[..], patch, &mut out, &Accept::default())?;
    Ok(out)
}
