//! No injected fault is believed: small patches of every profile and kind of content, each bit
//! flipped, cut everywhere, made longer, and ten thousand faults of other kinds; never a panic.
//!
//! A fault is *caught* when there is an error, or when the bytes that came out are the right ones
//! although the fault was made (two equal stretches that changed places).
//!
//! Mistakes planted one by one, and what went red:
//!  1. a frame's check is not compared: `every_bit_of_every_patch_counts`;
//!  2. the header's check is not compared: the same;
//!  3. bytes after the end are taken: `every_cut_and_every_longer_patch_is_an_error`;
//!  4. `finish` believes an image that is not whole, and the digest is not compared: the same;
//!  5. a step in place is staged and the scratch not synced: `in_place.rs`, cuts;
//!  6. a step in place is done and the image not synced: `in_place.rs`, cuts;
//!  7. both records of the journal share a sector: `in_place.rs`, cuts;
//!  8. the staged window is not compared after a cut: `in_place.rs`, a lost scratch;
//!  9. the windows' checks are not looked at first: `in_place.rs`, flipped bits;
//! 10. any base will do in place: `in_place.rs`, a wrong base;
//! 11. room in the scratch is given away too early: `in_place.rs`, cuts.
#![allow(
    clippy::cast_possible_truncation,
    reason = "the images of these tests are small"
)]

mod common;

use ampoule_delta::{Caps, DiffOptions, ImageError, NewImage, OldImage, Patcher, header};
use common::{applied, executables, noise, pair, patch_of, profiles, with_lz4, with_xz};

/// A patch and its images.
struct Case {
    name: String,
    old: Vec<u8>,
    new: Vec<u8>,
    patch: Vec<u8>,
}

/// Every profile with every kind of content that a patch can hold.
fn cases() -> Vec<Case> {
    let nothing = (Vec::new(), Vec::new());
    let pairs = [
        ("plain", pair(3000), Caps::NONE),
        ("x86-64", executables(62), Caps::CODE),
        ("aarch64", executables(183), Caps::CODE),
        ("xz", with_xz(2000), Caps::XZ),
        ("lz4", with_lz4(2000), Caps::LZ4),
        ("equal", (noise(900, 1), noise(900, 1)), Caps::NONE),
        ("disjoint", (noise(700, 1), noise(800, 2)), Caps::NONE),
        ("from nothing", (Vec::new(), noise(300, 3)), Caps::NONE),
        ("nothing", nothing, Caps::NONE),
    ];
    let mut cases = Vec::new();
    for (name, (old, new), caps) in pairs {
        for options in profiles() {
            let patch = patch_of(&old, &new, &options);
            let needed = header(&patch).expect("it reads").caps_needed;
            // Else the case is not about what its name says. A patch needs the mapping of code
            // only where that pays, which the signer decides.
            assert!(
                caps == Caps::CODE || needed.contains(caps),
                "{name}: {needed}"
            );
            let name = format!("{name}, {}", options.profile.as_str());
            cases.push(Case {
                name,
                old: old.clone(),
                new: new.clone(),
                patch,
            });
        }
    }
    cases
}

#[test]
fn every_bit_of_every_patch_counts() {
    for case in cases() {
        let mut bad = case.patch.clone();
        for at in 0..bad.len() {
            for bit in 0..8 {
                bad[at] ^= 1 << bit;
                assert!(
                    applied(&case.old, &bad).is_err(),
                    "{}: bit {bit} of byte {at}",
                    case.name
                );
                bad[at] ^= 1 << bit;
            }
        }
        assert_eq!(
            applied(&case.old, &bad).expect("it is whole again"),
            case.new
        );
    }
}

#[test]
fn every_cut_and_every_longer_patch_is_an_error() {
    for case in cases() {
        for len in 0..case.patch.len() {
            let cut = applied(&case.old, &case.patch[..len]);
            assert!(cut.is_err(), "{}: cut at {len}", case.name);
        }
        let tails = [vec![0], vec![0xff; 3], noise(40, 8), case.patch.clone()];
        for tail in tails {
            let longer = [&case.patch[..], &tail].concat();
            assert!(
                applied(&case.old, &longer).is_err(),
                "{}: {} more",
                case.name,
                tail.len()
            );
        }
    }
}

/// A new image that must never be touched.
struct Untouched;

