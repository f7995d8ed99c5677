//! zstd frames (RFC 8878) as libzstd writes them: in one call, as a stream, or by its workers.
//!
//! The bytes depend on the version of libzstd, which is pinned (`docs/adr/0018`).

#[cfg(feature = "diff")]
mod search;

use alloc::vec;
use alloc::vec::Vec;

use zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd_safe::{CCtx, CParameter, DCtx, InBuffer, OutBuffer};

#[cfg(feature = "diff")]
pub(crate) const MAGIC: &[u8; 4] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Blocks hold no more plain bytes.
const BLOCK: u64 = 128 << 10;

/// How the encoder was driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Drive {
    /// All bytes in one call, as in file systems.
    OneShot,
    /// As they came.
    Stream,
    /// In jobs for worker threads, as the command line does with larger files.
    Workers,
}

/// What the bytes of a frame depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Zstd {
    /// 1..=22
    level: u8,
    drive: Drive,
    /// Whether the encoder knew the length from the start, and wrote it down.
    sized: bool,
    checksum: bool,
    /// Window of `--long`, 0 where it is the level's own.
    long: u8,
}

impl Zstd {
    #[cfg(feature = "diff")]
    #[cfg(any(feature = "diff", test))]
    pub(super) fn to_number(self) -> u64 {
        let drive = match self.drive {
            Drive::OneShot => 0,
            Drive::Stream => 1,
            Drive::Workers => 2,
        };
        u64::from(self.level)
            | drive << 5
            | u64::from(self.sized) << 7
            | u64::from(self.checksum) << 8
            | u64::from(self.long) << 9
    }

    pub(super) fn from_number(number: u64) -> Option<Self> {
        let this = Self {
            level: (number & 31) as u8,
            drive: match number >> 5 & 3 {
                0 => Drive::OneShot,
                1 => Drive::Stream,
                2 => Drive::Workers,
                _ => return None,
            },
            sized: number >> 7 & 1 == 1,
            checksum: number >> 8 & 1 == 1,
            long: (number >> 9 & 31) as u8,
        };
        let known = number >> 14 == 0
            && matches!(this.level, 1..=22)
            && (this.long == 0 || matches!(this.long, 10..=27))
            && (this.sized || this.drive != Drive::OneShot);
        known.then_some(this)
    }

    /// Window, chain and hash of this level, as powers of two, for any length of input.
    fn logs(self) -> (u32, u32, u32) {
        match self.level {
            1 => (19, 13, 15),
            2 => (20, 15, 17),
            3 => (21, 16, 17),
            4 => (21, 18, 18),
            5 => (21, 18, 19),
            6 | 7 => (21, 19, 20),
            8 => (21, 20, 20),
            9 | 10 => (22, 21, 22),
            11 | 12 => (22, 22, 23),
            13..=15 => (22, 23, 23),
            16 | 17 => (23, 23, 22),
            18 | 19 => (23, 24, 22),
            20 => (25, 25, 23),
            21 => (26, 26, 24),
            _ => (27, 27, 25),
        }
    }

    /// Memory for encoding: bounds of what libzstd 1.5.5 takes, see the test.
    pub(super) fn encode_memory(self, raw_len: u64) -> u64 {
        // Where the length is known, nothing is larger than it needs.
        let known = if self.sized {
            raw_len.max(2).next_power_of_two().trailing_zeros().max(10)
        } else {
            31
        };
        let (window, chain, hash) = self.logs();
        let window = if self.long > 0 {
            self.long.into()
        } else {
            window
        };
        let window = window.min(known);
        let tables = (4u64 << chain.min(known + 1)) + (6u64 << hash.min(known + 1));
        // Blocks, sequences, entropy tables, and what the optimal parsers hold.
        let fixed = 3 << 20;
        let long = if self.long > 0 {
            8u64 << (window.saturating_sub(7).max(6) + 2)
        } else {
            0
        };
        let buffers = match self.drive {
            // All input, and all output.
            Drive::OneShot => 2 * raw_len + (raw_len >> 7) + 1024,
            Drive::Stream => (1u64 << window) + 4 * BLOCK,
            // A job is four windows; there are input for three, a prefix, and output of each.
            Drive::Workers => (1u64 << window).max(1 << 20).saturating_mul(4 * 5),
        };
        fixed + tables + long + buffers
    }
}

/// Decodes one frame of `raw_len` bytes.
pub(super) fn decode(encoded: &[u8], raw_len: usize) -> Option<Vec<u8>> {
    let mut context = DCtx::try_create()?;
    // One byte more than is right, so that too long an output shows.
    let mut raw = vec![0; raw_len + 1];
    let len = context.decompress(&mut raw[..], encoded).ok()?;
    raw.truncate(len);
    (len == raw_len).then_some(raw)
}

/// Encodes plain bytes as they come.
pub(crate) struct Encoder {
    context: CCtx<'static>,
    /// What is held until the end, where all is encoded in one call.
    held: Option<Vec<u8>>,
    /// Where output is taken.
    piece: Vec<u8>,
}

