//! An image is rewritten in its place, and a cut at any write continues to the equal result.
//!
//! Method: a clean run counts the writes and syncs of all three stores; then the power fails after
//! each of them, with what was not synced kept, lost, or torn; the update is called again with what
//! is left, and must end with the new image.
//!
//! Mistakes planted, and what went red: see `hostile.rs`.
#![allow(
    clippy::cast_possible_truncation,
    reason = "the images of these tests are small"
)]

mod common;

use std::cell::RefCell;
use std::rc::Rc;

use ampoule_delta::{
    Accept, DiffOptions, ImageError, JOURNAL_LEN, Medium, PatchError, Profile, Store,
    apply_in_place, diff_in_place, in_place_header,
};
use common::{noise, pair, profiles};

/// What happens to writes that were not synced when the power fails.
#[derive(Debug, Clone, Copy)]
enum Unsynced {
    Kept,
    Lost,
    /// Each is kept, lost or cut short, by this seed.
    Torn(u64),
}

/// Writes and syncs that are left before the power fails.
#[derive(Debug)]
struct Power {
    used: u64,
    left: u64,
}

/// A store on which nothing is durable until it is synced.
#[derive(Debug, Clone)]
struct SimStore {
    durable: Vec<u8>,
    seen: Vec<u8>,
    pending: Vec<(usize, Vec<u8>)>,
    power: Rc<RefCell<Power>>,
}

impl SimStore {
    fn new(bytes: Vec<u8>, power: &Rc<RefCell<Power>>) -> Self {
        Self {
            durable: bytes.clone(),
            seen: bytes,
            pending: Vec::new(),
            power: Rc::clone(power),
        }
    }

    fn spend(&self) -> Result<(), ImageError> {
        let mut power = self.power.borrow_mut();
        power.used += 1;
        power.left = power
            .left
            .checked_sub(1)
            .ok_or_else(|| ImageError::new("the power failed"))?;
        Ok(())
    }

    /// What the medium holds after the power failed.
    fn after_cut(&self, unsynced: Unsynced) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for (index, (at, write)) in self.pending.iter().enumerate() {
            let kept = match unsynced {
                Unsynced::Kept => write.len(),
                Unsynced::Lost => 0,
                Unsynced::Torn(seed) => match noise(2, seed + index as u64 * 77)[0] % 3 {
                    0 => 0,
                    1 => write.len() / 2,
                    _ => write.len(),
                },
            };
            bytes[*at..*at + kept].copy_from_slice(&write[..kept]);
        }
        bytes
    }
}

impl Store for SimStore {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), ImageError> {
        let from = offset as usize;
        let bytes = self.seen.get(from..from + buf.len());
        buf.copy_from_slice(bytes.ok_or_else(|| ImageError::new("beyond the end"))?);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), ImageError> {
        // The write that the power fails in is begun: it is pending.
        self.pending.push((offset as usize, bytes.to_vec()));
        self.seen[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
        self.spend()
    }

    fn sync(&mut self) -> Result<(), ImageError> {
        self.spend()?;
        self.durable.clone_from(&self.seen);
        self.pending.clear();
        Ok(())
    }

    fn capacity(&mut self) -> Result<u64, ImageError> {
        Ok(self.seen.len() as u64)
    }
}

/// A device with one slot.
struct Device {
    image: SimStore,
    scratch: SimStore,
    journal: SimStore,
    power: Rc<RefCell<Power>>,
}

impl Device {
    /// Its power fails after `left` writes and syncs.
    fn new(image: &[u8], scratch: Vec<u8>, journal: Vec<u8>, left: u64) -> Self {
        let power = Rc::new(RefCell::new(Power { used: 0, left }));
        Self {
            image: SimStore::new(image.to_vec(), &power),
            scratch: SimStore::new(scratch, &power),
            journal: SimStore::new(journal, &power),
            power,
        }
    }

    /// One whose slot holds `old` and has room for `new`.
    fn with(old: &[u8], new: &[u8], patch: &[u8], left: u64) -> Self {
        let header = in_place_header(patch)
            .expect("it reads")
            .expect("it is in place");
        let mut image = old.to_vec();
        image.resize(old.len().max(new.len()), 0xff);
        let scratch = noise(header.scratch_len as usize, 5);
        Self::new(&image, scratch, noise(JOURNAL_LEN as usize, 6), left)
    }

