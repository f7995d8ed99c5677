//! Finding a stream, and what made it.

use alloc::vec::Vec;

use super::coder::{Coder, LIST_MAX};
use super::matcher::Held;
use super::record::{Parsed, Recorder};
use super::{Deflate, Family, Wrapper, ZLIB_METHOD, inflate, varint};
use crate::container::sums::Adler32;

/// A stream that was found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    /// With its wrapper, as far as the extent takes it in.
    pub(crate) len: usize,
    pub(crate) raw_len: usize,
    /// Its level not known yet.
    pub(crate) deflate: Deflate,
}

/// Levels are told apart by so many bytes.
const SAMPLE: u32 = 96 << 10;
/// Corrections may take up to this share of the stream.
const LIST_SHARE: usize = 4;

impl Deflate {
    fn unknown(wrapper: Wrapper) -> Self {
        Self {
            level: 6,
            family: Family::Zlib,
            memory: 8,
            wrapper,
            corrected: false,
        }
    }

    /// A deflate stream at the start of `bytes`, bare or before the sums of gzip.
    pub(crate) fn measure(bytes: &[u8], with_sums: bool, raw_max: usize) -> Option<Found> {
        let wrapper = if with_sums {
            Wrapper::Sums
        } else {
            Wrapper::None
        };
        let (raw, len) = inflate::inflate(bytes, raw_max, &mut inflate::Plain)?;
        let deflate = Self::unknown(wrapper);
        let len = len + deflate.around().1;
        let found = Found {
            len,
            raw_len: raw.len(),
            deflate,
        };
        let size = (raw.len() as u32).to_le_bytes();
        let fits = !with_sums || bytes.get(len - 4..len)? == size;
        (fits && len <= bytes.len()).then_some(found)
    }

    /// A zlib stream at the start of `bytes`.
    pub(crate) fn measure_zlib(bytes: &[u8], raw_max: usize) -> Option<Found> {
        let [method, flags] = *bytes.first_chunk()?;
        let plausible = method == ZLIB_METHOD
            && flags & 0x20 == 0
            && u16::from_be_bytes([method, flags]) % 31 == 0;
        if !plausible {
            return None;
        }
        let (raw, len) = inflate::inflate(&bytes[2..], raw_max, &mut inflate::Plain)?;
        let mut adler = Adler32::default();
        adler.update(&raw);
        let sum = bytes.get(2 + len..2 + len + 4)?;
        (*sum == adler.sum().to_be_bytes()).then_some(Found {
            len: len + 6,
            raw_len: raw.len(),
            deflate: Self::unknown(Wrapper::Zlib(flags)),
        })
    }

    /// The same stream as `other` is made.
    pub(crate) fn made_as(self, other: Self) -> Self {
        Self {
            wrapper: self.wrapper,
            corrected: false,
            ..other
        }
    }

    /// The same stream, with all that does not matter to a reader made equal.
    pub(crate) fn to_read(self) -> Self {
        let wrapper = match self.wrapper {
            Wrapper::Zlib(_) => Wrapper::Zlib(0),
            other => other,
        };
        Self::unknown(wrapper)
    }

    /// All that is predicted, the likely ones first.
    fn candidates(self) -> impl Iterator<Item = Self> {
        let families = [
            (Family::Zlib, 8),
            (Family::Gzip, 8),
            (Family::Zlib, 9),
            (Family::Chromium, 8),
        ];
        let levels = [9, 6, 1, 5, 8, 7, 4, 3, 2];
        levels.into_iter().flat_map(move |level| {
            families.map(|(family, memory)| Self {
                level,
                family,
                memory,
                ..self
            })
        })
    }

    /// What made the stream: its logical bytes and the codec that gives its bytes again. `hint`
    /// is what made another stream of the image.
    pub(crate) fn explain(
        self,
        encoded: &[u8],
        raw_len: usize,
        hint: Option<Self>,
    ) -> Option<(Vec<u8>, Self)> {
        let (before, after) = self.around();
        let stream = encoded.get(before..encoded.len().checked_sub(after)?)?;
        let parsed = Parsed::new(stream, raw_len)?;
        let hinted = hint.map(|hint| self.made_as(hint));
        let exact = |this: &Self| this.wrong_in(&parsed, stream, SAMPLE) == Some(0);
        let made = match hinted.filter(exact) {
            Some(made) => made,
            None => {
                self.candidates()
                    .filter_map(|this| Some((this.wrong_in(&parsed, stream, SAMPLE)?, this)))
                    .min_by_key(|(wrong, _)| *wrong)?
                    .1
            }
        };
        let list_max = (stream.len() / LIST_SHARE).min(LIST_MAX);
        let list = made.corrections(&parsed, stream, list_max)?;
        if list.is_empty() {
            return Some((parsed.raw, made));
        }
        let mut raw = Vec::new();
        varint::write(&mut raw, list.len() as u64);
        raw.extend_from_slice(&list);
        raw.extend_from_slice(&parsed.raw);
        let corrected = true;
        Some((raw, Self { corrected, ..made }))
    }

    /// Wrong predictions in the first `sample` bytes.
    fn wrong_in(self, parsed: &Parsed, stream: &[u8], sample: u32) -> Option<usize> {
        let recorder = Recorder::new(parsed, stream, LIST_MAX);
        let len = u32::try_from(parsed.raw.len()).ok()?;
        let mut coder = Coder::new(self, len, recorder);
        coder.run_to(whole(&parsed.raw), sample)?;
        Some(coder.judge.wrong)
    }

    fn corrections(self, parsed: &Parsed, stream: &[u8], list_max: usize) -> Option<Vec<u8>> {
        let recorder = Recorder::new(parsed, stream, list_max);
        let len = u32::try_from(parsed.raw.len()).ok()?;
        let mut coder = Coder::new(self, len, recorder);
        let mut compared = 0;
        while !coder.is_done() {
            coder.run(whole(&parsed.raw))?;
            let made = coder.take_output();
            let end = compared + made.len();
            if stream.get(compared..end)? != made {
                return None;
            }
            compared = end;
        }
        (compared == stream.len()).then_some(coder.judge.list)
    }
}

fn whole(raw: &[u8]) -> Held<'_> {
    Held {
        bytes: raw,
        start: 0,
    }
}
