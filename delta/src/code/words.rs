//! Addresses and distances in data.

use super::{Form, Guesses, View};

/// Small numbers are rarely addresses.
const ADDRESS_MIN: u64 = 0x1000;

/// Offsets of aligned words: an image's words are aligned by address.
fn aligned(view: &View, size: usize) -> impl Iterator<Item = usize> + use<> {
    let first = (view.from as usize).wrapping_neg() % size;
    (first..view.old.len().saturating_sub(size - 1)).step_by(size)
}

/// 64-bit addresses, in tables, relocations and data.
pub(super) fn words64(view: &View, guesses: &mut impl Guesses) {
    for at in aligned(view, 8) {
        let word = u64::from_le_bytes(view.old[at..at + 8].try_into().expect("eight bytes"));
        if word > ADDRESS_MIN << 4
            && let Some(target) = view.target(word)
        {
            guesses.put(at, &target.to_le_bytes(), 0, word, Form::Word);
        }
    }
}

/// 32-bit addresses; the lowest bit may say that code there is Thumb.
pub(super) fn words32(view: &View, guesses: &mut impl Guesses) {
    for at in aligned(view, 4) {
        word32(view, at, guesses, 0);
    }
}

/// One 32-bit address; says whether it is one.
pub(super) fn word32(view: &View, at: usize, guesses: &mut impl Guesses, rule: u32) -> bool {
    let Some(word) = view.word(at).map(u64::from) else {
        return false;
    };
    let target = if word > ADDRESS_MIN {
        view.target(word & !1)
    } else {
        None
    };
    let Some(target) = target else { return false };
    let guess = target as u32 | (word & 1) as u32;
    guesses.put(at, &guess.to_le_bytes(), rule, word & !1, Form::Word);
    true
}

/// 32-bit distances from where they stand, as in `.eh_frame`.
pub(super) fn relative(view: &View, guesses: &mut impl Guesses) {
    for at in aligned(view, 4) {
        let Some(distance) = view.word(at).map(|word| i64::from(word as i32)) else {
            return;
        };
        // What is near is a length or stays within the record.
        if (-64..=4096).contains(&distance) {
            continue;
        }
        let target = view
            .from
            .wrapping_add(at as u64)
            .wrapping_add_signed(distance);
        if let Some(new_target) = view.target(target) {
            let distance = new_target.wrapping_sub(view.to.wrapping_add(at as u64)) as u32;
            guesses.put(at, &distance.to_le_bytes(), 0, target, Form::Word);
        }
    }
}

/// 32-bit distances from the start of the stretch, as in `.eh_frame_hdr`.
pub(super) fn from_start(view: &View, guesses: &mut impl Guesses) {
    let base = view.target(view.zone_address).unwrap_or(view.zone_address);
    for at in aligned(view, 4) {
        let Some(distance) = view.word(at).map(|word| i64::from(word as i32)) else {
            return;
        };
        let target = view.zone_address.wrapping_add_signed(distance);
        if let Some(new_target) = view.target(target) {
            let distance = new_target.wrapping_sub(base) as u32;
            guesses.put(at, &distance.to_le_bytes(), 0, target, Form::Word);
        }
    }
}

/// 31-bit distances from where they stand, as in `.ARM.exidx`: pairs, of which the second may be
/// unwind data itself.
pub(super) fn relative31(view: &View, guesses: &mut impl Guesses) {
    for at in aligned(view, 4) {
        let Some(word) = view.word(at) else { return };
        let here = view.from.wrapping_add(at as u64);
        let second = here.wrapping_sub(view.zone_address) % 8 == 4;
        if second && (word & 0x8000_0000 != 0 || word == 1) {
            continue;
        }
        let distance = i64::from((word << 1) as i32 >> 1);
        let target = here.wrapping_add_signed(distance);
        if let Some(new_target) = view.target(target) {
            let distance = new_target.wrapping_sub(view.to.wrapping_add(at as u64)) as u32;
            let guess = distance & 0x7fff_ffff;
            guesses.put(at, &guess.to_le_bytes(), 0, target, Form::Word);
        }
    }
}
