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
const PIECES: u64 = 192 << 10;

#[cfg_attr(
    not(all(feature = "xz", feature = "lz4", feature = "deflate", feature = "zstd")),
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
            Self::Xz(_) => self,
            Self::Lz4(lz4) => Self::Lz4(lz4.to_read()),
            Self::Deflate(deflate) => Self::Deflate(deflate.to_read()),
            Self::Zstd(_) => Self::Zstd(zstd::Zstd::any()),
        }
    }

    /// Whether its logical bytes begin with what the encoder decides otherwise than what made it.
    #[cfg(feature = "diff")]
    pub(crate) fn has_corrections(self) -> bool {
        match self {
            Self::Lz4(lz4) => lz4.filled,
            Self::Deflate(_) => true,
            Self::Xz(_) | Self::Zstd(_) => false,
        }
    }

    /// The logical bytes of what [has corrections](Self::has_corrections), and the codec that gives its
    /// bytes again. `hint` is what made another one.
    #[cfg(feature = "diff")]
    pub(crate) fn explain(
        self,
        encoded: &[u8],
        raw_len: usize,
        hint: Option<Self>,
    ) -> Option<(Vec<u8>, Self)> {
        match self {
            Self::Lz4(lz4) => {
                let known = hint.and_then(|hint| match hint {
                    Self::Lz4(known) => Some(known),
                    _ => None,
                });
                let (raw, lz4) = lz4.explain(encoded, raw_len, known)?;
                Some((raw, Self::Lz4(lz4)))
            }
            Self::Deflate(deflate) => {
                let known = hint.and_then(|hint| match hint {
                    Self::Deflate(known) => Some(known),
                    _ => None,
                });
                let (raw, deflate) = deflate.explain(encoded, raw_len, known)?;
                Some((raw, Self::Deflate(deflate)))
            }
            Self::Xz(_) | Self::Zstd(_) => None,
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

    /// Memory for decoding `raw_len` bytes, input and what comes out not counted.
    pub(crate) fn decode_memory(self, raw_len: u32) -> u64 {
        match self {
            #[cfg(feature = "xz")]
            Self::Xz(xz) => xz.decode_memory(raw_len.into()),
            #[cfg(feature = "lz4")]
            Self::Lz4(_) => 0,
            #[cfg(feature = "deflate")]
            Self::Deflate(_) => 64 << 10,
            #[cfg(feature = "zstd")]
            Self::Zstd(_) => 256 << 10,
        }
    }

    /// Memory of a [`Reader`] that gives pieces of `piece` bytes; `None` when there is none.
    pub(crate) fn reader_memory(self, raw_len: u32, piece: u32) -> Option<u64> {
        match self {
            #[cfg(feature = "xz")]
            Self::Xz(xz) => Some(xz.decode_memory(raw_len.into()) + u64::from(piece)),
            #[cfg(feature = "lz4")]
            Self::Lz4(_) => Some(lz4::Reader::memory(piece.into())),
            #[cfg(any(feature = "deflate", feature = "zstd"))]
            _ => None,
        }
    }

    /// Decodes as bytes come; `None` when what is so compressed is only decoded whole.
    pub(crate) fn reader(self, raw_len: u32) -> Option<Reader> {
        match self {
            #[cfg(feature = "xz")]
            Self::Xz(xz) => xz.reader(raw_len).map(|xz| Reader::Xz(Box::new(xz))),
            #[cfg(feature = "lz4")]
            Self::Lz4(lz4) => Some(Reader::Lz4(lz4.reader())),
            #[cfg(any(feature = "deflate", feature = "zstd"))]
            _ => None,
        }
    }

    /// Whether the length of the extent has to be known before it is made.
    pub(crate) fn asks_length(self) -> bool {
        match self {
            #[cfg(feature = "lz4")]
            Self::Lz4(lz4) => lz4.asks_length(),
            #[cfg(any(feature = "xz", feature = "deflate", feature = "zstd"))]
            _ => false,
        }
    }

    /// Memory for encoding `raw_len` bytes, all buffers included.
    pub(crate) fn encode_memory(self, raw_len: u32) -> u64 {
        let raw_len = u64::from(raw_len);
        let own: u64 = match self {
            #[cfg(feature = "xz")]
            Self::Xz(xz) => xz.encode_memory(raw_len),
            #[cfg(feature = "lz4")]
            Self::Lz4(lz4) => lz4.encode_memory(raw_len),
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
        let mut encoder = Encoder::new(self, u32::try_from(raw.len()).ok()?, 0)?;
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
    Lz4(lz4::Encoder),
    #[cfg(feature = "deflate")]
    Deflate(Box<deflate::Encoder>),
    #[cfg(feature = "zstd")]
    Zstd(Box<zstd::Encoder>),
}

#[cfg_attr(
    not(all(feature = "xz", feature = "lz4", feature = "deflate", feature = "zstd")),
    allow(unused_variables)
)]
impl Encoder {
    /// For `raw_len` plain bytes, which become `len` where the codec asks for that.
    pub(crate) fn new(codec: Codec, raw_len: u32, len: u32) -> Option<Self> {
        match codec {
            #[cfg(feature = "xz")]
            Codec::Xz(xz) => xz::Encoder::new(xz, raw_len).map(|xz| Self::Xz(Box::new(xz))),
            #[cfg(feature = "lz4")]
            Codec::Lz4(lz4) => Some(Self::Lz4(lz4::Encoder::new(lz4, raw_len, len))),
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
            Self::Lz4(lz4) => lz4.push(bytes, out),
            #[cfg(feature = "deflate")]
            Self::Deflate(deflate) => deflate.push(bytes, out),
            #[cfg(feature = "zstd")]
            Self::Zstd(zstd) => zstd.push(bytes, out),
            #[cfg(not(any(
                feature = "xz",
                feature = "lz4",
                feature = "deflate",
                feature = "zstd"
            )))]
            _ => None,
        }
    }

    /// The codec of what was pushed with no more in it than that took.
    #[cfg(feature = "diff")]
    pub(crate) fn settled(&self, codec: Codec) -> Codec {
        match (self, codec) {
            (Self::Lz4(encoder), Codec::Lz4(lz4)) => Codec::Lz4(encoder.settled(lz4)),
            _ => codec,
        }
    }

    /// Ends the extent: all of its plain bytes have come.
    pub(crate) fn finish(self, out: &mut Vec<u8>) -> Option<()> {
        match self {
            #[cfg(feature = "xz")]
            Self::Xz(xz) => xz.finish(out),
            #[cfg(feature = "lz4")]
            Self::Lz4(lz4) => lz4.finish(out),
            #[cfg(feature = "deflate")]
            Self::Deflate(deflate) => deflate.finish(out),
            #[cfg(feature = "zstd")]
            Self::Zstd(zstd) => zstd.finish(out),
        }
    }
}

