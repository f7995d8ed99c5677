//! Blocks that fill a length that was given, as erofs has them: the encoder took as many plain bytes
//! as fit. Zeros stand before a block that is shorter.
//!
//! The encoder saw the bytes behind the last one that fitted, which a device does not have yet, so its
//! last choices cannot be made again. They are told: how many sequences of what the library makes
//! are right, and the rest of them, sequence by sequence. These *corrections* come before the plain
//! bytes of the extent.

use alloc::vec;
use alloc::vec::Vec;

use super::Lz4;
use super::sequence::{COPY_MIN, Sequence, Sequences, write};
use crate::codec::varint;

/// Behind the plain bytes the encoder is shown these, so that it does not see an end: a block's last
/// bytes are coded otherwise.
const BEHIND: [u8; 32] = *b"\xd1\x4e\x93\x07\xea\x5c\x2b\xf8\x61\xbd\x10\x9f\x36\xc4\x7a\x05\
\xe3\x58\x8d\x21\xf6\x4b\x97\x3e\xc2\x69\x1c\xb0\x75\xda\x0f\x84";
/// From this length on the fast encoder of the library takes another table (`LZ4_64Klimit`).
const LONG: usize = (64 << 10) + 11;

/// The block behind the zeros, which has at least one byte.
pub(super) fn block(encoded: &[u8]) -> Option<&[u8]> {
    let zeros = encoded.iter().position(|byte| *byte != 0)?;
    Some(&encoded[zeros..])
}

/// The plain length of a block that stands behind zeros; `None` when it is none, or longer than
/// `raw_max`.
#[cfg(feature = "diff")]
pub(crate) fn raw_len(encoded: &[u8], raw_max: usize) -> Option<usize> {
    let mut sequences = Sequences::new(block(encoded)?);
    let mut count = 0;
    while let Some(step) = sequences.next() {
        step?;
        count += 1;
        if sequences.made() > raw_max as u64 {
            return None;
        }
    }
    // New bytes alone are not compressed.
    (count > 1).then_some(sequences.made() as usize)
}

/// What the library makes of plain bytes that others follow.
fn made(lz4: Lz4, plain: &[u8]) -> Option<Vec<u8>> {
    let mut seen = Vec::with_capacity(plain.len() + BEHIND.len() + LONG);
    seen.extend_from_slice(plain);
    seen.extend_from_slice(&BEHIND);
    if lz4.level == 1 {
        seen.resize(seen.len().max(LONG), 0);
    }
    let whole = Lz4 {
        with_length: false,
        reach: 0,
        filled: false,
        ..lz4
    };
    whole.encode(&seen)
}

/// Memory of [`encode`], the library's state apart.
pub(super) fn memory(raw_len: u64) -> u64 {
    // The bytes as they came, as the library sees them, and what it makes of those.
    3 * (raw_len + LONG as u64)
}

/// The logical bytes of the block `encoded` of `plain`, made at the level of `lz4`.
#[cfg(feature = "diff")]
pub(super) fn explain(lz4: Lz4, encoded: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
    let wanted: Vec<Sequence> = Sequences::new(block(encoded)?).collect::<Option<_>>()?;
    let ours = made(lz4, plain)?;
    let kept = wanted
        .iter()
        .zip(Sequences::new(&ours))
        .take_while(|(wanted, ours)| wanted.len > 0 && *ours == Some(**wanted))
        .count();
    let mut corrections = Vec::new();
    varint::write(&mut corrections, kept as u64);
    for sequence in wanted[kept..].iter().filter(|sequence| sequence.len > 0) {
        varint::write(&mut corrections, sequence.new.into());
        varint::write(&mut corrections, (sequence.len - COPY_MIN).into());
        corrections.extend_from_slice(&sequence.distance.to_le_bytes());
    }
    let mut logical = Vec::with_capacity(plain.len() + corrections.len() + varint::LEN_MAX);
    varint::write(&mut logical, corrections.len() as u64);
    logical.append(&mut corrections);
    logical.extend_from_slice(plain);
    Some(logical)
}

