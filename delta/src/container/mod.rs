//! Compressed stretches of an image: how they are decoded, and reproduced byte for byte.
//!
//! The signer finds them (see `diff::unpack`), proves that re-encoding gives the very same bytes,
//! and writes down a [`Codec`]; the device follows a flat list and parses no container.
//!
//! An extent is encoded as its plain bytes come, so that a device holds what the encoder needs and
//! never the whole extent, but for LZ4 and one-shot zstd, which are made of blocks.

#[cfg(feature = "deflate")]
pub(crate) mod deflate;
#[cfg(feature = "lz4")]
pub(crate) mod lz4;
#[cfg(any(feature = "xz", feature = "deflate"))]
mod sums;
#[cfg(feature = "xz")]
pub(crate) mod xz;
#[cfg(feature = "zstd")]
pub(crate) mod zstd;

#[cfg(any(feature = "deflate", feature = "xz", feature = "zstd"))]
use alloc::boxed::Box;
use alloc::vec::Vec;

#[cfg(feature = "diff")]
use crate::header::Caps;

/// How a stretch was compressed, down to what its bytes depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Codec {
    /// One xz stream with one block, or one block of a stream.
    #[cfg(feature = "xz")]
    Xz(xz::Xz),
    /// One LZ4 block.
    #[cfg(feature = "lz4")]
    Lz4(lz4::Lz4),
    /// One deflate stream, with or without a wrapper.
    #[cfg(feature = "deflate")]
    Deflate(deflate::Deflate),
    /// One zstd frame.
    #[cfg(feature = "zstd")]
    Zstd(zstd::Zstd),
}

/// Output beside what an encoder holds: it is given away in pieces.
const PIECES: u64 = 256 << 10;

#[cfg_attr(
    not(any(feature = "xz", feature = "lz4", feature = "deflate", feature = "zstd")),
    allow(unused_variables)
)]
impl Codec {
    /// The codec as a number: the kind in the low bits, its parameters above.
    #[cfg(feature = "diff")]
    pub(crate) fn to_number(self) -> u64 {
        match self {
            Self::Xz(xz) => xz.to_number() << 3 | 1,
            Self::Lz4(lz4) => lz4.to_number() << 3 | 2,
            Self::Deflate(deflate) => deflate.to_number() << 3 | 3,
            Self::Zstd(zstd) => zstd.to_number() << 3 | 4,
        }
    }

    /// The codec that a number stands for, if this build has it.
    pub(crate) fn from_number(number: u64) -> Option<Self> {
        match number & 7 {
            #[cfg(feature = "xz")]
            1 => xz::Xz::from_number(number >> 3).map(Self::Xz),
            #[cfg(feature = "lz4")]
            2 => lz4::Lz4::from_number(number >> 3).map(Self::Lz4),
            #[cfg(feature = "deflate")]
            3 => deflate::Deflate::from_number(number >> 3).map(Self::Deflate),
            #[cfg(feature = "zstd")]
            4 => zstd::Zstd::from_number(number >> 3).map(Self::Zstd),
            _ => None,
        }
    }

    /// The codec with all that does not matter to a reader made equal.
    #[cfg(feature = "diff")]
    pub(crate) fn to_read(self) -> Self {
        match self {
            Self::Xz(_) | Self::Lz4(_) => self,
            Self::Deflate(deflate) => Self::Deflate(deflate.to_read()),
            Self::Zstd(_) => Self::Zstd(zstd::Zstd::any()),
        }
    }

    /// What a device must have to re-encode it.
    #[cfg(feature = "diff")]
    pub(crate) fn caps(self) -> Caps {
        match self {
            Self::Xz(_) => Caps::XZ,
            Self::Lz4(_) => Caps::LZ4,
            Self::Deflate(_) => Caps::ZLIB,
            Self::Zstd(_) => Caps::ZSTD,
        }
    }

    /// Memory for decoding, input and what comes out not counted.
    pub(crate) fn decode_memory(self) -> u64 {
        match self {
            #[cfg(feature = "xz")]
            Self::Xz(xz) => xz.decode_memory(),
            #[cfg(feature = "lz4")]
            Self::Lz4(_) => 0,
            #[cfg(feature = "deflate")]
            Self::Deflate(_) => 64 << 10,
            #[cfg(feature = "zstd")]
            Self::Zstd(_) => 256 << 10,
        }
    }

