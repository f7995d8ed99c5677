//! Images to make patches of, shared by the stories beside it.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "the images of these tests are small"
)]

mod executables;

use ampoule_delta::{Accept, DiffOptions, Profile, diff};

#[allow(unused_imports, reason = "each test binary uses its part")]
pub(crate) use executables::executables;

/// What a process takes beside the patch that it applies (docs/adr/0053).
pub(crate) const PROGRAM: u64 = 7 << 18;

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

/// Plain bytes with a pattern that compresses, and the same with a few edits.
fn texts(len: usize) -> (Vec<u8>, Vec<u8>) {
    let words = noise(64, 3);
    let old: Vec<u8> = noise(len / 4, 4)
        .iter()
        .flat_map(|byte| words[usize::from(byte % 16) * 4..][..4].to_vec())
        .collect();
    let mut new = old.clone();
    new.splice(len / 3..len / 3, *b"an inserted stretch");
    new[len / 2] ^= 0x55;
    (old, new)
}

/// Images that hold an xz stream between plain bytes.
pub(crate) fn with_xz(len: usize) -> (Vec<u8>, Vec<u8>) {
    let packed = |plain: &[u8]| {
        use std::io::Write as _;
        let stream = liblzma::stream::Stream::new_easy_encoder(1, liblzma::stream::Check::Crc32);
        let stream = stream.expect("an encoder");
        let mut writer = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        writer.write_all(plain).expect("it packs");
        [
            &noise(200, 1)[..],
            &writer.finish().expect("it ends"),
            &noise(100, 2),
        ]
        .concat()
    };
    let (old, new) = texts(len);
    (packed(&old), packed(&new))
}

/// Images like a kernel's payload: the legacy frame of LZ4.
pub(crate) fn with_lz4(len: usize) -> (Vec<u8>, Vec<u8>) {
    let packed = |plain: &[u8]| {
        let mode = lz4::block::CompressionMode::HIGHCOMPRESSION(9);
        let block = lz4::block::compress(plain, Some(mode), false).expect("it packs");
        let mut image = noise(300, 5);
        image.extend_from_slice(&[0x02, 0x21, 0x4c, 0x18]);
        image.extend_from_slice(&(block.len() as u32).to_le_bytes());
        image.extend_from_slice(&block);
        image
    };
    let (old, new) = texts(len);
    (packed(&old), packed(&new))
}