/// Decodes one extent in order, piece by piece.
pub(crate) enum Reader {
    #[cfg(feature = "xz")]
    Xz(Box<xz::Reader>),
    #[cfg(feature = "lz4")]
    Lz4(lz4::Reader),
}

#[cfg_attr(
    not(all(feature = "xz", feature = "lz4")),
    allow(unused_variables, clippy::unused_self)
)]
impl Reader {
    /// Begins a piece of `len` bytes: what was read before is gone.
    pub(crate) fn begin(&mut self, len: usize) {
        match self {
            #[cfg(feature = "xz")]
            Self::Xz(xz) => xz.begin(len),
            #[cfg(feature = "lz4")]
            Self::Lz4(lz4) => lz4.begin(len),
            #[cfg(not(any(feature = "xz", feature = "lz4")))]
            _ => {}
        }
    }

    /// Takes bytes off `input` until the `wanted` ones are there, which are taken off it; how many
    /// of `input` were used. `None` when they are damaged.
    pub(crate) fn read(&mut self, input: &[u8], wanted: &mut usize) -> Option<usize> {
        match self {
            #[cfg(feature = "xz")]
            Self::Xz(xz) => xz.read(input, wanted),
            #[cfg(feature = "lz4")]
            Self::Lz4(lz4) => lz4.read(input, wanted),
            #[cfg(not(any(feature = "xz", feature = "lz4")))]
            _ => None,
        }
    }

    /// The piece of `len` bytes that was begun.
    pub(crate) fn piece(&self, len: usize) -> &[u8] {
        match self {
            #[cfg(feature = "xz")]
            Self::Xz(xz) => xz.piece(),
            #[cfg(feature = "lz4")]
            Self::Lz4(lz4) => lz4.last(len),
            #[cfg(not(any(feature = "xz", feature = "lz4")))]
            _ => &[],
        }
    }

    /// A reader that goes on from here, and the memory it takes, where that is little: between two
    /// pieces.
    pub(crate) fn mark(&self) -> Option<(Self, u64)> {
        match self {
            #[cfg(feature = "xz")]
            Self::Xz(_) => None,
            #[cfg(feature = "lz4")]
            Self::Lz4(lz4) => Some((Self::Lz4(lz4.clone()), lz4::Reader::memory(0))),
            #[cfg(not(any(feature = "xz", feature = "lz4")))]
            _ => None,
        }
    }
}