/// Output is taken in such pieces.
const PIECE: usize = 64 << 10;

impl Encoder {
    pub(super) fn new(zstd: Zstd, raw_len: u32) -> Option<Self> {
        let mut context = CCtx::try_create()?;
        let mut set = |parameter| context.set_parameter(parameter).ok();
        set(CParameter::CompressionLevel(zstd.level.into()))?;
        set(CParameter::ChecksumFlag(zstd.checksum))?;
        if zstd.long > 0 {
            set(CParameter::EnableLongDistanceMatching(true))?;
            set(CParameter::WindowLog(zstd.long.into()))?;
        }
        if zstd.drive == Drive::Workers {
            set(CParameter::NbWorkers(1))?;
        }
        if zstd.sized {
            context
                .set_pledged_src_size(Some(u64::from(raw_len)))
                .ok()?;
        }
        let held = (zstd.drive == Drive::OneShot).then(|| Vec::with_capacity(raw_len as usize));
        Some(Self {
            context,
            held,
            piece: vec![0; PIECE],
        })
    }

    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
        match &mut self.held {
            Some(held) => {
                held.extend_from_slice(bytes);
                Some(())
            }
            None => self.run(bytes, out, ZSTD_EndDirective::ZSTD_e_continue),
        }
    }

    pub(super) fn finish(mut self, out: &mut Vec<u8>) -> Option<()> {
        match self.held.take() {
            Some(held) => {
                let mut encoded = vec![0; zstd_safe::compress_bound(held.len())];
                let len = self.context.compress2(&mut encoded[..], &held).ok()?;
                encoded.truncate(len);
                out.append(&mut encoded);
                Some(())
            }
            None => self.run(&[], out, ZSTD_EndDirective::ZSTD_e_end),
        }
    }

    fn run(&mut self, bytes: &[u8], out: &mut Vec<u8>, end: ZSTD_EndDirective) -> Option<()> {
        let is_end = matches!(end, ZSTD_EndDirective::ZSTD_e_end);
        let mut input = InBuffer::around(bytes);
        loop {
            let mut output = OutBuffer::around(&mut self.piece[..]);
            let left = self
                .context
                .compress_stream2(&mut output, &mut input, end)
                .ok()?;
            out.extend_from_slice(output.as_slice());
            let done = if is_end {
                left == 0
            } else {
                input.pos == bytes.len()
            };
            if done {
                return Some(());
            }
        }
    }
}

#[cfg(all(test, feature = "diff"))]
mod tests {
    use super::*;
    use crate::container::Codec;

    fn some(len: usize) -> Vec<u8> {
        (0..len as u32)
            .map(|n| (n.wrapping_mul(n / 37) >> 7) as u8 & 31)
            .collect()
    }

    /// Every way of driving the encoder, at some levels.
    fn all() -> impl Iterator<Item = Zstd> {
        let drives = [Drive::OneShot, Drive::Stream, Drive::Workers];
        let levels = [1, 2, 3, 5, 6, 9, 12, 13, 15, 16, 17, 18, 19];
        levels.into_iter().flat_map(move |level| {
            drives.into_iter().flat_map(move |drive| {
                [true, false].map(|sized| Zstd {
                    level,
                    drive,
                    sized,
                    checksum: sized,
                    long: 0,
                })
            })
        })
    }

    /// What an encoder really holds stays within what a device is told.
    #[test]
    fn memory_is_bounded_as_declared() {
        for zstd in all().filter(|zstd| zstd.sized || zstd.drive == Drive::Stream) {
            for len in [2000, 70_000, 600_000] {
                let raw = some(len);
                let mut encoder = Encoder::new(zstd, len as u32).expect("an encoder");
                let mut out = Vec::new();
                encoder.push(&raw, &mut out).expect("it takes bytes");
                if let Some(held) = &encoder.held {
                    let mut all = vec![0; zstd_safe::compress_bound(held.len())];
                    encoder
                        .context
                        .compress2(&mut all[..], held)
                        .expect("it encodes");
                }
                let held = encoder.context.sizeof() as u64;
                let declared = zstd.encode_memory(len as u64);
                assert!(held <= declared, "{zstd:?} {len}: {held} > {declared}");
            }
        }
    }

    #[test]
    fn each_frame_is_measured_and_comes_again() {
        for zstd in all().filter(|zstd| zstd.sized || zstd.drive != Drive::OneShot) {
            assert_eq!(Zstd::from_number(zstd.to_number()), Some(zstd));
            let raw = some(40_000);
            let encoded = Codec::Zstd(zstd).encode(&raw).expect("it encodes");
            let measured = Zstd::measure(&encoded, 1 << 20).expect("a frame");
            assert_eq!((measured.len, measured.raw_len), (encoded.len(), raw.len()));
            let makes = |zstd: &Zstd| Codec::Zstd(*zstd).encode(&raw).as_ref() == Some(&encoded);
            assert!(
                measured
                    .zstd
                    .candidates(&encoded, &raw)
                    .any(|zstd| makes(&zstd))
            );
            assert_eq!(decode(&encoded, raw.len()), Some(raw));
        }
    }
}
