//! Finding streams by their lengths, and what could have made them.

use alloc::vec::Vec;

use super::{Encoder, FOOTER_LEN, FOOTER_MAGIC, LZMA2, MAGIC, STREAM_HEADER_LEN, Xz, check_len};
use crate::codec::varint::{self, Reader};

/// What can be told of a stream without decoding it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) len: usize,
    pub(crate) raw_len: usize,
    /// With the preset unknown.
    pub(crate) xz: Xz,
    /// As the index of the stream counts it.
    unpadded_len: usize,
}

impl Xz {
    /// Walks the streams' blocks at the start of `bytes` by their lengths, without decoding: the
    /// whole stream where it has one block, else each block with its place.
    pub(crate) fn measure(bytes: &[u8]) -> Option<Vec<(usize, Measured)>> {
        let check = *bytes.strip_prefix(MAGIC)?.get(1)?;
        let mut blocks = Vec::new();
        let mut at = STREAM_HEADER_LEN;
        while *bytes.get(at)? != 0 {
            let (block, len) = Self::measure_block(&bytes[at..], check)?;
            let padded = len.next_multiple_of(4) + check_len(check);
            blocks.push((at, block));
            at += padded;
        }
        let [(_, block)] = blocks[..] else {
            return Some(blocks).filter(|blocks| !blocks.is_empty());
        };
        let unpadded_len = block.unpadded_len;
        let end = at + index_len(unpadded_len, block.raw_len) + FOOTER_LEN;
        if bytes.get(end - 2..end) == Some(&FOOTER_MAGIC[..]) && matches!(check, 0 | 1 | 4) {
            let xz = Self {
                part: false,
                ..block.xz
            };
            return Some(Vec::from([(
                0,
                Measured {
                    len: end,
                    xz,
                    ..block
                },
            )]));
        }
        Some(blocks)
    }

    /// One block at the start of `bytes`, and its length without padding and check.
    fn measure_block(bytes: &[u8], check: u8) -> Option<(Measured, usize)> {
        let header_len = (usize::from(*bytes.first()?) + 1) * 4;
        let header = bytes.get(..header_len)?;
        let mut reader = Reader::new(&header[1..]);
        let flags = reader.byte()?;
        let sizes = match flags & 0xfe {
            0 => false,
            0xc0 => {
                reader.number()?;
                reader.number()?;
                true
            }
            _ => return None,
        };
        let filter = if flags & 1 == 0 {
            0
        } else {
            let [filter, properties] = reader.array::<2>()?;
            (properties == 0).then_some(filter)?
        };
        let [last, _, dictionary] = reader.array::<3>()?;
        let (data_len, raw_len, properties) = walk(&bytes[header_len..])?;
        let len = header_len + data_len;
        let number = Self {
            preset: 6,
            extreme: false,
            // A check that we do not make stands outside of the extent.
            check: if matches!(check, 0 | 1 | 4) { check } else { 0 },
            sizes,
            dictionary,
            properties,
            filter,
            part: true,
            header: 0,
        };
        let mut xz = Self::from_number(number.to_number()).filter(|_| last == LZMA2)?;
        if xz.block_header(data_len, raw_len).len() < header_len {
            xz.header = u8::try_from(header_len / 4)
                .ok()
                .filter(|fours| *fours < 64)?;
        }
        let measured = Measured {
            len: len.next_multiple_of(4) + check_len(xz.check),
            raw_len,
            xz,
            unpadded_len: len + check_len(check),
        };
        Some((measured, len))
    }

    /// The same stream by every preset, the likely ones first.
    pub(crate) fn candidates(self) -> impl Iterator<Item = Self> {
        let presets = [6, 9, 7, 8, 5, 4, 3, 2, 1, 0];
        [false, true].into_iter().flat_map(move |extreme| {
            presets.map(|preset| Self {
                preset,
                extreme,
                ..self
            })
        })
    }

    /// Whether a stream made so would begin with the data of this one: a preset is ruled out before
    /// all is encoded.
    pub(crate) fn begins(self, encoded: &[u8], raw: &[u8]) -> bool {
        const SAMPLE: usize = 1 << 20;
        let data = |bytes: &'_ [u8], before: usize| -> Option<usize> {
            Some(before + (usize::from(*bytes.get(before)?) + 1) * 4)
        };
        let begins = || {
            let bare = Self {
                sizes: false,
                part: true,
                ..self
            };
            let mut out = Vec::new();
            Encoder::new(bare, u32::try_from(raw.len()).ok()?)?.push(&raw[..SAMPLE], &mut out)?;
            let from = data(encoded, if self.part { 0 } else { STREAM_HEADER_LEN })?;
            let made = data(&out, 0)?;
            Some(encoded.get(from..)?.starts_with(&out[made..]))
        };
        raw.len() <= SAMPLE || begins() == Some(true)
    }

    /// The same stream with the preset of another.
    pub(crate) fn with_preset_of(self, other: Self) -> Self {
        Self {
            preset: other.preset,
            extreme: other.extreme,
            ..self
        }
    }
}

/// Walks LZMA2 chunks: length of the data, of what it decodes to, and its properties.
fn walk(data: &[u8]) -> Option<(usize, usize, u8)> {
    let (mut at, mut raw_len, mut properties) = (0, 0, None);
    let pair = |at: usize| Some(usize::from(*data.get(at)?) << 8 | usize::from(*data.get(at + 1)?));
    loop {
        let control = *data.get(at)?;
        match control {
            0 => return Some((at + 1, raw_len, properties.unwrap_or(0x5d))),
            1 | 2 => {
                let len = pair(at + 1)? + 1;
                raw_len += len;
                at += 3 + len;
            }
            0x80.. => {
                raw_len += (usize::from(control & 0x1f) << 16 | pair(at + 1)?) + 1;
                let len = pair(at + 3)? + 1;
                let with_properties = control >= 0xc0;
                if with_properties {
                    properties.get_or_insert(*data.get(at + 5)?);
                }
                at += 5 + usize::from(with_properties) + len;
            }
            _ => return None,
        }
    }
}

fn index_len(unpadded_len: usize, raw_len: usize) -> usize {
    let mut numbers = Vec::new();
    varint::write(&mut numbers, unpadded_len as u64);
    varint::write(&mut numbers, raw_len as u64);
    (2 + numbers.len()).next_multiple_of(4) + 4
}
