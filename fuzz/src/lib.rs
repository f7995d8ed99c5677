//! What the targets share.
//!
//! A patch is full of checks, and a fuzzer does not guess them: nearly all of what it invents would
//! end at the first. So the targets also take patches *undressed*, without checks, and put the
//! right ones in: what lies behind the checks is then all there is to be found.

use ampoule_delta::{Accept, Caps, DiffOptions, apply, diff, openings};
use twox_hash::XxHash3_64;

/// What is said to be compressed in an image lies in it, apart and in order; and a patch that makes
/// the image out of nothing, everything opened, makes just that image.
pub fn openings_hold(image: &[u8], caps: Caps) {
    let found = openings(image, caps, 1);
    let mut end = 0;
    for opening in &found {
        assert!(opening.at >= end && opening.len > 0 && opening.raw_len > 0);
        assert!(caps.contains(opening.needs));
        end = opening.at + opening.len;
        assert!(end <= image.len());
    }
    if found.iter().any(|opening| opening.reproduced) {
        let options = DiffOptions {
            caps,
            threads: 1,
            memory_max: 64 << 20,
            ..DiffOptions::default()
        };
        let Ok(patch) = diff(b"", image, &options, &mut |_| {}) else {
            return;
        };
        let mut out = Vec::new();
        apply(&mut &b""[..], &patch, &mut out, &Accept::default()).expect("what we make, applies");
        assert_eq!(out, image);
    }
}

fn check(at: usize, bytes: &[u8]) -> [u8; 4] {
    let sum = XxHash3_64::oneshot_with_seed(at as u64, bytes).to_le_bytes();
    [sum[0], sum[1], sum[2], sum[3]]
}

fn number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn split_at<'a>(bytes: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (first, rest) = bytes.split_at(len.min(bytes.len()));
    *bytes = rest;
    first
}

/// Appends magic, version, the body's length, the body and the check.
fn header(out: &mut Vec<u8>, magic: &[u8; 4], version: u8, body: &[u8]) {
    let start = out.len();
    out.extend_from_slice(magic);
    out.push(version);
    number(out, body.len() as u64);
    out.extend_from_slice(body);
    let sum = check(0, &out[start..]);
    out.extend_from_slice(&sum);
}

/// Appends frames: each begins with its length in two bytes, low one first.
fn frames(out: &mut Vec<u8>, mut bytes: &[u8]) {
    while let [low, high, rest @ ..] = bytes {
        bytes = rest;
        let payload = split_at(&mut bytes, usize::from(*low) | usize::from(*high) << 8);
        let at = out.len();
        number(out, payload.len() as u64);
        out.extend_from_slice(&check(at, payload));
        out.extend_from_slice(payload);
    }
}

/// A patch out of: version, length of the header's body, the body, frames.
pub fn dressed(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let [version, body_len, rest @ ..] = bytes else {
        return out;
    };
    let mut rest = rest;
    let body = split_at(&mut rest, usize::from(*body_len));
    header(&mut out, b"AMPD", *version, body);
    frames(&mut out, rest);
    out
}

/// A patch in place out of: length of its own header's body, the body, and then an ordinary one.
pub fn dressed_in_place(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let [own_len, rest @ ..] = bytes else {
        return out;
    };
    let mut rest = rest;
    let own = split_at(&mut rest, usize::from(*own_len));
    header(&mut out, b"AMPI", 2, own);
    let [version, body_len, rest @ ..] = rest else {
        return out;
    };
    let mut rest = rest;
    let body = split_at(&mut rest, usize::from(*body_len));
    header(&mut out, b"AMPD", *version, body);
    frames(&mut out, rest);
    out
}

/// The image that the targets' patches start from.
pub fn old_image() -> Vec<u8> {
    b"the quick brown fox jumps over the lazy dog".repeat(50)
}

/// The most memory that the targets accept for a patch: a device's.
pub const MEMORY_MAX: u64 = 32 << 20;
