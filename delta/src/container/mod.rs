//! Compressed stretches of an image: how they are decoded, and reproduced byte for byte.
//!
//! The signer finds them (see `diff::unpack`), proves that re-encoding gives the very same bytes,
//! and writes down a [`Codec`]; the device follows a flat list and parses no container.

#[cfg(feature = "xz")]
mod sums;
#[cfg(feature = "xz")]
pub(crate) mod xz;

#[cfg(feature = "lz4")]
pub(crate) mod lz4;

use alloc::vec::Vec;

#[cfg(feature = "diff")]
use crate::header::Caps;

/// How a stretch was compressed, down to what its bytes depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Codec {
    /// One xz stream with one LZMA2 block.
    #[cfg(feature = "xz")]
    Xz(xz::Xz),
    /// One LZ4 block, as in the legacy frame of Linux kernels.
    #[cfg(feature = "lz4")]
    Lz4(lz4::Lz4),
}

#[cfg_attr(not(any(feature = "xz", feature = "lz4")), allow(unused_variables))]
impl Codec {
    /// The codec as a number: the kind in the low bits, its parameters above.
    #[cfg(feature = "diff")]
    pub(crate) fn to_number(self) -> u64 {
        match self {
            #[cfg(feature = "xz")]
            Self::Xz(xz) => xz.to_number() << 3 | 1,
            #[cfg(feature = "lz4")]
            Self::Lz4(lz4) => u64::from(lz4.level) << 3 | 2,
        }
    }

    /// The codec that a number stands for, if this build has it.
    pub(crate) fn from_number(number: u64) -> Option<Self> {
        match number & 7 {
            #[cfg(feature = "xz")]
            1 => xz::Xz::from_number(number >> 3).map(Self::Xz),
            #[cfg(feature = "lz4")]
            2 => Some(Self::Lz4(lz4::Lz4 {
                level: u8::try_from(number >> 3).ok()?,
            })),
            _ => None,
        }
    }

    /// What a device must have to re-encode it.
    #[cfg(feature = "diff")]
    pub(crate) fn caps(self) -> Caps {
        match self {
            #[cfg(feature = "xz")]
            Self::Xz(_) => Caps::XZ,
            #[cfg(feature = "lz4")]
            Self::Lz4(_) => Caps::LZ4,
        }
    }

    /// Memory for decoding, what comes out not counted.
    pub(crate) fn decode_memory(self) -> u64 {
        match self {
            #[cfg(feature = "xz")]
            Self::Xz(xz) => xz.decode_memory(),
            #[cfg(feature = "lz4")]
            Self::Lz4(_) => 0,
        }
    }

    /// Memory for encoding `raw_len` bytes, input and output not counted.
    pub(crate) fn encode_memory(self) -> u64 {
        match self {
            #[cfg(feature = "xz")]
            Self::Xz(xz) => xz.encode_memory(),
            #[cfg(feature = "lz4")]
            Self::Lz4(_) => 512 << 10,
        }
    }

    /// The plain bytes, which must be `raw_len` in number.
    pub(crate) fn decode(self, encoded: &[u8], raw_len: usize) -> Option<Vec<u8>> {
        match self {
            #[cfg(feature = "xz")]
            Self::Xz(xz) => xz.decode(encoded, raw_len),
            #[cfg(feature = "lz4")]
            Self::Lz4(_) => lz4::decode(encoded, raw_len).filter(|raw| raw.len() == raw_len),
        }
    }

    /// The compressed bytes.
    pub(crate) fn encode(self, raw: &[u8]) -> Option<Vec<u8>> {
        match self {
            #[cfg(feature = "xz")]
            Self::Xz(xz) => xz.encode(raw),
            #[cfg(feature = "lz4")]
            Self::Lz4(lz4) => lz4.encode(raw),
        }
    }
}
