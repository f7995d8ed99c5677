//! A change of keys is never seen half done.
//!
//! Goal: with the old keys at hand, no device that asks while new keys of timestamp and snapshot
//! are published refuses anything. Method: after each storage operation of `publish`, and of the
//! copy to another folder, two devices refresh from the tree as it lies there: one that finds the
//! roots that are there, and one that asked for the next root just before it came. Catches: root
//! renamed before the timestamp; timestamp or snapshot without the old keys' signatures; old
//! signatures dropped by a second run.

mod common;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ampoule_protocol::client::{Answer, LocalName, Refresh, Step};
use ampoule_protocol::limits::Lengths;
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::trust::UpdateStart;
use ampoule_signer::durable::{Access, Disk, RealDisk};
use ampoule_signer::progress::Silent;
use ampoule_signer::publish::{Options, Scope, mirror, publish};
use ampoule_signer::verify::{self, Expiry};
use common::Ground;

const OPTIONS: Options = Options {
    scope: Scope::All,
    renew_snapshot: false,
    renew_timestamp: false,
};

fn now() -> UtcTime {
    UtcTime::parse("2026-11-23T12:00:00Z").unwrap()
}

/// What a device knows: the root that it was made with, and what it stored since.
struct Device {
    tree: PathBuf,
    first_root: Vec<u8>,
    /// Roots beyond this one are not there yet when it asks.
    roots_max: u64,
    stored: BTreeMap<LocalName, Vec<u8>>,
}

impl Device {
    fn new(tree: &Path, roots_max: u64) -> Self {
        Self {
            tree: tree.to_owned(),
            first_root: fs::read(tree.join("metadata/1.root.json")).unwrap(),
            roots_max,
            stored: BTreeMap::new(),
        }
    }

    /// One refresh; the version of the timestamp that it trusts then.
    fn refresh(&mut self) -> Result<u64, String> {
        let start = UpdateStart::new(Some(now()), UtcTime::EPOCH);
        let told = |error: ampoule_protocol::trust::TrustError| error.to_string();
        let mut refresh =
            Refresh::begin(&self.first_root, start, Lengths::DEFAULT).map_err(told)?;
        loop {
            let found = match refresh.step().map_err(told)? {
                Step::Done => break,
                Step::Load(name) => self.stored.get(&name).cloned(),
                Step::Store(name, bytes) => {
                    self.stored.insert(name, bytes);
                    refresh.answer(Answer::Stored).map_err(told)?;
                    continue;
                }
                Step::Fetch(wanted) => {
                    let root = wanted.file.strip_suffix(".root.json");
                    let version = root.and_then(|version| version.parse::<u64>().ok());
                    let is_there = version.is_none_or(|version| version <= self.roots_max);
                    let path = self.tree.join("metadata").join(&wanted.file);
                    fs::read(path).ok().filter(|_| is_there)
                }
            };
            let answer = found.as_deref().map_or(Answer::NotFound, Answer::Bytes);
            refresh.answer(answer).map_err(told)?;
        }
        let trusted = refresh.finish().ok_or("the refresh is not over")?;
        let timestamp = trusted.set().timestamp();
        Ok(timestamp.map_or(0, |timestamp| timestamp.common.version.get()))
    }
}

/// The real disk, with devices that look at the tree after each operation.
struct Watched {
    tree: PathBuf,
    looks: Cell<usize>,
    left: Cell<usize>,
    refused: RefCell<Vec<String>>,
}

impl Watched {
    fn new(tree: &Path) -> Self {
        Self {
            tree: tree.to_owned(),
            looks: Cell::new(0),
            left: Cell::new(usize::MAX),
            refused: RefCell::default(),
        }
    }

    fn look<T>(&self, done: io::Result<T>) -> io::Result<T> {
        if self.tree.join("metadata/timestamp.json").is_file() {
            for roots_max in [1, 2] {
                if let Err(error) = Device::new(&self.tree, roots_max).refresh() {
                    let files = fs::read_dir(self.tree.join("metadata")).unwrap();
                    let files: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
                    let story = format!("root {roots_max} alone, {files:?}: {error}");
                    self.refused.borrow_mut().push(story);
                }
            }
            self.looks.set(self.looks.get() + 1);
        }
        if self.left.get() == 0 {
            return Err(io::Error::other("the power failed"));
        }
        self.left.set(self.left.get() - 1);
        done
    }
}

