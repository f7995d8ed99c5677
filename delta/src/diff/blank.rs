//! Images for matching only: with the operands of references blanked, so that code that moved still
//! matches. What the operands really are is predicted later (see `code`), or coded.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use super::elf::Executable;
use super::image::Image;
use crate::code::btf::{Record, Word};
use crate::code::{Kind, Machine, x64_shape};

/// The text of `image` with the operands in its executables' code set to zero.
pub(super) fn blanked<'a>(image: &'a Image, executables: &[Executable]) -> Cow<'a, [u8]> {
    let types: Vec<usize> = btf_in(image.text());
    if executables.is_empty() && types.is_empty() {
        return Cow::Borrowed(image.text());
    }
    let mut blank = image.text().to_vec();
    for at in types {
        blank_btf(&mut blank[at..]);
    }
    for executable in executables {
        let code = executable
            .zones
            .iter()
            .filter(|zone| zone.kind == Kind::Code);
        for zone in code {
            let start = executable.at + zone.at;
            for (range, place) in image.held_in(start..start + zone.len) {
                // Instructions are at multiples of their length from where the zone begins.
                let skip = (start.wrapping_sub(place) % 4) as usize;
                let code = blank[range].get_mut(skip..).unwrap_or_default();
                blank_code(code, executable);
            }
        }
    }
    Cow::Owned(blank)
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

/// Blanks the names and types that BTF refers to.
fn blank_btf(image: &mut [u8]) {
    let number = |at: usize| {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let (Some(from), Some(len)) = (number(8), number(12)) else {
        return;
    };
    let start = BTF.len() + 16 + from;
    let Some(types) = image.get_mut(start..start.saturating_add(len)) else {
        return;
    };
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
