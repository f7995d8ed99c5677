//! Images for matching only: with the operands of references blanked, so that code that moved still
//! matches. What the operands really are is predicted later (see `code`), or coded.

use alloc::vec::Vec;
use core::ops::Range;

use super::elf::Executable;
use super::image::Image;
use crate::code::btf::{Record, Word};
use crate::code::{Kind, Machine, x64_shape};
use crate::codec::varint::{self, Reader};

/// What was blanked, to be put back: a copy of the whole image would take as much again.
#[derive(Debug, Default)]
pub(super) struct Blanked(Vec<Stretch>);

/// What was blanked of a stretch: for each run of bytes how far it is from the last, how long, and
/// what it was.
#[derive(Debug)]
struct Stretch {
    range: Range<usize>,
    runs: Vec<u8>,
}

/// Sets the operands in the code of an image's executables to zero.
pub(super) fn blank(image: &mut Image, executables: &[Executable]) -> Blanked {
    let mut blanked = Blanked::default();
    let types: Vec<usize> = btf_in(image.text());
    for at in types {
        let types = btf_types(&image.text()[at..]);
        let types = types.map(|types| at + types.start..at + types.end);
        if let Some(range) = types {
            blanked.blank(image, range, blank_btf);
        }
    }
    for executable in executables {
        let code = executable
            .zones
            .iter()
            .filter(|zone| zone.kind == Kind::Code);
        for zone in code {
            let start = executable.at + zone.at;
            let held: Vec<_> = image.held_in(start..start + zone.len).collect();
            for (range, place) in held {
                // Instructions are at multiples of their length from where the zone begins.
                let skip = (start.wrapping_sub(place) % 4) as usize;
                if skip < range.len() {
                    let range = range.start + skip..range.end;
                    blanked.blank(image, range, |code| blank_code(code, executable));
                }
            }
        }
    }
    blanked
}

impl Blanked {
    /// Blanks a stretch of the text.
    fn blank(&mut self, image: &mut Image, range: Range<usize>, blank: impl FnOnce(&mut [u8])) {
        let known = image.text()[range.clone()].to_vec();
        let now = &mut image.text_mut()[range.clone()];
        blank(now);
        let (mut runs, mut at, mut told) = (Vec::new(), 0, 0);
        while at < now.len() {
            let len = now[at..].iter().zip(&known[at..]);
            let len = len.take_while(|(now, known)| now != known).count();
            if len == 0 {
                at += super::suffix::common_prefix(&now[at..], &known[at..]);
                continue;
            }
            varint::write(&mut runs, (at - told) as u64);
            varint::write(&mut runs, len as u64);
            runs.extend_from_slice(&known[at..at + len]);
            at += len;
            told = at;
        }
        runs.shrink_to_fit();
        self.0.push(Stretch { range, runs });
    }

    /// Puts everything back.
    pub(super) fn restore(self, image: &mut Image) {
        for stretch in self.0.into_iter().rev() {
            let text = &mut image.text_mut()[stretch.range];
            let (mut reader, mut at) = (Reader::new(&stretch.runs), 0);
            while let Some((gap, len)) = reader.number().zip(reader.number()) {
                at += gap as usize;
                let known = reader.slice(len as usize).expect("it was written so");
                text[at..at + known.len()].copy_from_slice(known);
                at += known.len();
            }
        }
    }
}

fn blank_code(code: &mut [u8], executable: &Executable) {
    match executable.machine {
        Machine::X64 => blank_x64(code, executable.len),
        Machine::A64 => blank_words(code, |word| match word {
            _ if word & 0x7c00_0000 == 0x1400_0000 => word & 0xfc00_0000,
            _ if word & 0x9f00_0000 == 0x9000_0000 => word & 0x9f00_001f,
            _ => word,
        }),
        Machine::A32 => blank_words(code, |word| match word {
            _ if word & 0x0e00_0000 == 0x0a00_0000 => word & 0xff00_0000,
            _ => word,
        }),
        Machine::Thumb => blank_thumb(code),
    }
}