    fn update(&mut self, patch: &[u8]) -> Result<(), PatchError> {
        let mut medium = Medium {
            image: &mut self.image,
            scratch: &mut self.scratch,
            journal: &mut self.journal,
        };
        let mut patch = patch;
        apply_in_place(&mut patch, &mut medium, &Accept::default(), &mut |_| {}).map(drop)
    }

    /// What is left of it after the power failed.
    fn rebooted(&self, unsynced: Unsynced, left: u64) -> Self {
        Self::new(
            &self.image.after_cut(unsynced),
            self.scratch.after_cut(unsynced),
            self.journal.after_cut(unsynced),
            left,
        )
    }

    fn holds(&self, new: &[u8]) -> bool {
        self.image.seen.starts_with(new)
    }
}

fn made(old: &[u8], new: &[u8], options: &DiffOptions, scratch_kib: u64) -> Vec<u8> {
    diff_in_place(old, new, options, scratch_kib << 10, &mut |_| {}).expect("it can be made")
}

/// Stretches that swap places, so that their windows read each other in a circle; and a moved end.
fn circle(len: usize) -> (Vec<u8>, Vec<u8>) {
    let old = noise(len, 21);
    let third = len / 3;
    let mut new = old[third..2 * third].to_vec();
    new.extend_from_slice(&old[..third]);
    new.extend_from_slice(b"something new");
    new.extend_from_slice(&old[2 * third..]);
    (old, new)
}

fn fast() -> DiffOptions {
    profiles()[0].clone()
}

#[test]
fn odd_pairs_come_back_in_place() {
    let some = noise(50_000, 1);
    let mut grown = noise(3000, 2);
    grown.extend_from_slice(&some);
    let repetitive = vec![0u8; 400_000];
    let mut pairs = vec![
        (vec![], vec![]),
        (vec![], vec![1]),
        (vec![1], vec![]),
        (some.clone(), some.clone()),
        (some.clone(), noise(50_000, 3)),
        (some.clone(), grown.clone()),
        (grown, some.clone()),
        (some[..100].to_vec(), some),
        (repetitive.clone(), repetitive[..390_001].to_vec()),
    ];
    pairs.extend([pair(200_000), circle(90_000)]);
    for options in profiles() {
        for (old, new) in &pairs {
            let patch = made(old, new, &options, 64);
            let mut device = Device::with(old, new, &patch, u64::MAX);
            device.update(&patch).expect("it applies");
            assert!(device.holds(new), "{} -> {}", old.len(), new.len());
            // Again: it is new already, by the journal and without it.
            device.update(&patch).expect("nothing is left to do");
            device.journal = SimStore::new(vec![0; JOURNAL_LEN as usize], &device.power);
            let writes = device.power.borrow().used;
            device.update(&patch).expect("nothing is left to do");
            // A base that the new image begins with is a base still: it is made once more.
            let is_base = new.starts_with(old);
            assert!(is_base || device.power.borrow().used == writes);
        }
    }
}

#[test]
fn what_did_not_change_is_not_written() {
    let old = noise(300_000, 9);
    let mut new = old.clone();
    new[123_456] ^= 1;
    let patch = made(&old, &new, &fast(), 16);
    let header = in_place_header(&patch)
        .expect("it reads")
        .expect("it is in place");
    assert_eq!(header.steps, 1);
    assert!(patch.len() < 400, "{} bytes", patch.len());
}

/// Runs clean and counts, then cuts after each `stride`th write, `twice` at that.
fn cut_everywhere(old: &[u8], new: &[u8], patch: &[u8], stride: usize) {
    let mut clean = Device::with(old, new, patch, u64::MAX);
    clean.update(patch).expect("it applies");
    let writes = clean.power.borrow().used;
    assert!(writes >= 20, "{writes} writes and syncs");
    for cut in (0..writes).step_by(stride) {
        for unsynced in [
            Unsynced::Kept,
            Unsynced::Lost,
            Unsynced::Torn(cut),
            Unsynced::Torn(cut + 9999),
        ] {
            let mut device = Device::with(old, new, patch, cut);
            let error = device.update(patch).expect_err("the power fails");
            assert_eq!(error.code(), "delta-medium", "cut {cut}");
            // The power fails once more on the way, then it comes to its end.
            let mut device = device.rebooted(unsynced, cut / 2 + 1);
            let _ = device.update(patch);
            let mut device = device.rebooted(unsynced, u64::MAX);
            device
                .update(patch)
                .unwrap_or_else(|error| panic!("cut {cut}, {unsynced:?}: {error}"));
            assert!(device.holds(new), "cut {cut}, {unsynced:?}");
        }
    }
}

