//! Memory stays within what the device accepted, whatever a patch says.
//!
//! Method: the code may not count allocations (that takes `unsafe`), so the kernel does. The tool
//! runs with its address space bounded (`prlimit` of util-linux): what would take more than the
//! bound cannot, and ends the process by a signal instead of one `error:` line. The peak itself is
//! read from the kernel's count when the tool ends (`/proc/self/status` is the tool's own, so
//! `time -f %M` of GNU is used by `cargo xtask bench delta`, not here).
#![cfg(target_os = "linux")]
#![allow(
    clippy::cast_possible_truncation,
    reason = "the images of these tests are small"
)]

mod common;

use std::path::Path;
use std::process::Command;

use common::{noise, pair, patch_of, profiles};
use twox_hash::XxHash3_64;

/// What the tool takes before it has read a patch: code, stack, the C library's arena, buffers.
const BASE: u64 = 48 << 20;
/// What the device accepts.
const ACCEPTED: u64 = 32 << 20;

/// Runs `apply` with an address space of `bound` bytes: its exit code and what it said.
fn apply_within(bound: u64, folder: &Path, old: &[u8], patch: &[u8]) -> (Option<i32>, String) {
    let path = |name: &str| folder.join(name);
    std::fs::write(path("old"), old).expect("a file");
    std::fs::write(path("patch"), patch).expect("a file");
    let _ = std::fs::remove_file(path("new"));
    let ended = Command::new("prlimit")
        .arg(format!("--as={bound}"))
        .arg(env!("CARGO_BIN_EXE_ampoule-delta"))
        .args(["apply", "--memory-max", &ACCEPTED.to_string()])
        .args([path("old"), path("patch"), path("new")])
        .output()
        .expect("prlimit is a part of util-linux");
    assert!(
        ended.status.success() == path("new").exists(),
        "an output file after a failure"
    );
    (
        ended.status.code(),
        String::from_utf8_lossy(&ended.stderr).into_owned(),
    )
}

/// A patch with header fields of one's own: the checks are right, so only judgement refuses it.
fn forged(patch: &[u8], change: impl Fn(&mut Vec<u64>)) -> Vec<u8> {
    let body_len = usize::from(patch[5]);
    let body = &patch[6..6 + body_len];
    // The profile, numbers as LEB128, a digest and a check of eight bytes.
    let (numbers, digests) = body[1..].split_at(body_len - 1 - 40);
    let mut fields = Vec::new();
    let (mut number, mut shift) = (0u64, 0);
    for byte in numbers {
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if *byte < 0x80 {
            fields.push(number);
            (number, shift) = (0, 0);
        }
    }
    change(&mut fields);
    let mut body = vec![body[0]];
    for mut number in fields {
        while number >= 0x80 {
            body.push(number as u8 | 0x80);
            number >>= 7;
        }
        body.push(number as u8);
    }
    body.extend_from_slice(digests);
    let mut out = [&patch[..5], &[body.len() as u8], &body].concat();
    let sum = XxHash3_64::oneshot(&out).to_le_bytes();
    out.extend_from_slice(&sum[..4]);
    out.extend_from_slice(&patch[6 + body_len + 4..]);
    out
}

/// The first of the limits among a header's numbers: after caps, old length and new length.
const LIMITS_AT: usize = 3;

#[test]
fn what_asks_for_more_is_refused_and_not_tried() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = pair(20_000);
    for options in profiles() {
        let patch = patch_of(&old, &new, &options);
        assert_eq!(
            forged(&patch, |_| {}),
            patch,
            "the forger reads what we write"
        );
        let (mut asked, mut refused) = (0, 0);
        for field in LIMITS_AT..fields_of(&patch) {
            for ask in [ACCEPTED, 1 << 40, u64::MAX] {
                let bad = forged(&patch, |fields| fields[field] = ask);
                let (code, said) = apply_within(BASE + ACCEPTED, folder.path(), &old, &bad);
                assert_eq!(code, Some(1), "{field}, {ask}: {said}");
                asked += 1;
                refused += usize::from(said.starts_with("error: patch needs"));
            }
        }
        // One limit is not used by each profile: asking for it takes nothing, and the longer
        // header moves the frames away from their checks.
        assert!(refused >= asked - 3 && asked >= 15, "{refused} of {asked}");
    }
}

/// How many numbers the header holds.
fn fields_of(patch: &[u8]) -> usize {
    let count = std::cell::Cell::new(0);
    forged(patch, |fields| count.set(fields.len()));
    count.get()
}

/// Lengths that a patch only claims: of its images, and of frames that never come.
#[test]
fn no_patch_takes_more_than_is_accepted() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = pair(20_000);
    for options in profiles() {
        let patch = patch_of(&old, &new, &options);
        let (code, said) = apply_within(BASE + ACCEPTED, folder.path(), &old, &patch);
        assert_eq!(code, Some(0), "an honest patch fits: {said}");
        for (field, claim) in [(1, 1 << 50), (2, 1 << 50), (2, u64::MAX)] {
            let bad = forged(&patch, |fields| fields[field] = claim);
            let (code, said) = apply_within(BASE + ACCEPTED, folder.path(), &old, &bad);
            assert_eq!(code, Some(1), "field {field}: {said}");
        }
        // The first frame says that it is a gibibyte long.
        let header_len = 6 + usize::from(patch[5]) + 4;
        let claims = [
            &patch[..header_len],
            &[0x80, 0x80, 0x80, 0x80, 4],
            &noise(4096, 1),
        ]
        .concat();
        let (code, said) = apply_within(BASE + ACCEPTED, folder.path(), &old, &claims);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("a frame is longer"), "{said}");
    }
}
