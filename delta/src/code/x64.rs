//! x86-64: calls, jumps and data through the instruction pointer, all 32-bit distances.

use super::{Form, Guesses, View};

/// Places that are looked at together.
const BLOCK: usize = 64;
/// What stands where an instruction begins is known by its first four bytes.
const AHEAD: usize = 3;

/// Finds instructions by their shape alone: no decoder runs along, a wrong find costs little.
pub(super) fn code(view: &View, guesses: &mut impl Guesses) {
    let (mut from, mut free) = (0, 0);
    while from + 5 <= view.old.len() {
        let opens = if let Some(bytes) = view.old[from..].first_chunk() {
            opens(bytes)
        } else {
            let mut bytes = [0; BLOCK + AHEAD];
            let rest = &view.old[from..];
            bytes[..rest.len()].copy_from_slice(rest);
            opens(&bytes)
        };
        let (eights, _) = opens.as_chunks::<8>();
        for (index, eight) in eights.iter().enumerate() {
            let mut left = u64::from_le_bytes(*eight);
            while left != 0 {
                let at = from + 8 * index + (left.trailing_zeros() / 8) as usize;
                left &= left - 1;
                if at >= free
                    && let Some((skip, tail)) = shape(&view.old[at..])
                    && reference(view, at + skip, tail, guesses)
                {
                    free = at + skip + 4;
                }
            }
        }
        from += BLOCK;
    }
}

/// Marks with a one where an instruction that [`shape`] knows may begin: most places are passed over
/// by this alone, many at once.
#[allow(
    clippy::needless_bitwise_bool,
    reason = "without branches the compiler looks at sixteen places in one step"
)]
#[inline]
fn opens(bytes: &[u8; BLOCK + AHEAD]) -> [u8; BLOCK] {
    let mut opens = [0; BLOCK];
    for (at, open) in opens.iter_mut().enumerate() {
        let [first, second, third, fourth] = [0, 1, 2, 3].map(|ahead| bytes[at + ahead]);
        let through_ip = |modrm: u8| modrm & 0xc7 == 5;
        let calls = first & 0xfe == 0xe8;
        let jumps = (first == 0x0f) & (second & 0xf0 == 0x80);
        let long = (first == 0x0f) & through_ip(third) | (first == 0xc5) & through_ip(fourth);
        *open = u8::from(calls | jumps | long | through_ip(second));
    }
    opens
}

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

#[cfg(test)]
mod tests {
    use super::*;

    /// Meant to catch: a shape that is passed over since its bytes do not open.
    #[test]
    fn every_shape_opens() {
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                for (third, fourth) in [(0, 0), (5, 0), (0, 5), (0xf8, 0x3d), (0x3d, 0xf8)] {
                    let mut bytes = [0; BLOCK + AHEAD];
                    bytes[7..11].copy_from_slice(&[first, second, third, fourth]);
                    if shape(&bytes[7..]).is_some() {
                        assert_eq!(opens(&bytes)[7], 1, "{:x?}", &bytes[7..11]);
                    }
                }
            }
        }
    }
}
