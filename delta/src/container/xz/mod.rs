//! xz streams (The .xz File Format 1.2.1): LZMA2, alone or behind a filter for executables.
//!
//! A stream of one block, which is what `xz`, the kernel's module install and mksquashfs write, is an
//! extent as a whole. Of a stream with more blocks (`xz -T`, `dpkg-deb`) each block is one.
//!
//! liblzma makes and reads the LZMA2 data; what stands around it is written here, because the
//! stream and the one-shot encoders differ in it.

#[cfg(feature = "diff")]
mod find;

use alloc::vec::Vec;

use liblzma::stream::{Action, Filters, LzmaOptions, Status, Stream};

use super::sums::{Crc32, Crc64, crc32};
use crate::codec::varint;

pub(crate) const MAGIC: &[u8; 6] = b"\xfd7zXZ\0";
const FOOTER_MAGIC: &[u8; 2] = b"YZ";
#[cfg(any(feature = "diff", test))]
const FOOTER_LEN: usize = 12;
const LZMA2: u8 = 0x21;
/// The first and the last of the filters for executables.
const X86: u8 = 4;
const RISCV: u8 = 11;
const STREAM_HEADER_LEN: usize = 12;
/// liblzma takes no smaller dictionary.
const DICTIONARY_MIN: u64 = 4096;

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
    /// The filter before LZMA2, by its id; 0 when there is none.
    filter: u8,
    /// Whether it is one block alone, its check included where that is known.
    part: bool,
    /// Length of the block's header in fours, where it has more room than it needs; else 0.
    header: u8,
}

impl Xz {
    #[cfg(feature = "diff")]
    #[cfg(any(feature = "diff", test))]
    pub(super) fn to_number(self) -> u64 {
        u64::from(self.preset)
            | u64::from(self.extreme) << 4
            | u64::from(self.sizes) << 5
            | u64::from(self.check) << 6
            | u64::from(self.dictionary) << 10
            | u64::from(self.properties) << 16
            | u64::from(self.filter) << 24
            | u64::from(self.part) << 28
            | u64::from(self.header) << 29
    }

