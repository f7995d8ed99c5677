//! The streams of a window, as they are written.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;

use crate::code::Guess;
use crate::codec::model::{Model, Size};
use crate::codec::range::Encoder;
use crate::codec::{varint, zstd};
use crate::plan::lessons::Lessons;

/// The highest that needs no more memory on the device than our window.
const ZSTD_LEVEL: i32 = 19;

/// What a window adds, by profile: the mirror of the patcher's.
pub(super) enum Streams {
    /// Differences, and new bytes.
    Fast(Vec<u8>, Vec<u8>),
    Small(Box<Small>),
}

/// The one stream of the profile `small`.
pub(super) struct Small {
    size: Size,
    class: u8,
    pub(super) lessons: Lessons,
    model: Model,
    bits: Encoder,
    /// Bytes that went into differences.
    differences: u64,
    /// The model fills in what it decodes; what it encodes it writes back as it was.
    scratch: Vec<u8>,
}

impl Streams {
    /// With a model of this size.
    pub(super) fn small(size: Size, (class, made): (u8, u32)) -> Self {
        Self::Small(Box::new(Small {
            size,
            class,
            lessons: Lessons::new(class, made).expect("a class of ours"),
            model: Model::new(size),
            bits: Encoder::new(),
            differences: 0,
            scratch: Vec::new(),
        }))
    }

    pub(super) fn copied(&mut self, guess: &mut Guess, at: u64, bytes: &[u8]) {
        match self {
            Self::Fast(differences, _) => {
                let pairs = bytes.iter().zip(&guess.bytes);
                differences.extend(pairs.map(|(byte, guess)| byte.wrapping_sub(*guess)));
            }
            Self::Small(small) => {
                let before = small.bits.len();
                small.scratch.clear();
                small.scratch.extend_from_slice(bytes);
                guess.find_words(at);
                small
                    .model
                    .copied(&mut small.bits, guess, at, &mut small.scratch);
                small.differences += (small.bits.len() - before) as u64;
            }
        }
    }

    /// What of the old image the model is to be shown before new bytes.
    pub(super) fn lesson(&mut self, hint: u64) -> Range<u64> {
        match self {
            Self::Fast(..) => 0..0,
            Self::Small(small) => small.lessons.next(hint),
        }
    }

    /// Shows the model old bytes.
    pub(super) fn teach(&mut self, bytes: &[u8]) {
        if let Self::Small(small) = self {
            small.model.teach(bytes);
        }
    }

    pub(super) fn new_bytes(&mut self, hint: &[u8], bytes: &[u8]) {
        match self {
            Self::Fast(_, literals) => literals.extend_from_slice(bytes),
            Self::Small(small) => {
                small.scratch.clear();
                small.scratch.extend_from_slice(bytes);
                small
                    .model
                    .new_bytes(&mut small.bits, hint, &mut small.scratch);
            }
        }
    }

    /// Appends what is coded.
    pub(super) fn finish(self, out: &mut Vec<u8>) {
        match self {
            Self::Fast(differences, literals) => {
                let differences = zstd::compress(&differences, ZSTD_LEVEL);
                varint::write(out, differences.len() as u64);
                out.extend_from_slice(&differences);
                out.extend_from_slice(&zstd::compress(&literals, ZSTD_LEVEL));
            }
            Self::Small(small) => {
                let coded = small.bits.finish();
                varint::write(out, small.differences.min(coded.len() as u64));
                out.push(small.size.to_byte() | small.class << 3);
                out.extend_from_slice(&coded);
            }
        }
    }
}