impl NewImage for Untouched {
    fn append(&mut self, _: &[u8]) -> Result<(), ImageError> {
        panic!("a byte was appended");
    }
}

#[test]
fn a_base_with_any_bit_flipped_is_refused_before_the_first_write() {
    for case in cases() {
        let mut wrong = case.old.clone();
        for at in 0..wrong.len() {
            wrong[at] ^= 1 << (at % 8);
            let error = refused(&mut &wrong[..], &case.patch);
            assert_eq!(error, "delta-wrong-base", "{}: byte {at}", case.name);
            wrong[at] ^= 1 << (at % 8);
        }
        if !wrong.is_empty() {
            wrong.pop();
            assert_eq!(
                refused(&mut &wrong[..], &case.patch),
                "delta-old-unreadable"
            );
        }
    }
}

fn refused(old: &mut dyn OldImage, patch: &[u8]) -> &'static str {
    let mut patcher = Patcher::new(ampoule_delta::Accept::default());
    patcher
        .push(patch, old, &mut Untouched)
        .expect_err("a wrong base")
        .code()
}

/// Numbers for faults, the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % end.max(1)
    }
}

/// One fault: what storage and wires do to bytes.
fn injected(patch: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bad = patch.to_vec();
    let (at, len) = (dice.below(patch.len()), 1 + dice.below(64));
    let end = (at + len).min(patch.len());
    match dice.below(7) {
        0 => bad[at..end].fill(0),
        1 => bad[at..end].fill(0xff),
        2 => bad[at..end].copy_from_slice(&noise(end - at, dice.0)),
        3 => drop(bad.drain(at..end)),
        4 => {
            let again = patch[at..end].to_vec();
            bad.splice(at..at, again);
        }
        5 => {
            let to = dice.below(patch.len() - (end - at) + 1);
            bad.copy_within(at..end, to);
        }
        _ => {
            let moved: Vec<u8> = bad.drain(at..end).collect();
            let to = dice.below(bad.len() + 1);
            bad.splice(to..to, moved);
        }
    }
    bad
}

#[test]
fn ten_thousand_faults_are_caught() {
    let cases = cases();
    let mut dice = Dice(0x5eed);
    let mut caught = 0;
    while caught < 10_000 {
        let case = &cases[caught % cases.len()];
        let bad = injected(&case.patch, &mut dice);
        if let Ok(made) = applied(&case.old, &bad) {
            assert!(
                bad == case.patch && made == case.new,
                "{}: fault {caught}",
                case.name
            );
        }
        caught += 1;
    }
    for case in &cases {
        let swapped = frames_swapped(&case.patch);
        if let Some(bad) = swapped {
            assert!(
                applied(&case.old, &bad).is_err(),
                "{}: frames changed places",
                case.name
            );
        }
    }
}

/// The last two frames of a patch in each other's place.
fn frames_swapped(patch: &[u8]) -> Option<Vec<u8>> {
    let header_len = 6 + usize::from(patch[5]) + 4;
    let mut frames = Vec::new();
    let mut at = header_len;
    while at < patch.len() {
        let (mut len, mut shift, mut head) = (0usize, 0, at);
        loop {
            let byte = patch[head];
            len |= usize::from(byte & 0x7f) << shift;
            (shift, head) = (shift + 7, head + 1);
            if byte < 0x80 {
                break;
            }
        }
        let end = head + 4 + len;
        frames.push(patch.get(at..end)?);
        at = end;
    }
    let [.., before, last] = frames[..] else {
        return None;
    };
    let start = patch.len() - before.len() - last.len();
    (before != last).then(|| [&patch[..start], last, before].concat())
}

/// What the device cannot do is refused by name, whatever else the patch holds.
#[test]
fn caps_that_are_missing_are_named() {
    let (old, new) = with_xz(2000);
    for options in profiles() {
        let patch = patch_of(&old, &new, &options);
        let accept = ampoule_delta::Accept {
            caps: Caps::NONE,
            ..Default::default()
        };
        let error = Patcher::new(accept)
            .push(&patch, &mut &old[..], &mut Untouched)
            .expect_err("it needs xz");
        assert_eq!(error.code(), "delta-caps");
        let plain = patch_of(
            &old,
            &new,
            &DiffOptions {
                caps: Caps::NONE,
                ..options
            },
        );
        assert!(header(&plain).expect("it reads").caps_needed.is_empty());
    }
}
