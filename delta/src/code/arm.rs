//! Arm: AArch64, A32 and Thumb-2 (Arm ARM, DDI 0487 and DDI 0406; the encodings are named there).

use super::words::word32;
use super::{Form, Guesses, View};

/// How many instructions after ADRP its user is looked for.
const ADRP_REACH: usize = 8;
/// How many instructions after MOVW its MOVT and ADD are looked for.
const MOVW_REACH: usize = 12;

/// AArch64: B, BL; B.cond, CBZ, LDR (literal); ADRP and what uses it.
pub(super) fn a64(view: &View, guesses: &mut impl Guesses) {
    let first = (view.from as usize).wrapping_neg() % 4;
    for at in (first..view.old.len()).step_by(4) {
        let Some(word) = view.word(at) else { return };
        let (here, there) = (
            view.from.wrapping_add(at as u64),
            view.to.wrapping_add(at as u64),
        );
        if word & 0x7c00_0000 == 0x1400_0000 {
            let distance = i64::from((word << 6) as i32 >> 6) * 4;
            let target = here.wrapping_add_signed(distance);
            if let Some(new_target) = view.target(target) {
                let distance = new_target.wrapping_sub(there) >> 2;
                let guess = word & 0xfc00_0000 | distance as u32 & 0x03ff_ffff;
                guesses.put(at, &guess.to_le_bytes(), 0, target, Form::Low26);
            }
        } else if word & 0xff00_0010 == 0x5400_0000
            || word & 0x7e00_0000 == 0x3400_0000
            || word & 0x3b00_0000 == 0x1800_0000
        {
            let distance = i64::from((word << 8) as i32 >> 13) * 4;
            let target = here.wrapping_add_signed(distance);
            if let Some(new_target) = view.target(target) {
                let distance = new_target.wrapping_sub(there) >> 2;
                let guess = word & 0xff00_001f | (distance as u32 & 0x7_ffff) << 5;
                guesses.put(at, &guess.to_le_bytes(), 1, target, Form::Middle19);
            }
        } else if word & 0x9f00_0000 == 0x9000_0000 {
            adrp(view, at, word, (here, there), guesses);
        }
    }
}

fn adrp(view: &View, at: usize, word: u32, (here, there): (u64, u64), guesses: &mut impl Guesses) {
    let pages = ((word >> 5 & 0x7_ffff) << 2 | word >> 29 & 3) << 11;
    let page = (here & !0xfff).wrapping_add_signed(i64::from(pages as i32 >> 11) << 12);
    let register = word & 31;
    let encode = |target: u64| {
        let pages = ((target & !0xfff).wrapping_sub(there & !0xfff) as i64 >> 12) as u32;
        word & 0x9f00_001f | (pages & 3) << 29 | (pages >> 2 & 0x7_ffff) << 5
    };
    let mut found = false;
    for user_at in (at + 4..).step_by(4).take(ADRP_REACH) {
        let Some(user) = view.word(user_at) else {
            break;
        };
        if user >> 5 & 31 != register {
            continue;
        }
        let shift = match user {
            _ if user & 0xffc0_0000 == 0x9100_0000 => 0,
            _ if user & 0x3b00_0000 == 0x3900_0000 && user & 0x0480_0000 == 0x0480_0000 => 4,
            _ if user & 0x3b00_0000 == 0x3900_0000 => user >> 30,
            _ => continue,
        };
        let target = page.wrapping_add(u64::from(user >> 10 & 0xfff) << shift);
        if let Some(new_target) = view.target(target) {
            if !found {
                guesses.put(at, &encode(new_target).to_le_bytes(), 2, target, Form::Page);
            }
            let low = ((new_target & 0xfff) >> shift) as u32 & 0xfff;
            let guess = user & !(0xfff << 10) | low << 10;
            guesses.put(user_at, &guess.to_le_bytes(), 3, target, Form::Middle12);
            found = true;
        }
        if user & 31 == register {
            break;
        }
    }
    if !found && let Some(target) = view.target(page) {
        guesses.put(at, &encode(target).to_le_bytes(), 4, page, Form::Page);
    }
}