    /// Memory for encoding `raw_len` bytes, all buffers included.
    pub(crate) fn encode_memory(self, raw_len: u32) -> u64 {
        let raw_len = u64::from(raw_len);
        let own = match self {
            #[cfg(feature = "xz")]
            Self::Xz(xz) => xz.encode_memory(raw_len),
            #[cfg(feature = "lz4")]
            Self::Lz4(_) => (512 << 10) + 2 * raw_len + (raw_len >> 7) + 1024,
            #[cfg(feature = "deflate")]
            Self::Deflate(deflate) => deflate.encode_memory(raw_len),
            #[cfg(feature = "zstd")]
            Self::Zstd(zstd) => zstd.encode_memory(raw_len),
        };
        own.saturating_add(PIECES)
    }

    /// The plain bytes, which must be `raw_len` in number.
    pub(crate) fn decode(self, encoded: &[u8], raw_len: usize) -> Option<Vec<u8>> {
        match self {
            #[cfg(feature = "xz")]
            Self::Xz(xz) => xz.decode(encoded, raw_len),
            #[cfg(feature = "lz4")]
            Self::Lz4(lz4) => lz4
                .decode(encoded, raw_len)
                .filter(|raw| raw.len() == raw_len),
            #[cfg(feature = "deflate")]
            Self::Deflate(deflate) => deflate.decode(encoded, raw_len),
            #[cfg(feature = "zstd")]
            Self::Zstd(_) => zstd::decode(encoded, raw_len),
        }
    }

    /// The compressed bytes.
    #[cfg(all(test, feature = "diff"))]
    pub(crate) fn encode(self, raw: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(self, u32::try_from(raw.len()).ok()?)?;
        encoder.push(raw, &mut out)?;
        encoder.finish(&mut out)?;
        Some(out)
    }
}

/// Encodes one extent as its plain bytes come.
pub(crate) enum Encoder {
    #[cfg(feature = "xz")]
    Xz(Box<xz::Encoder>),
    #[cfg(feature = "lz4")]
    Lz4(lz4::Lz4, Vec<u8>),
    #[cfg(feature = "deflate")]
    Deflate(Box<deflate::Encoder>),
    #[cfg(feature = "zstd")]
    Zstd(Box<zstd::Encoder>),
}

#[cfg_attr(
    not(any(feature = "xz", feature = "lz4", feature = "deflate", feature = "zstd")),
    allow(unused_variables)
)]
impl Encoder {
    /// For `raw_len` plain bytes.
    pub(crate) fn new(codec: Codec, raw_len: u32) -> Option<Self> {
        match codec {
            #[cfg(feature = "xz")]
            Codec::Xz(xz) => xz::Encoder::new(xz, raw_len).map(|xz| Self::Xz(Box::new(xz))),
            #[cfg(feature = "lz4")]
            Codec::Lz4(lz4) => Some(Self::Lz4(lz4, Vec::with_capacity(raw_len as usize))),
            #[cfg(feature = "deflate")]
            Codec::Deflate(deflate) => deflate::Encoder::new(deflate, raw_len)
                .map(|deflate| Self::Deflate(Box::new(deflate))),
            #[cfg(feature = "zstd")]
            Codec::Zstd(zstd) => {
                zstd::Encoder::new(zstd, raw_len).map(|zstd| Self::Zstd(Box::new(zstd)))
            }
        }
    }

    /// Takes the next plain bytes and appends what they give; `None` when they cannot be encoded.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
        match self {
            #[cfg(feature = "xz")]
            Self::Xz(xz) => xz.push(bytes, out),
            #[cfg(feature = "lz4")]
            Self::Lz4(_, raw) => {
                raw.extend_from_slice(bytes);
                Some(())
            }
            #[cfg(feature = "deflate")]
            Self::Deflate(deflate) => deflate.push(bytes, out),
            #[cfg(feature = "zstd")]
            Self::Zstd(zstd) => zstd.push(bytes, out),
        }
    }

    /// Ends the extent: all of its plain bytes have come.
    pub(crate) fn finish(self, out: &mut Vec<u8>) -> Option<()> {
        match self {
            #[cfg(feature = "xz")]
            Self::Xz(xz) => xz.finish(out),
            #[cfg(feature = "lz4")]
            Self::Lz4(lz4, raw) => {
                out.append(&mut lz4.encode(&raw)?);
                Some(())
            }
            #[cfg(feature = "deflate")]
            Self::Deflate(deflate) => deflate.finish(out),
            #[cfg(feature = "zstd")]
            Self::Zstd(zstd) => zstd.finish(out),
        }
    }
}
