//! xz streams (The .xz File Format 1.2.1) with one block and the LZMA2 filter alone, which is what
//! `xz`, the kernel's module install and mksquashfs write.
//!
//! liblzma makes and reads the LZMA2 data; what stands around it is written here, because the
//! stream and the one-shot encoders differ in it.

use alloc::vec::Vec;

use liblzma::stream::{Action, Filters, LzmaOptions, Status, Stream};

use super::sums::{crc32, crc64};
use crate::codec::varint::{self, Reader};

pub(crate) const MAGIC: &[u8; 6] = b"\xfd7zXZ\0";
const FOOTER_MAGIC: &[u8; 2] = b"YZ";
const FOOTER_LEN: usize = 12;
const LZMA2: u8 = 0x21;

/// What the bytes of a stream depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Xz {
    /// 0..=9
    preset: u8,
    extreme: bool,
    /// The check's id: 0 none, 1 CRC-32, 4 CRC-64.
    check: u8,
    /// Whether the block's header tells its sizes (the one-shot encoder does that).
    sizes: bool,
    /// The dictionary's size as LZMA2 writes it: 0..=40.
    dictionary: u8,
    /// lc, lp and pb in one byte, as LZMA writes them.
    properties: u8,
}

/// What can be told of a stream without decoding it.
#[cfg(feature = "diff")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) len: usize,
    pub(crate) raw_len: usize,
    /// With the preset unknown.
    pub(crate) xz: Xz,
}

impl Xz {
    #[cfg(feature = "diff")]
    pub(super) fn to_number(self) -> u64 {
        u64::from(self.preset)
            | u64::from(self.extreme) << 4
            | u64::from(self.sizes) << 5
            | u64::from(self.check) << 6
            | u64::from(self.dictionary) << 10
            | u64::from(self.properties) << 16
    }

    pub(super) fn from_number(number: u64) -> Option<Self> {
        let this = Self {
            preset: (number & 15) as u8,
            extreme: number >> 4 & 1 == 1,
            sizes: number >> 5 & 1 == 1,
            check: (number >> 6 & 15) as u8,
            dictionary: (number >> 10 & 63) as u8,
            properties: (number >> 16 & 255) as u8,
        };
        let known = number >> 24 == 0
            && this.preset <= 9
            && matches!(this.check, 0 | 1 | 4)
            && this.dictionary <= 40
            && this.properties < 225;
        known.then_some(this)
    }

    fn dictionary_len(self) -> u64 {
        match self.dictionary {
            40 => u64::from(u32::MAX),
            bits => (2 | u64::from(bits) & 1) << (bits / 2 + 11),
        }
    }

    pub(super) fn decode_memory(self) -> u64 {
        self.dictionary_len() + (64 << 10)
    }

    pub(super) fn encode_memory(self) -> u64 {
        // Measured with presets 6 to 9 (binary tree match finders): 11 bytes for each of the
        // dictionary, and tables.
        self.dictionary_len().saturating_mul(11) + (3 << 20)
    }

    pub(super) fn decode(self, encoded: &[u8], raw_len: usize) -> Option<Vec<u8>> {
        let mut stream = Stream::new_stream_decoder(self.decode_memory() * 2, 0).ok()?;
        let mut raw = Vec::new();
        // One byte more than is right, so that too long an output shows.
        raw.reserve_exact(raw_len + 1);
        run(&mut stream, encoded, &mut raw)?;
        (stream.total_in() == encoded.len() as u64 && raw.len() == raw_len).then_some(raw)
    }

    pub(super) fn encode(self, raw: &[u8]) -> Option<Vec<u8>> {
        let data = self.lzma2(raw)?;
        let flags = [0, self.check];
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&flags);
        out.extend_from_slice(&crc32(&flags).to_le_bytes());

        let header = self.block_header(data.len(), raw.len());
        let unpadded_len = header.len() + data.len() + check_len(self.check);
        out.extend_from_slice(&header);
        out.extend_from_slice(&data);
        pad(&mut out);
        match self.check {
            1 => out.extend_from_slice(&crc32(raw).to_le_bytes()),
            4 => out.extend_from_slice(&crc64(raw).to_le_bytes()),
            _ => {}
        }

        let mut index = Vec::from([0, 1]);
        varint::write(&mut index, unpadded_len as u64);
        varint::write(&mut index, raw.len() as u64);
        pad(&mut index);
        let sum = crc32(&index);
        index.extend_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(&index);

