//! Deflate (RFC 1951) in its wrappers, reproduced byte for byte.
//!
//! What zlib and GNU gzip write is predicted exactly at any level; what others write (libdeflate,
//! miniz, zlib-ng, zopfli, Go) is predicted for the most part, and corrected where it differs. The
//! corrections stand before the plain bytes and travel with them.
//!
//! ```text
//!   plain ─► Matcher ─token─► Block ─coding─► bits
//!               ▲ Judge ▲        ▲ Judge
//! ```

mod bits;
mod block;
mod coder;
mod inflate;
mod matcher;
#[cfg(feature = "diff")]
mod record;
#[cfg(feature = "diff")]
mod search;
mod tables;
mod trees;

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::sums::{Adler32, Crc32};
use crate::codec::varint;
use coder::{Coder, Corrected, LIST_MAX};
use matcher::Held;

/// Whose choices are predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    Zlib,
    /// zlib as Chromium and Node carry it: what it looks up are four bytes, not three.
    Chromium,
    /// GNU gzip and Info-ZIP: longer blocks, and a guess at when to end one.
    Gzip,
}

/// What stands around the deflate stream within the extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wrapper {
    None,
    /// Two bytes before it (RFC 1950), the second of them given, and an Adler-32 after it.
    Zlib(u8),
    /// A CRC-32 and a length after it, as in gzip (RFC 1952): its head stays outside.
    Sums,
}

/// What the bytes depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deflate {
    /// 1..=9
    pub(super) level: u8,
    pub(super) family: Family,
    /// zlib's memLevel, 1..=9: bits of the hash and length of a block.
    memory: u8,
    wrapper: Wrapper,
    /// Whether corrections stand before the plain bytes.
    corrected: bool,
}

/// The first byte of a zlib stream with a window of 32 KiB.
const ZLIB_METHOD: u8 = 0x78;

impl Deflate {
    #[cfg(any(feature = "diff", test))]
    pub(super) fn to_number(self) -> u64 {
        let (wrapper, flags) = match self.wrapper {
            Wrapper::None => (0, 0),
            Wrapper::Zlib(flags) => (1, flags),
            Wrapper::Sums => (2, 0),
        };
        u64::from(self.level)
            | u64::from(self.family == Family::Gzip) << 4
            | u64::from(self.family == Family::Chromium) << 20
            | u64::from(self.memory) << 5
            | u64::from(self.corrected) << 9
            | wrapper << 10
            | u64::from(flags) << 12
    }

    pub(super) fn from_number(number: u64) -> Option<Self> {
        let flags = (number >> 12) as u8;
        let wrapper = match (number >> 10 & 3, flags) {
            (0, 0) => Wrapper::None,
            (1, flags) => Wrapper::Zlib(flags),
            (2, 0) => Wrapper::Sums,
            _ => return None,
        };
        let this = Self {
            level: (number & 15) as u8,
            family: match (number >> 4 & 1, number >> 20 & 1) {
                (0, 0) => Family::Zlib,
                (1, 0) => Family::Gzip,
                (0, 1) => Family::Chromium,
                _ => return None,
            },
            memory: (number >> 5 & 15) as u8,
            wrapper,
            corrected: number >> 9 & 1 == 1,
        };
        let known =
            number >> 21 == 0 && matches!(this.level, 1..=9) && matches!(this.memory, 1..=9);
        known.then_some(this)
    }

    fn hash_bits(self) -> u32 {
        match self.family {
            Family::Zlib => u32::from(self.memory) + 7,
            Family::Chromium => (u32::from(self.memory) + 7).max(15),
            Family::Gzip => 15,
        }
    }

    /// A block has one token less at most.
    fn tokens_max(self) -> usize {
        match self.family {
            Family::Zlib | Family::Chromium => 1 << (self.memory + 6),
            Family::Gzip => 1 << 15,
        }
    }

    /// Bytes before and after the deflate stream.
    fn around(self) -> (usize, usize) {
        match self.wrapper {
            Wrapper::None => (0, 0),
            Wrapper::Zlib(_) => (2, 4),
            Wrapper::Sums => (0, 8),
        }
    }

    /// Memory for encoding.
    pub(super) fn encode_memory(self, raw_len: u64) -> u64 {
        // 4 bytes for each hash and each place; a window with what is ahead, which moves up.
        let tables = (384 << 10) + (512 << 10);
        // 4 bytes for each token of a block, and its output. Corrections may make blocks longer.
        if self.corrected {
            tables + (2 << 20) + raw_len.min(LIST_MAX as u64)
        } else {
            tables + (640 << 10)
        }
    }

    /// The plain bytes, without corrections.
    pub(super) fn decode(self, encoded: &[u8], raw_len: usize) -> Option<Vec<u8>> {
        let (before, after) = self.around();
        let stream = encoded.get(before..encoded.len().checked_sub(after)?)?;
        let (raw, len) = inflate::inflate(stream, raw_len, &mut inflate::Plain)?;
        (!self.corrected && len == stream.len() && raw.len() == raw_len).then_some(raw)
    }
}

/// Encodes plain bytes as they come.
pub(crate) struct Encoder {
    deflate: Deflate,
    /// What comes before the plain bytes: the length of the corrections, and these.
    list: Option<Vec<u8>>,
    raw_len: u32,
    coder: Option<Box<Coder<Corrected>>>,
    /// Plain bytes that are held, and where they begin.
    held: Vec<u8>,
    start: u32,
    crc: Crc32,
    adler: Adler32,
    out_len: u32,
}

/// Held bytes move up when so many are not needed any more.
const MOVE_UP: usize = 128 << 10;