    pub(super) fn from_number(number: u64) -> Option<Self> {
        let this = Self {
            preset: (number & 15) as u8,
            extreme: number >> 4 & 1 == 1,
            sizes: number >> 5 & 1 == 1,
            check: (number >> 6 & 15) as u8,
            dictionary: (number >> 10 & 63) as u8,
            properties: (number >> 16 & 255) as u8,
            filter: (number >> 24 & 15) as u8,
            part: number >> 28 & 1 == 1,
            header: (number >> 29 & 63) as u8,
        };
        let known = number >> 35 == 0
            && matches!(this.filter, 0 | X86..=RISCV)
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

    /// Memory that decoding touches: no more of the dictionary than comes.
    pub(super) fn decode_memory(self, raw_len: u64) -> u64 {
        self.dictionary_len().min(raw_len.max(DICTIONARY_MIN)) + (64 << 10)
    }

    /// Memory that encoding touches (liblzma 5.8, `lz_encoder.c`: binary trees take eight bytes for
    /// each that comes up to the dictionary's length; hashes two for each of the dictionary, and
    /// 320 KiB; bytes are held up to one and a half dictionaries and 512 KiB; prices and
    /// probabilities 400 KiB).
    pub(super) fn encode_memory(self, raw_len: u64) -> u64 {
        let dictionary = self.dictionary_len();
        let trees = dictionary.min(raw_len).saturating_mul(8);
        let hashes = dictionary.saturating_mul(2).max(256 << 10) + (320 << 10);
        let window = (dictionary + dictionary / 2 + (528 << 10)).min(raw_len + (16 << 10));
        // A header with sizes is written when the data is there.
        let held = if self.sizes {
            raw_len + (raw_len >> 3) + 1024
        } else {
            0
        };
        trees
            .saturating_add(hashes + window + (400 << 10))
            .saturating_add(held)
    }

    /// Decodes it as its bytes come.
    pub(super) fn reader(self, raw_len: u32) -> Option<Reader> {
        Some(Reader {
            stream: self.decoder(raw_len.into())?,
            skip: if self.part { 0 } else { STREAM_HEADER_LEN },
            is_skipping_block: true,
            out: Vec::new(),
            filled: 0,
        })
    }

    pub(super) fn decode(self, encoded: &[u8], raw_len: usize) -> Option<Vec<u8>> {
        let before = if self.part { 0 } else { STREAM_HEADER_LEN };
        let header_len = (usize::from(*encoded.get(before)?) + 1) * 4;
        let data = encoded.get(before + header_len..)?;
        let mut stream = self.decoder(raw_len as u64)?;
        let mut raw = Vec::new();
        // One byte more than is right, so that too long an output shows.
        raw.reserve_exact(raw_len + 1);
        run(&mut stream, data, &mut raw)?;
        (raw.len() == raw_len).then_some(raw)
    }

    /// A decoder of `raw_len` bytes: copies reach back no further than that.
    fn decoder(self, raw_len: u64) -> Option<Stream> {
        let dictionary = self.dictionary_len().min(raw_len.max(DICTIONARY_MIN));
        Stream::new_raw_decoder(&self.filters_with(dictionary)?).ok()
    }

    fn filters(self) -> Option<Filters> {
        self.filters_with(self.dictionary_len())
    }

    fn filters_with(self, dictionary: u64) -> Option<Filters> {
        const EXTREME: u32 = 1 << 31;
        let preset = u32::from(self.preset) | if self.extreme { EXTREME } else { 0 };
        let mut options = LzmaOptions::new_preset(preset).ok()?;
        let properties = u32::from(self.properties);
        options
            .dict_size(u32::try_from(dictionary).ok()?)
            .literal_context_bits(properties % 9)
            .literal_position_bits(properties / 9 % 5)
            .position_bits(properties / 45);
        let mut filters = Filters::new();
        let filters = match self.filter {
            X86 => filters.x86(),
            5 => filters.powerpc(),
            6 => filters.ia64(),
            7 => filters.arm(),
            8 => filters.arm_thumb(),
            9 => filters.sparc(),
            10 => filters.arm64(),
            RISCV => filters.riscv(),
            _ => &mut filters,
        };
        filters.lzma2(&options);
        Some(core::mem::replace(filters, Filters::new()))
    }

    fn block_header(self, data_len: usize, raw_len: usize) -> Vec<u8> {
        let has_filter = self.filter > 0;
        let mut fields = Vec::from([if self.sizes { 0xc0 } else { 0 } | u8::from(has_filter)]);
        let mut room = 0;
        if self.sizes {
            varint::write(&mut fields, data_len as u64);
            // The encoder lays the header out for the longest data there could be.
            let mut longest = Vec::new();
            varint::write(&mut longest, bound(raw_len) as u64);
            // What a stranger says of its data may be longer still.
            room = longest.len().saturating_sub(fields.len() - 1);
            varint::write(&mut fields, raw_len as u64);
        }
        if has_filter {
            fields.extend_from_slice(&[self.filter, 0]);
        }
        fields.extend_from_slice(&[LZMA2, 1, self.dictionary]);
        let header_len = (1 + fields.len() + room + 4)
            .next_multiple_of(4)
            .max(4 * usize::from(self.header));
        let mut header = Vec::from([(header_len / 4 - 1) as u8]);
        header.extend_from_slice(&fields);
        header.resize(header_len - 4, 0);
        let sum = crc32(&header);
        header.extend_from_slice(&sum.to_le_bytes());
        header
    }
}

/// The longest LZMA2 data for so many bytes.
fn bound(raw_len: usize) -> usize {
    raw_len.saturating_add(raw_len.div_ceil(1 << 16) * 3 + 1)
}

/// Bytes of a check, by its id.
fn check_len(check: u8) -> usize {
    match check {
        0 => 0,
        1..=3 => 4,
        4..=6 => 8,
        7..=9 => 16,
        10..=12 => 32,
        _ => 64,
    }
}

/// Encodes plain bytes as they come.
pub(crate) struct Encoder {
    xz: Xz,
    stream: Stream,
    raw_len: usize,
    crc32: Crc32,
    crc64: Crc64,
    /// LZMA2 data, held where the header tells of it.
    held: Vec<u8>,
    /// Length of the data so far, held or not.
    data_len: usize,
    header_len: usize,
}

/// Output is taken in such pieces.
const PIECE: usize = 64 << 10;

impl Encoder {
    pub(super) fn new(xz: Xz, raw_len: u32) -> Option<Self> {
        Some(Self {
            xz,
            stream: Stream::new_raw_encoder(&xz.filters()?).ok()?,
            raw_len: raw_len as usize,
            crc32: Crc32::default(),
            crc64: Crc64::default(),
            held: Vec::new(),
            data_len: 0,
            header_len: 0,
        })
    }

    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
        match self.xz.check {
            1 => self.crc32.update(bytes),
            4 => self.crc64.update(bytes),
            _ => {}
        }
        self.run(bytes, Action::Run, out)
    }

