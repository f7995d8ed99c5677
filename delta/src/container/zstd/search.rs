//! Finding a frame, and what could have made it.

use alloc::vec;
use alloc::vec::Vec;

use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use super::{BLOCK, Drive, Encoder, MAGIC, PIECE, Zstd};
use crate::codec::varint::Reader;

/// A frame that was found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) len: usize,
    pub(crate) raw_len: usize,
    /// Its level not known yet.
    pub(crate) zstd: Zstd,
}

/// Levels are told apart by so many bytes; a whole block of them is written at least.
const SAMPLE: usize = 3 * BLOCK as usize;

impl Zstd {
    /// Walks one frame at the start of `bytes` by its lengths. Where the frame does not tell
    /// its plain length it is decoded, as long as that is at most `raw_max`.
    pub(crate) fn measure(bytes: &[u8], raw_max: usize) -> Option<Measured> {
        let mut reader = Reader::new(bytes.strip_prefix(MAGIC)?);
        let descriptor = reader.byte()?;
        let single = descriptor >> 5 & 1 == 1;
        // Reserved bits and dictionaries are not ours.
        if descriptor & 0x1b != 0 {
            return None;
        }
        let window = if single { 0 } else { reader.byte()? };
        let size_len = match (descriptor >> 6, single) {
            (0, false) => 0,
            (0, true) => 1,
            (flag, _) => 1 << flag,
        };
        let mut size = 0u64;
        for at in 0..size_len {
            size |= u64::from(reader.byte()?) << (8 * at);
        }
        if size_len == 2 {
            size += 256;
        }
        let mut blocks = 0;
        loop {
            blocks += 1;
            let [a, b, c] = reader.array::<3>()?;
            let head = u32::from_le_bytes([a, b, c, 0]);
            let len = match head >> 1 & 3 {
                0 | 2 => head >> 3,
                1 => 1,
                _ => return None,
            };
            reader.slice(len as usize)?;
            if head & 1 == 1 {
                break;
            }
        }
        let checksum = descriptor >> 2 & 1 == 1;
        if checksum {
            reader.slice(4)?;
        }
        let len = MAGIC.len() + reader.position();
        let raw_len = match size_len {
            0 => decoded_len(&bytes[..len], raw_max)?,
            _ => usize::try_from(size.min(blocks * BLOCK + 1)).ok()?,
        };
        if raw_len as u64 > blocks * BLOCK {
            return None;
        }
        // Only a window larger than any level's own tells of `--long`.
        let long = match u32::from(window >> 3) + 10 {
            log @ 24..=27 if !single => log as u8,
            _ => 0,
        };
        (raw_len <= raw_max).then_some(Measured {
            len,
            raw_len,
            zstd: Self {
                level: 3,
                drive: if size_len > 0 {
                    Drive::OneShot
                } else {
                    Drive::Stream
                },
                sized: size_len > 0,
                checksum,
                long,
            },
        })
    }

    /// The same frame as `other` is made.
    pub(crate) fn made_as(self, other: Self) -> Self {
        let drive = match (self.sized, other.drive) {
            (false, Drive::OneShot) => Drive::Stream,
            (_, drive) => drive,
        };
        Self {
            level: other.level,
            drive,
            ..self
        }
    }

    /// What could have made the frame, the likely ones first.
    pub(crate) fn candidates(self, encoded: &[u8], raw: &[u8]) -> impl Iterator<Item = Self> {
        const LEVELS: [u8; 22] = [
            19, 3, 15, 22, 9, 1, 6, 18, 12, 17, 21, 20, 16, 14, 13, 11, 10, 8, 7, 5, 4, 2,
        ];
        let is_one_block = raw.len() as u64 <= BLOCK;
        let drives: &[Drive] = match (self.sized, is_one_block) {
            (true, true) => &[Drive::OneShot],
            (true, false) => &[Drive::Workers, Drive::OneShot, Drive::Stream],
            (false, true) => &[Drive::Stream],
            (false, false) => &[Drive::Stream, Drive::Workers],
        };
        LEVELS
            .into_iter()
            .map(move |level| Self { level, ..self })
            .filter(move |this| this.begins(encoded, raw))
            .flat_map(move |this| {
                drives.iter().map(move |drive| Self {
                    drive: *drive,
                    ..this
                })
            })
    }

    /// A frame as a reader sees it: to that it does not matter how it was made.
    pub(crate) fn any() -> Self {
        Self {
            level: 3,
            drive: Drive::Stream,
            sized: false,
            checksum: false,
            long: 0,
        }
    }

    /// Whether a frame would begin like this one.
    fn begins(self, encoded: &[u8], raw: &[u8]) -> bool {
        if raw.len() <= SAMPLE {
            return true;
        }
        let drive = Drive::Stream;
        let mut out = Vec::new();
        Encoder::new(Self { drive, ..self }, raw.len() as u32)
            .and_then(|mut encoder| encoder.push(&raw[..SAMPLE], &mut out))
            .is_some_and(|()| encoded.starts_with(&out))
    }
}

/// Length of what a frame decodes to, at most `raw_max`.
fn decoded_len(encoded: &[u8], raw_max: usize) -> Option<usize> {
    let mut context = DCtx::try_create()?;
    context.set_parameter(DParameter::WindowLogMax(27)).ok()?;
    let mut input = InBuffer::around(encoded);
    let mut piece = vec![0; PIECE];
    let mut total = 0;
    loop {
        let mut output = OutBuffer::around(&mut piece[..]);
        let before = input.pos;
        let left = context.decompress_stream(&mut output, &mut input).ok()?;
        total += output.pos();
        if left == 0 {
            return Some(total);
        }
        if total > raw_max || output.pos() == 0 && input.pos == before {
            return None;
        }
    }
}