impl Disk for Watched {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.look(RealDisk.create_dir(path))
    }

    fn write(&self, path: &Path, source: &mut dyn Read, access: Access) -> io::Result<u64> {
        self.look(RealDisk.write(path, source, access))
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.look(RealDisk.sync_file(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.look(RealDisk.rename(from, to))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.look(RealDisk.sync_dir(path))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.look(RealDisk.remove(path))
    }
}

/// A published release, and a root 2 with new keys of timestamp and snapshot, signed.
fn rotating() -> Ground {
    let ground = Ground::published();
    for (role, new) in [("timestamp", "timestamp2"), ("snapshot", "snapshot2")] {
        ground.make_key(new);
        let public = format!("{new}.pub");
        ground.ok(&[
            "-w", "w", "rotate", role, "--remove", role, "--add", &public,
        ]);
    }
    ground.sign_all(&["alice", "bob"]);
    ground
}

const BOTH: [&str; 4] = ["snapshot", "timestamp", "snapshot2", "timestamp2"];

#[test]
fn with_the_old_keys_no_device_refuses_at_any_moment() {
    let ground = rotating();
    let older = ground.copy();
    let tree = ground.path("w/published");
    let mut raced = Device::new(&tree, 1);
    raced.refresh().unwrap();
    let disk = Watched::new(&tree);
    let keys = common::open(&BOTH);
    publish(&disk, &ground.path("w"), &keys, OPTIONS, now(), &Silent).unwrap();
    assert_eq!(*disk.refused.borrow(), Vec::<String>::new());
    assert!(disk.looks.get() > 20, "{} looks", disk.looks.get());
    // A device that missed the root takes the new files all the same, and the root afterwards.
    assert_eq!(raced.refresh(), Ok(2));
    raced.roots_max = u64::MAX;
    assert_eq!(raced.refresh(), Ok(2));
    // At that time: the program would ask the clock, and what was signed then ends.
    verify::tree(&tree, Expiry::Enforce, now(), &Silent).expect("a tree that verifies");

    // The copy to the server's folder is watched too, over an older copy that is there already.
    let copy = ground.path("copy");
    mirror(&RealDisk, &older.path("w/published"), &copy, &Silent).unwrap();
    let disk = Watched::new(&copy);
    mirror(&disk, &tree, &copy, &Silent).unwrap();
    assert_eq!(*disk.refused.borrow(), Vec::<String>::new());
}

#[test]
fn a_cut_in_between_is_not_seen_either() {
    let template = rotating();
    let counting = Watched::new(&template.path("nowhere"));
    let whole = template.copy();
    let keys = common::open(&BOTH);
    publish(&counting, &whole.path("w"), &keys, OPTIONS, now(), &Silent).unwrap();
    let operations = usize::MAX - counting.left.get();
    for cut in 0..operations {
        let ground = template.copy();
        let disk = Watched::new(&ground.path("w/published"));
        disk.left.set(cut);
        publish(&disk, &ground.path("w"), &keys, OPTIONS, now(), &Silent).unwrap_err();
        disk.left.set(usize::MAX);
        publish(&disk, &ground.path("w"), &keys, OPTIONS, now(), &Silent).unwrap();
        assert_eq!(
            *disk.refused.borrow(),
            Vec::<String>::new(),
            "cut after {cut}"
        );
    }
}

/// The gap that stays: without the old keys there is a moment in which a device refuses. It does
/// so by the rule, and the next refresh is good.
#[test]
fn without_the_old_keys_a_device_refuses_once_and_believes_nothing_less() {
    let ground = rotating();
    let tree = ground.path("w/published");
    let mut device = Device::new(&tree, 2);
    device.refresh().unwrap();
    let disk = Watched::new(&tree);
    let keys = common::open(&["snapshot2", "timestamp2"]);
    publish(&disk, &ground.path("w"), &keys, OPTIONS, now(), &Silent).unwrap();
    let refused = disk.refused.borrow();
    assert!(
        refused
            .iter()
            .all(|story| story.contains("signed by 0 of 1")),
        "{refused:?}"
    );
    assert!(
        !refused.is_empty(),
        "there is no gap any more: say so in publish/mod.rs"
    );
    assert_eq!(device.refresh(), Ok(2));
}
