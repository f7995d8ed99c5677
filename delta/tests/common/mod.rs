//! Images to make patches of, shared by the stories beside it.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "the images of these tests are small"
)]

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

/// Two small executables of one machine that call about, with data and an unwind table.
pub(crate) fn executables(machine: u16) -> (Vec<u8>, Vec<u8>) {
    let image = |grown: usize, version: u8| {
        // In the later image something new stands in the middle, and all after it moved.
        let place = |at: usize| if at < 2048 { at } else { at + grown };
        let mut text = vec![0x90; 4096 + grown];
        for at in (0..4096).step_by(16) {
            let (from, target) = (place(at), place(at * 37 % 4096));
            text[from] = 0xe8;
            let distance = target as i32 - from as i32 - 5;
            text[from + 1..from + 5].copy_from_slice(&distance.to_le_bytes());
            text[from + 6] = (at >> 4) as u8;
        }
        let names = b"\0.text\0.data\0.shstrtab\0";
        let data: Vec<u8> = (0..256)
            .flat_map(|n| (0x40_1000 + place(n * 16) as u64).to_le_bytes())
            .collect();
        let mut elf = Vec::from(*b"\x7fELF\x02\x01\x01");
        elf.resize(16, version);
        elf.extend_from_slice(&2u16.to_le_bytes());
        elf.extend_from_slice(&machine.to_le_bytes());
        elf.resize(64, 0);
        let text_at = 4096;
        let data_at = text_at + text.len();
        let names_at = data_at + data.len();
        let table_at = (names_at + names.len()).next_multiple_of(8);
        let put = |elf: &mut Vec<u8>, at: usize, bytes: &[u8]| {
            elf[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(&mut elf, 32, &64u64.to_le_bytes());
        put(&mut elf, 40, &(table_at as u64).to_le_bytes());
        for (at, value) in [(54, 56u16), (56, 1), (58, 64), (60, 4), (62, 3)] {
            put(&mut elf, at, &value.to_le_bytes());
        }
        let load_len = (names_at - text_at) as u64;
        elf.extend_from_slice(&1u32.to_le_bytes());
        elf.extend_from_slice(&5u32.to_le_bytes());
        for value in [
            text_at as u64,
            0x40_1000,
            0x40_1000,
            load_len,
            load_len + 512,
            4096,
        ] {
            elf.extend_from_slice(&value.to_le_bytes());
        }
        elf.resize(text_at, 0);
        elf.extend_from_slice(&text);
        elf.extend_from_slice(&data);
        elf.extend_from_slice(names);
        elf.resize(table_at, 0);
        let sections = [
            (0, 0, 0, 0, 0),
            (1, 1, 6, text_at, text.len()),
            (7, 1, 3, data_at, data.len()),
            (13, 3, 0, names_at, names.len()),
        ];
        for (name, kind, flags, at, len) in sections {
            elf.extend_from_slice(&(name as u32).to_le_bytes());
            elf.extend_from_slice(&(kind as u32).to_le_bytes());
            for value in [flags as u64, 0x40_1000, at as u64, len as u64, 0, 0, 0, 0]
                .iter()
                .take(6)
            {
                elf.extend_from_slice(&value.to_le_bytes());
            }
            elf.extend_from_slice(&[0; 8]);
        }
        elf
    };
    (image(0, 1), image(256, 2))
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