/// The `len` bytes that logical bytes stand for.
pub(super) fn encode(lz4: Lz4, logical: &[u8], len: usize) -> Option<Vec<u8>> {
    let mut reader = varint::Reader::new(logical);
    let corrections_len = usize::try_from(reader.number()?).ok()?;
    let corrections = reader.slice(corrections_len)?;
    let plain = &logical[reader.position()..];
    let mut told = varint::Reader::new(corrections);
    let kept = usize::try_from(told.number()?).ok()?;
    let (mut out, mut at) = kept_of(&made(lz4, plain)?, kept)?;
    while !told.is_empty() {
        let sequence = Sequence {
            new: u32::try_from(told.number()?).ok()?,
            len: u32::try_from(told.number()?).ok()?.checked_add(COPY_MIN)?,
            distance: u16::from_le_bytes(told.array()?),
        };
        let to = usize::try_from((at as u64).checked_add(sequence.raw_len())?).ok()?;
        let new = plain.get(at..to)?.get(..sequence.new as usize)?;
        write(&mut out, new, Some((sequence.len, sequence.distance)));
        at = to;
    }
    write(&mut out, plain.get(at..)?, None);
    let zeros = len.checked_sub(out.len())?;
    out.splice(0..0, vec![0; zeros]);
    Some(out)
}

/// The first `kept` sequences of a block, as they stand there, and how many plain bytes they are.
fn kept_of(block: &[u8], kept: usize) -> Option<(Vec<u8>, usize)> {
    let mut sequences = Sequences::new(block);
    for _ in 0..kept {
        let sequence = sequences.next()??;
        if sequence.len == 0 {
            return None;
        }
    }
    Some((block[..sequences.at()].to_vec(), sequences.made() as usize))
}

#[cfg(all(test, feature = "diff"))]
mod tests {
    use super::*;

    const FILLED: Lz4 = Lz4 {
        level: 9,
        with_length: false,
        reach: 0,
        filled: true,
    };

    /// Words that come again.
    fn text(len: usize) -> Vec<u8> {
        let mut state = 7u32;
        let mut out = Vec::new();
        while out.len() < len {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let word = state >> 23;
            out.extend((0..4 + word % 5).map(|n| (word.wrapping_mul(n + 3) % 26) as u8 + b'a'));
        }
        out.truncate(len);
        out
    }

    /// A block of `len` bytes as an encoder leaves it that saw all of `text`, `zeros` of them before
    /// it; and its plain bytes.
    fn full(text: &[u8], level: u8, (len, zeros): (usize, usize)) -> (Vec<u8>, Vec<u8>) {
        let whole = Lz4 {
            level,
            filled: false,
            ..FILLED
        };
        let whole = whole.encode(text).expect("it encodes");
        let mut sequences = Sequences::new(&whole);
        let (mut at, mut made) = (0, 0);
        loop {
            sequences.next().expect("more").expect("a block");
            if sequences.at() + 20 > len - zeros {
                break;
            }
            (at, made) = (sequences.at(), sequences.made() as usize);
        }
        let mut out = vec![0; zeros];
        out.extend_from_slice(&whole[..at]);
        // New bytes fill it: their number takes a byte, and another from 15 on.
        let room = len - out.len() - 1;
        let new = room - usize::from(room > 15);
        write(&mut out, &text[made..made + new], None);
        assert_eq!(out.len(), len);
        (out, text[..made + new].to_vec())
    }