        let mut footer = Vec::from((index.len() as u32 / 4 - 1).to_le_bytes());
        footer.extend_from_slice(&flags);
        out.extend_from_slice(&crc32(&footer).to_le_bytes());
        out.extend_from_slice(&footer);
        out.extend_from_slice(FOOTER_MAGIC);
        Some(out)
    }

    /// The LZMA2 data itself.
    fn lzma2(self, raw: &[u8]) -> Option<Vec<u8>> {
        const EXTREME: u32 = 1 << 31;
        let preset = u32::from(self.preset) | if self.extreme { EXTREME } else { 0 };
        let mut options = LzmaOptions::new_preset(preset).ok()?;
        let properties = u32::from(self.properties);
        options
            .dict_size(u32::try_from(self.dictionary_len()).ok()?)
            .literal_context_bits(properties % 9)
            .literal_position_bits(properties / 9 % 5)
            .position_bits(properties / 45);
        let mut filters = Filters::new();
        filters.lzma2(&options);
        let mut stream = Stream::new_raw_encoder(&filters).ok()?;
        let mut data = Vec::new();
        data.reserve_exact(bound(raw.len()));
        run(&mut stream, raw, &mut data)?;
        Some(data)
    }

    fn block_header(self, data_len: usize, raw_len: usize) -> Vec<u8> {
        let mut fields = Vec::from([if self.sizes { 0xc0 } else { 0 }]);
        let mut room = 0;
        if self.sizes {
            varint::write(&mut fields, data_len as u64);
            // The encoder lays the header out for the longest data there could be.
            let mut longest = Vec::new();
            varint::write(&mut longest, bound(raw_len) as u64);
            room = longest.len() - (fields.len() - 1);
            varint::write(&mut fields, raw_len as u64);
        }
        fields.extend_from_slice(&[LZMA2, 1, self.dictionary]);
        let header_len = (1 + fields.len() + room + 4).next_multiple_of(4);
        let mut header = Vec::from([(header_len / 4 - 1) as u8]);
        header.extend_from_slice(&fields);
        header.resize(header_len - 4, 0);
        let sum = crc32(&header);
        header.extend_from_slice(&sum.to_le_bytes());
        header
    }

    /// Walks one stream at the start of `bytes` by its lengths, without decoding.
    #[cfg(feature = "diff")]
    pub(crate) fn measure(bytes: &[u8]) -> Option<Measured> {
        let check = *bytes.strip_prefix(MAGIC)?.get(1)?;
        let block = 12;
        let header_len = (usize::from(*bytes.get(block)?) + 1) * 4;
        let header = bytes.get(block..block + header_len)?;
        let mut reader = Reader::new(&header[1..]);
        let sizes = match reader.byte()? {
            0 => false,
            0xc0 => {
                reader.number()?;
                reader.number()?;
                true
            }
            _ => return None,
        };
        let [filter, _, dictionary] = reader.array::<3>()?;
        let (data_len, raw_len, properties) = walk(&bytes[block + header_len..])?;
        let footer = block
            + header_len
            + data_len.next_multiple_of(4)
            + check_len(check)
            + index_len(header_len + data_len + check_len(check), raw_len);
        let end = footer + FOOTER_LEN;
        let number = Self {
            preset: 6,
            extreme: false,
            check,
            sizes,
            dictionary,
            properties,
        };
        let known = filter == LZMA2 && bytes.get(end - 2..end)? == FOOTER_MAGIC;
        let xz = Self::from_number(number.to_number()).filter(|_| known)?;
        Some(Measured {
            len: end,
            raw_len,
            xz,
        })
    }

    /// The same stream by every preset, the likely ones first.
    #[cfg(feature = "diff")]
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

    /// The same stream with the preset of another.
    #[cfg(feature = "diff")]
    pub(crate) fn with_preset_of(self, other: Self) -> Self {
        Self {
            preset: other.preset,
            extreme: other.extreme,
            ..self
        }
    }
}

/// Walks LZMA2 chunks: length of the data, of what it decodes to, and its properties.
#[cfg(feature = "diff")]
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

/// The longest LZMA2 data for so many bytes.
fn bound(raw_len: usize) -> usize {
    raw_len + raw_len.div_ceil(1 << 16) * 3 + 1
}

fn check_len(check: u8) -> usize {
    match check {
        1 => 4,
        4 => 8,
        _ => 0,
    }
}

#[cfg(feature = "diff")]
fn index_len(unpadded_len: usize, raw_len: usize) -> usize {
    let mut numbers = Vec::new();
    varint::write(&mut numbers, unpadded_len as u64);
    varint::write(&mut numbers, raw_len as u64);
    (2 + numbers.len()).next_multiple_of(4) + 4
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

/// Runs a coder over all of `input`, into the room that `output` has.
fn run(stream: &mut Stream, input: &[u8], output: &mut Vec<u8>) -> Option<()> {
    loop {
        let at = usize::try_from(stream.total_in()).ok()?;
        match stream
            .process_vec(input.get(at..)?, output, Action::Finish)
            .ok()?
        {
            Status::StreamEnd => return Some(()),
            _ if output.len() == output.capacity() => return None,
            _ => {}
        }
    }
}

#[cfg(all(test, feature = "diff"))]
mod tests {
    use super::*;

    #[test]
    fn what_liblzma_writes_is_measured_and_reproduced() {
        let raw: Vec<u8> = (0..200_000u32)
            .flat_map(|n| (n / 7).wrapping_mul(n).to_le_bytes())
            .collect();
        for (preset, check) in [
            (6, liblzma::stream::Check::Crc32),
            (9, liblzma::stream::Check::Crc64),
        ] {
            let mut options = LzmaOptions::new_preset(preset).expect("a preset");
            options.dict_size(1 << 20);
            let mut filters = Filters::new();
            filters.lzma2(&options);
            let mut stream = Stream::new_stream_encoder(&filters, check).expect("an encoder");
            let mut encoded = Vec::with_capacity(raw.len() * 2);
            run(&mut stream, &raw, &mut encoded).expect("it encodes");
            let whole = [&encoded[..], b"what follows"].concat();
            let measured = Xz::measure(&whole).expect("it is a stream");
            assert_eq!((measured.len, measured.raw_len), (encoded.len(), raw.len()));
            let found = measured
                .xz
                .candidates()
                .find(|xz| xz.encode(&raw).as_ref() == Some(&encoded));
            let found = found.expect("one preset reproduces it");
            assert_eq!(Xz::from_number(found.to_number()), Some(found));
            assert_eq!(found.decode(&encoded, raw.len()).as_ref(), Some(&raw));
            assert_eq!(
                found.decode(&encoded, raw.len() - 1).map(|raw| raw.len()),
                None
            );
        }
    }
}