/// What BTF begins with: magic, version 1, no flags, the length of its header.
const BTF: &[u8] = &[0x9f, 0xeb, 1, 0, 24, 0, 0, 0];

/// Where BTF stands in an image.
fn btf_in(image: &[u8]) -> Vec<usize> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(next) = image[at..].iter().position(|byte| *byte == BTF[0]) {
        at += next;
        if image[at..].starts_with(BTF) {
            found.push(at);
        }
        at += 1;
    }
    found
}

/// Where the types of the BTF stand that an image begins with.
fn btf_types(image: &[u8]) -> Option<Range<usize>> {
    let number = |at: usize| {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let start = BTF.len() + 16 + number(8)?;
    let range = start..start.saturating_add(number(12)?);
    image.get(range.clone()).map(|_| range)
}

/// Blanks the names and types that BTF refers to.
fn blank_btf(types: &mut [u8]) {
    let (mut words, _) = types.as_chunks_mut::<4>();
    while let Some(record) = words
        .get(1)
        .and_then(|info| Record::parse(u32::from_le_bytes(*info)))
    {
        let Some((members, rest)) = words.split_at_mut_checked(record.len()) else {
            return;
        };
        for (index, word) in members.iter_mut().enumerate() {
            if record.word(index) != Word::Other {
                *word = [0; 4];
            }
        }
        words = rest;
    }
}

fn blank_x64(code: &mut [u8], reach: u64) {
    let mut at = 0;
    while at + 5 <= code.len() {
        at += match x64_shape(&code[at..]) {
            Some((skip, _)) if is_near(code.get(at + skip..at + skip + 4), reach) => {
                code[at + skip..at + skip + 4].fill(0);
                skip + 4
            }
            _ => 1,
        };
    }
}

/// Whether a distance stays in the executable's neighbourhood, as real ones do.
fn is_near(distance: Option<&[u8]>, reach: u64) -> bool {
    distance
        .and_then(|bytes| bytes.try_into().ok())
        .is_some_and(|bytes| u64::from(i32::from_le_bytes(bytes).unsigned_abs()) < reach)
}

fn blank_words(code: &mut [u8], blank: impl Fn(u32) -> u32) {
    let (words, _) = code.as_chunks_mut::<4>();
    for word in words {
        *word = blank(u32::from_le_bytes(*word)).to_le_bytes();
    }
}

fn blank_thumb(code: &mut [u8]) {
    let mut at = 0;
    while let Some(&[a, b, c, d]) = code.get(at..at + 4) {
        let (first, second) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
        if first & 0xf800 == 0xf000 && second & 0xd000 == 0xd000 {
            let halves: Vec<u8> = [first & 0xf800, second & 0xd000]
                .iter()
                .flat_map(|half| half.to_le_bytes())
                .collect();
            code[at..at + 4].copy_from_slice(&halves);
            at += 4;
        } else {
            at += 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::Watched;
    use super::*;

    /// Catches a run that is put back in another place, and stretches that overlap put back in the
    /// order in which they were blanked.
    #[test]
    fn what_was_blanked_comes_back() {
        let bytes: Vec<u8> = (0..5000u32).map(|n| ((n * n) >> 3) as u8).collect();
        let bytes = &bytes[..];
        let source = Watched::new(&bytes);
        let mut image = Image::new(&source, &[]);
        let mut blanked = Blanked::default();
        for (range, every) in [(10..4000, 3), (100..5000, 7), (0..20, 1), (50..50, 1)] {
            blanked.blank(&mut image, range, |stretch| {
                stretch.iter_mut().step_by(every).for_each(|byte| *byte = 1);
            });
        }
        assert_ne!(image.text(), bytes);
        blanked.restore(&mut image);
        assert_eq!(image.text(), bytes);
    }
}