    pub(super) fn finish(mut self, out: &mut Vec<u8>) -> Option<()> {
        self.run(&[], Action::Finish, out)?;
        if self.xz.sizes {
            self.begin(out);
            out.append(&mut self.held);
        }
        out.resize(out.len() + self.data_len.wrapping_neg() % 4, 0);
        match self.xz.check {
            1 => out.extend_from_slice(&self.crc32.sum().to_le_bytes()),
            4 => out.extend_from_slice(&self.crc64.sum().to_le_bytes()),
            _ => {}
        }
        if !self.xz.part {
            self.end(out);
        }
        Some(())
    }

    fn run(&mut self, bytes: &[u8], action: Action, out: &mut Vec<u8>) -> Option<()> {
        if !self.xz.sizes && self.header_len == 0 {
            self.begin(out);
        }
        let target = if self.xz.sizes { &mut self.held } else { out };
        let mut piece = Vec::with_capacity(PIECE);
        let from = self.stream.total_in();
        loop {
            let done = usize::try_from(self.stream.total_in() - from).ok()?;
            piece.clear();
            let status = self
                .stream
                .process_vec(bytes.get(done..)?, &mut piece, action)
                .ok()?;
            self.data_len += piece.len();
            if target.capacity() - target.len() < piece.len() {
                target.reserve_exact(piece.len().max(target.len() / 8));
            }
            target.extend_from_slice(&piece);
            let is_taken = self.stream.total_in() - from == bytes.len() as u64;
            let is_done = match action {
                Action::Finish => status == Status::StreamEnd,
                _ => is_taken && piece.len() < PIECE,
            };
            if is_done {
                return Some(());
            }
        }
    }

    /// Writes what stands before the data.
    fn begin(&mut self, out: &mut Vec<u8>) {
        if !self.xz.part {
            let flags = [0, self.xz.check];
            out.extend_from_slice(MAGIC);
            out.extend_from_slice(&flags);
            out.extend_from_slice(&crc32(&flags).to_le_bytes());
        }
        let header = self.xz.block_header(self.data_len, self.raw_len);
        self.header_len = header.len();
        out.extend_from_slice(&header);
    }

    /// Writes the index of the stream and its footer.
    fn end(&self, out: &mut Vec<u8>) {
        let unpadded_len = self.header_len + self.data_len + check_len(self.xz.check);
        let mut index = Vec::from([0, 1]);
        varint::write(&mut index, unpadded_len as u64);
        varint::write(&mut index, self.raw_len as u64);
        pad(&mut index);
        let sum = crc32(&index);
        index.extend_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(&index);

        let mut footer = Vec::from((index.len() as u32 / 4 - 1).to_le_bytes());
        footer.extend_from_slice(&[0, self.xz.check]);
        out.extend_from_slice(&crc32(&footer).to_le_bytes());
        out.extend_from_slice(&footer);
        out.extend_from_slice(FOOTER_MAGIC);
    }
}

/// Decodes a block in order, piece by piece.
pub(crate) struct Reader {
    stream: Stream,
    /// Bytes before the next thing that is looked at.
    skip: usize,
    /// Whether that is the first byte of the block's header.
    is_skipping_block: bool,
    out: Vec<u8>,
    filled: usize,
}

impl Reader {
    pub(super) fn begin(&mut self, len: usize) {
        self.filled = 0;
        self.out.reserve_exact(len.saturating_sub(self.out.len()));
        self.out.resize(len, 0);
    }

    pub(super) fn read(&mut self, input: &[u8], wanted: &mut usize) -> Option<usize> {
        let mut used = self.skip.min(input.len());
        self.skip -= used;
        if self.skip == 0 && self.is_skipping_block {
            let Some(first) = input.get(used) else {
                return Some(used);
            };
            self.is_skipping_block = false;
            self.skip = (usize::from(*first) + 1) * 4;
        }
        let more = self.skip.min(input.len() - used);
        self.skip -= more;
        used += more;
        if self.skip > 0 || used == input.len() {
            return Some(used);
        }
        let before = (self.stream.total_in(), self.stream.total_out());
        let room = &mut self.out[self.filled..];
        self.stream
            .process(&input[used..], room, Action::Run)
            .ok()?;
        let came = usize::try_from(self.stream.total_out() - before.1).ok()?;
        used += usize::try_from(self.stream.total_in() - before.0).ok()?;
        self.filled += came;
        *wanted = wanted.checked_sub(came)?;
        Some(used)
    }

    pub(super) fn piece(&self) -> &[u8] {
        &self.out
    }
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
    use crate::container::Codec;

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
            let found = Xz::measure(&whole).expect("it is a stream");
            let [(0, measured)] = found[..] else {
                panic!("it is an extent as a whole: {found:?}");
            };
            assert_eq!((measured.len, measured.raw_len), (encoded.len(), raw.len()));
            let found = measured
                .xz
                .candidates()
                .find(|xz| Codec::Xz(*xz).encode(&raw).as_ref() == Some(&encoded));
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