impl Encoder {
    pub(super) fn new(deflate: Deflate, raw_len: u32) -> Option<Self> {
        let mut this = Self {
            deflate,
            list: deflate.corrected.then(Vec::new),
            raw_len,
            coder: None,
            held: Vec::new(),
            start: 0,
            crc: Crc32::default(),
            adler: Adler32::default(),
            out_len: raw_len,
        };
        if !deflate.corrected {
            this.begin(Vec::new(), raw_len)?;
        }
        Some(this)
    }

    fn begin(&mut self, list: Vec<u8>, len: u32) -> Option<()> {
        let judge = Corrected::new(list)?;
        self.out_len = len;
        self.coder = Some(Box::new(Coder::new(self.deflate, len, judge)));
        Some(())
    }

    /// Takes the next plain bytes and appends what they give.
    pub(super) fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
        if let Some(list) = self.list.as_mut() {
            let rest = take_list(list, &mut bytes)?;
            let Some(list) = rest else { return Some(()) };
            let before = varint_len(list.len()) + list.len();
            self.list = None;
            let len = self.raw_len.checked_sub(u32::try_from(before).ok()?)?;
            self.begin(list, len)?;
        }
        let is_first = self.start == 0 && self.held.is_empty() && !bytes.is_empty();
        if let Wrapper::Zlib(flags) = self.deflate.wrapper
            && is_first
        {
            out.extend_from_slice(&[ZLIB_METHOD, flags]);
        }
        match self.deflate.wrapper {
            Wrapper::None => {}
            Wrapper::Zlib(_) => self.adler.update(bytes),
            Wrapper::Sums => self.crc.update(bytes),
        }
        self.held.extend_from_slice(bytes);
        let coder = self.coder.as_mut()?;
        loop {
            let held = Held {
                bytes: &self.held,
                start: self.start,
            };
            let waits = coder.run(held)?;
            out.append(&mut coder.take_output());
            if waits {
                break;
            }
        }
        let done = (coder.held_from() - self.start) as usize;
        if done >= MOVE_UP {
            self.held.drain(..done);
            self.start += done as u32;
        }
        Some(())
    }

    /// Ends the stream: all plain bytes have come.
    pub(super) fn finish(self, out: &mut Vec<u8>) -> Option<()> {
        let coder = self.coder.filter(|coder| coder.is_done())?;
        match self.deflate.wrapper {
            Wrapper::None => {}
            Wrapper::Zlib(_) => out.extend_from_slice(&self.adler.sum().to_be_bytes()),
            Wrapper::Sums => {
                out.extend_from_slice(&self.crc.sum().to_le_bytes());
                out.extend_from_slice(&self.out_len.to_le_bytes());
            }
        }
        coder.judge.is_used().then_some(())
    }
}

/// Collects the corrections, after their length: `Some(Some(list))` when they are whole.
#[allow(clippy::option_option, reason = "damaged, not yet whole, whole")]
fn take_list(kept: &mut Vec<u8>, bytes: &mut &[u8]) -> Option<Option<Vec<u8>>> {
    loop {
        let mut reader = varint::Reader::new(kept);
        let wanted = match reader.number() {
            Some(len) if len <= LIST_MAX as u64 => reader.position() + len as usize,
            None if kept.len() < varint::LEN_MAX => kept.len() + 1,
            _ => return None,
        };
        let (head, missing) = (reader.position(), wanted - kept.len());
        if missing == 0 {
            return Some(Some(kept.split_off(head)));
        }
        if bytes.is_empty() {
            return Some(None);
        }
        let (part, rest) = bytes.split_at(missing.min(bytes.len()));
        kept.extend_from_slice(part);
        *bytes = rest;
    }
}

fn varint_len(number: usize) -> usize {
    let mut out = Vec::new();
    varint::write(&mut out, number as u64);
    out.len()
}

#[cfg(all(test, feature = "diff"))]
mod tests {
    use super::*;
    use crate::container::Codec;

    /// What the encoder writes at each setting is read back, explained and written again, in any
    /// pieces. That it is what zlib and gzip write is shown in `tests/containers.rs`.
    #[test]
    fn each_setting_comes_again() {
        let raw: Vec<u8> = (0..150_000u32)
            .map(|n| (n.wrapping_mul(n / 41) >> 9) as u8 & 15)
            .collect();
        for level in 1..=9 {
            for (family, memory) in [
                (Family::Zlib, 8),
                (Family::Zlib, 9),
                (Family::Gzip, 8),
                (Family::Chromium, 8),
            ] {
                let deflate = Deflate {
                    level,
                    family,
                    memory,
                    wrapper: Wrapper::Zlib(0xda),
                    corrected: false,
                };
                assert_eq!(Deflate::from_number(deflate.to_number()), Some(deflate));
                let encoded = Codec::Deflate(deflate).encode(&raw).expect("it encodes");
                let found = Deflate::measure_zlib(&encoded, 1 << 20).expect("a stream");
                assert_eq!((found.len, found.raw_len), (encoded.len(), raw.len()));
                let (again, made) = found
                    .deflate
                    .explain(&encoded, raw.len(), None)
                    .expect("it is explained");
                assert!(!made.corrected && again == raw, "{deflate:?}: {made:?}");
                let mut encoder = Encoder::new(made, raw.len() as u32).expect("an encoder");
                let mut out = Vec::new();
                for piece in raw.chunks(777) {
                    encoder.push(piece, &mut out).expect("it takes bytes");
                }
                encoder.finish(&mut out).expect("it ends");
                assert!(out == encoded, "{deflate:?} in pieces");
            }
        }
    }
}