    /// Catches a sequence that is lost between what is kept and what is told, zeros that are not
    /// there again, and a level that is not the one that made it.
    #[test]
    fn a_block_that_was_filled_is_filled_again() {
        let text = text(200_000);
        for (level, zeros) in [(9, 0), (9, 3), (12, 0), (4, 100), (1, 0)] {
            let (encoded, plain) = full(&text, level, (4096, zeros));
            assert_eq!(raw_len(&encoded, 1 << 20), Some(plain.len()));
            assert_eq!(raw_len(&encoded, plain.len() - 1), None);
            let (logical, way) = FILLED
                .explain(&encoded, plain.len(), None)
                .expect("it is explained");
            let corrections = logical.len() - plain.len();
            assert!(corrections < 200, "level {level}: {corrections}");
            assert_eq!(Lz4::from_number(way.to_number()), Some(way));
            assert_eq!(way.decode(&encoded, plain.len()), Some(plain));
            assert_eq!(encode(way, &logical, 4096), Some(encoded));
        }
    }

    /// Catches a panic, or memory by a number that was told.
    #[test]
    fn corrections_that_lie_are_refused() {
        let plain = text(5000);
        let logical = |corrections: &[u8]| {
            let mut out = vec![corrections.len() as u8];
            out.extend_from_slice(corrections);
            out.extend_from_slice(&plain);
            out
        };
        let made = |corrections: &[u8], len| encode(FILLED, &logical(corrections), len);
        assert!(made(&[2, 5, 0, 9, 0], 8192).is_some(), "these are right");
        assert!(made(&[2, 5, 0, 9, 0], 1000).is_none(), "it does not fit");
        assert!(made(&[], 8192).is_none(), "nothing is told");
        assert!(
            made(&[0xff, 0xff, 0x7f], 8192).is_none(),
            "more than there are"
        );
        assert!(made(&[0, 0xff, 0xff, 0x7f, 0, 1, 0], 8192).is_none());
        let huge = [0, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 0];
        assert!(made(&huge, 8192).is_none(), "a copy past the end");
        assert!(made(&[0, 5, 0, 9], 8192).is_none(), "cut off");
        assert!(encode(FILLED, &[200, 1], 8192).is_none());
        assert!(encode(FILLED, &[], 8192).is_none());
    }

    /// Catches buffers that are not declared: what was pushed, what the library sees, what it makes.
    #[test]
    fn what_is_held_is_declared() {
        const LIBRARY: u64 = 512 << 10;
        for raw_len in [1, 4096, 100_000, 512 << 10] {
            let seen = (raw_len + BEHIND.len()).max(LONG);
            let made = lz4::block::compress_bound(seen).expect("a length");
            let held = LIBRARY + (raw_len + seen + made) as u64;
            assert!(FILLED.encode_memory(raw_len as u64) >= held, "{raw_len}");
        }
    }

    /// Catches a number that names no codec: only a bare block that is held whole is filled.
    #[test]
    fn other_numbers_are_refused() {
        let number = FILLED.to_number();
        assert_eq!(Lz4::from_number(number), Some(FILLED));
        for wrong in [number ^ 1 << 8, number | 1 << 9, number | 1 << 14] {
            assert_eq!(Lz4::from_number(wrong), None, "{wrong:#x}");
        }
    }

    /// Catches bytes that are believed to be a block though a copy leads to before its beginning, or
    /// it does not end with the last byte.
    #[test]
    fn other_bytes_are_no_block() {
        let (encoded, _) = full(&text(200_000), 9, (4096, 0));
        let is_block = |bytes: &[u8]| raw_len(bytes, 1 << 20).is_some();
        assert!(is_block(&encoded));
        assert!(!is_block(&encoded[..3000]) || !is_block(&encoded[..3001]));
        assert!(!is_block(&text(4096)) && !is_block(&[0; 4096]) && !is_block(&[]));
        // Four new bytes, a copy from five before, then a last new byte.
        assert!(!is_block(&[0x40, 1, 2, 3, 4, 5, 0, 0x10, 9]));
        assert!(is_block(&[0x40, 1, 2, 3, 4, 4, 0, 0x10, 9]));
    }
}