#[test]
fn a_cut_at_any_write_continues() {
    for (old, new) in [pair(60_000), circle(60_000)] {
        let patch = made(&old, &new, &fast(), 32);
        let header = in_place_header(&patch)
            .expect("it reads")
            .expect("it is in place");
        assert!(header.steps > 2);
        cut_everywhere(&old, &new, &patch, 1);
    }
    let (old, new) = circle(40_000);
    let options = DiffOptions {
        profile: Profile::Small,
        ..fast()
    };
    cut_everywhere(&old, &new, &made(&old, &new, &options, 32), 7);
}

#[test]
fn a_circle_keeps_what_it_needs_within_the_scratch() {
    let (old, new) = circle(90_000);
    let patch = made(&old, &new, &fast(), 48);
    let header = in_place_header(&patch)
        .expect("it reads")
        .expect("it is in place");
    assert!(header.scratch_len > header.staged_max, "nothing is kept");
    assert!(header.scratch_len <= 48 << 10);
    let error = diff_in_place(&old, &new, &fast(), 4096, &mut |_| {}).expect_err("too little");
    assert_eq!(error.code(), "delta-scratch-allowed");
}

#[test]
fn a_wrong_base_is_found_before_the_first_write() {
    let (old, new) = pair(60_000);
    let patch = made(&old, &new, &fast(), 32);
    for at in [0, 777, old.len() - 1] {
        let mut wrong = old.clone();
        wrong[at] ^= 1;
        let mut device = Device::with(&wrong, &new, &patch, u64::MAX);
        let error = device.update(&patch).expect_err("wrong base");
        assert_eq!(error.code(), "delta-wrong-base");
        assert_eq!(device.power.borrow().used, 0, "something was written");
    }
}

#[test]
fn any_flipped_bit_cut_or_added_byte_is_an_error_before_the_first_write() {
    let (old, new) = circle(30_000);
    let patch = made(&old, &new, &fast(), 16);
    let refused = |bad: &[u8]| {
        let mut device = Device::with(&old, &new, &patch, u64::MAX);
        let error = device.update(bad).expect_err("a damaged patch");
        assert_eq!(device.power.borrow().used, 0, "something was written");
        assert_ne!(error.code(), "delta-medium");
    };
    for at in 0..patch.len() {
        let mut bad = patch.clone();
        bad[at] ^= 1 << (at % 8);
        refused(&bad);
        refused(&patch[..at]);
    }
    refused(&[&patch[..], b"x"].concat());
}

#[test]
fn too_little_room_is_said_before_the_first_write() {
    let (old, new) = circle(60_000);
    let patch = made(&old, &new, &fast(), 32);
    let mut device = Device::with(&old, &new, &patch, u64::MAX);
    device.scratch.seen.pop();
    assert_eq!(
        device.update(&patch).expect_err("too small").code(),
        "delta-scratch"
    );
    assert_eq!(device.power.borrow().used, 0);
    let (grown, old) = (&new, &old[..50_000]);
    let patch = made(old, grown, &fast(), 32);
    let mut device = Device::with(old, grown, &patch, u64::MAX);
    device.image.seen.pop();
    assert_eq!(
        device.update(&patch).expect_err("too small").code(),
        "delta-scratch"
    );
}

/// The scratch forgets what the journal says it holds: found by the digest, not believed.
#[test]
fn a_lost_scratch_is_found_before_the_image_is_written() {
    let (old, new) = circle(60_000);
    let patch = made(&old, &new, &fast(), 32);
    let mut clean = Device::with(&old, &new, &patch, u64::MAX);
    clean.update(&patch).expect("it applies");
    let lost = (0..clean.power.borrow().used).any(|cut| {
        let mut device = Device::with(&old, &new, &patch, cut);
        device.update(&patch).expect_err("the power fails");
        let mut device = device.rebooted(Unsynced::Kept, u64::MAX);
        let before = device.image.seen.clone();
        device.scratch.seen[10] ^= 1;
        match device.update(&patch) {
            Err(PatchError::ScratchLost) => {
                assert_eq!(device.image.seen, before);
                true
            }
            _ => false,
        }
    });
    assert!(lost, "no cut left a staged step");
}
