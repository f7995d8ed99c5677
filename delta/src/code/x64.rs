//! x86-64: calls, jumps and data through the instruction pointer, all 32-bit distances.

use super::{Form, Guesses, View};

/// Finds instructions by their shape alone: no decoder runs along, a wrong find costs little.
pub(super) fn code(view: &View, guesses: &mut impl Guesses) {
    let mut at = 0;
    while at + 5 <= view.old.len() {
        if !OPENS[usize::from(view.old[at])] {
            at += 1;
            continue;
        }
        match operand(view, at) {
            Some((skip, tail)) if reference(view, at + skip, tail, guesses) => at += skip + 4,
            _ => at += 1,
        }
    }
}

/// Bytes that a known instruction begins with: most places are passed over by this alone.
const OPENS: [bool; 256] = {
    let mut opens = [false; 256];
    let known = [
        0x03, 0x0b, 0x0f, 0x23, 0x2b, 0x33, 0x38, 0x39, 0x3a, 0x3b, 0x63, 0x69, 0x80, 0x81, 0x83,
        0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b, 0x8d, 0xc0, 0xc1, 0xc5, 0xc6, 0xc7, 0xe8,
        0xe9, 0xf6, 0xf7, 0xff,
    ];
    let mut at = 0;
    while at < known.len() {
        opens[known[at]] = true;
        at += 1;
    }
    opens
};

/// Re-encodes the distance at `at`, counted from `tail` bytes after it.
fn reference(view: &View, at: usize, tail: u64, guesses: &mut impl Guesses) -> bool {
    let Some(distance) = view.word(at) else {
        return false;
    };
    let end = at as u64 + 4 + tail;
    let target = view
        .from
        .wrapping_add(end)
        .wrapping_add_signed(i64::from(distance as i32));
    let Some(new_target) = view.target(target) else {
        return false;
    };
    let new_distance = new_target.wrapping_sub(view.to.wrapping_add(end)) as u32;
    guesses.put(at, &new_distance.to_le_bytes(), 0, target, Form::Word);
    true
}

/// Where the distance of an instruction at `at` stands, and what follows it.
pub(crate) fn shape(code: &[u8]) -> Option<(usize, u64)> {
    let (first, second) = (*code.first()?, *code.get(1)?);
    let through_ip = |modrm: u8| modrm & 0xc7 == 5;
    match first {
        0xe8 | 0xe9 => Some((1, 0)),
        0x0f if second & 0xf0 == 0x80 => Some((2, 0)),
        0x0f => {
            let known = matches!(
                second,
                0x10..=0x14 | 0x16 | 0x28..=0x2a | 0x2e | 0x2f | 0x40..=0x4f | 0x54..=0x5f
                    | 0x6e | 0x6f | 0x7e | 0x7f | 0xb0..=0xbf | 0xc6 | 0xd6 | 0xdb | 0xeb | 0xef | 0xfe
            );
            (known && through_ip(*code.get(2)?)).then_some((3, 0))
        }
        0xc5 => through_ip(*code.get(3)?).then_some((4, 0)),
        0x03
        | 0x0b
        | 0x23
        | 0x2b
        | 0x33
        | 0x38..=0x3b
        | 0x63
        | 0x84..=0x8b
        | 0x8d
        | 0xc1
        | 0xf7
        | 0xff => through_ip(second).then_some((2, 0)),
        0x80 | 0x83 | 0xc0 | 0xc6 | 0xf6 => through_ip(second).then_some((2, 1)),
        0x69 | 0x81 | 0xc7 => through_ip(second).then_some((2, 4)),
        _ => None,
    }
}

fn operand(view: &View, at: usize) -> Option<(usize, u64)> {
    shape(&view.old[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a first byte that [`shape`] knows and the table does not.
    #[test]
    fn every_shape_opens() {
        for first in 0..=u8::MAX {
            let known = (0..=u8::MAX).any(|second| shape(&[first, second, 5, 5, 5]).is_some());
            assert_eq!(OPENS[usize::from(first)], known, "{first:x}");
        }
    }
}