/// A32: B, BL; MOVW with MOVT, alone or against the program counter; words of literal pools.
pub(super) fn a32(view: &View, guesses: &mut impl Guesses) {
    let first = (view.from as usize).wrapping_neg() % 4;
    for at in (first..view.old.len()).step_by(4) {
        let Some(word) = view.word(at) else { return };
        let (here, there) = (
            view.from.wrapping_add(at as u64),
            view.to.wrapping_add(at as u64),
        );
        if word & 0x0e00_0000 == 0x0a00_0000 {
            let distance = i64::from((word << 8) as i32 >> 8) * 4;
            let target = here.wrapping_add(8).wrapping_add_signed(distance);
            if let Some(new_target) = view.target(target) {
                let distance = new_target.wrapping_sub(there.wrapping_add(8)) >> 2;
                let guess = word & 0xff00_0000 | distance as u32 & 0x00ff_ffff;
                guesses.put(at, &guess.to_le_bytes(), 0, target, Form::Low24);
            }
        } else if word & 0x0ff0_0000 == 0x0300_0000 {
            movw(view, at, word, guesses);
        } else {
            word32(view, at, guesses, 3);
        }
    }
}

/// The 16 bits that MOVW and MOVT carry.
fn half(word: u32) -> u32 {
    word >> 4 & 0xf000 | word & 0xfff
}

fn with_half(word: u32, half: u32) -> [u8; 4] {
    (word & !0xf_0fff | (half & 0xf000) << 4 | half & 0xfff).to_le_bytes()
}

fn movw(view: &View, at: usize, word: u32, guesses: &mut impl Guesses) {
    let register = word >> 12 & 15;
    let (mut movt, mut add) = (None, None);
    for next_at in (at + 4..).step_by(4).take(MOVW_REACH) {
        let Some(next) = view.word(next_at) else {
            break;
        };
        if movt.is_none() {
            if next & 0x0ff0_f000 == 0x0340_0000 | register << 12 {
                movt = Some((next_at, next));
            }
        } else if next & 0x0fff_0fff == 0x008f_0000 | register
            || next & 0x0fff_0fff == 0x079f_0000 | register
        {
            add = Some(next_at as u64);
            break;
        }
    }
    let Some((movt_at, movt)) = movt else { return };
    // ADD reads the program counter two instructions ahead of itself.
    let (old_base, new_base) = add.map_or((0, 0), |add| {
        (
            view.from.wrapping_add(add + 8),
            view.to.wrapping_add(add + 8),
        )
    });
    let target = (old_base as u32).wrapping_add(half(movt) << 16 | half(word));
    if target <= 0x1000 {
        return;
    }
    let target = u64::from(target);
    if let Some(new_target) = view.target(target) {
        let value = (new_target as u32).wrapping_sub(new_base as u32);
        let rule = if add.is_some() { 1 } else { 2 };
        let (low, high) = (
            with_half(word, value & 0xffff),
            with_half(movt, value >> 16),
        );
        guesses.put(at, &low, rule, target, Form::LowHalf);
        guesses.put(movt_at, &high, rule, target, Form::HighHalf);
    }
}

/// Thumb-2: BL, BLX, B.W; words of literal pools.
pub(super) fn thumb(view: &View, guesses: &mut impl Guesses) {
    let mut at = (view.from as usize) & 1;
    while let Some(word) = view.word(at) {
        let here = view.from.wrapping_add(at as u64);
        if branch(view, at, word, guesses)
            || (here.is_multiple_of(4) && word32(view, at, guesses, 1))
        {
            at += 4;
        } else {
            at += 2;
        }
    }
}

fn branch(view: &View, at: usize, word: u32, guesses: &mut impl Guesses) -> bool {
    let (first, second) = (word & 0xffff, word >> 16);
    let is_branch = first & 0xf800 == 0xf000
        && (second & 0xd000 == 0xd000 || second & 0xd000 == 0x9000 || second & 0xd001 == 0xc000);
    if !is_branch {
        return false;
    }
    let sign = first >> 10 & 1;
    let (i1, i2) = (1 ^ second >> 13 & 1 ^ sign, 1 ^ second >> 11 & 1 ^ sign);
    let bits = sign << 24 | i1 << 23 | i2 << 22 | (first & 0x3ff) << 12 | (second & 0x7ff) << 1;
    let distance = i64::from((bits << 7) as i32 >> 7);
    let here = view.from.wrapping_add(at as u64 + 4);
    let old_target = here.wrapping_add_signed(distance);
    let Some(target) = view.target(old_target) else {
        return false;
    };
    let distance = target.wrapping_sub(view.to.wrapping_add(at as u64 + 4)) as u32;
    let sign = distance >> 24 & 1;
    let (j1, j2) = (1 ^ distance >> 23 & 1 ^ sign, 1 ^ distance >> 22 & 1 ^ sign);
    let first = 0xf000 | sign << 10 | distance >> 12 & 0x3ff;
    let second = second & 0xd000 | j1 << 13 | j2 << 11 | distance >> 1 & 0x7ff;
    let guess = first | second << 16;
    guesses.put(at, &guess.to_le_bytes(), 0, old_target, Form::Thumb);
    true
}
