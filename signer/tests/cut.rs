//! The power fails after every single storage operation of `add`, of a signature and of
//! `publish`, with what was not synced kept, lost or torn.
//!
//! Each operation goes through the `Disk` port, so it can be counted. A clean run counts them; then
//! for every `n` the same run is cut after the `n`th. "Lost" undoes what was not synced, newest
//! first: a name goes back to what it meant, bytes vanish; "torn" leaves half of the bytes. After
//! the cut the tree must verify, old or new, and the same call must succeed.

mod common;

use std::cell::{Cell, RefCell};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ampoule_protocol::time::UtcTime;
use ampoule_signer::durable::{Access, Disk, RealDisk};
use ampoule_signer::error::SignerError;
use ampoule_signer::progress::Silent;
use ampoule_signer::publish::{Options, Scope, publish};
use ampoule_signer::request::Request;
use ampoule_signer::verify::{self, Expiry};
use ampoule_signer::{add, sign};
use common::Ground;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unsynced {
    Kept,
    Lost,
    Torn,
}

/// What is not on the medium yet, oldest first.
#[derive(Debug)]
enum Pending {
    Bytes(PathBuf),
    Name {
        path: PathBuf,
        before: Option<Vec<u8>>,
    },
    Folder(PathBuf),
}

/// A disk whose power fails before operation `left` ends.
struct CutDisk {
    left: Cell<usize>,
    done: Cell<usize>,
    pending: RefCell<Vec<Pending>>,
}

impl CutDisk {
    fn new(operations: usize) -> Self {
        Self {
            left: Cell::new(operations),
            done: Cell::new(0),
            pending: RefCell::default(),
        }
    }

    fn step(&self) -> io::Result<()> {
        if self.left.get() == 0 {
            return Err(io::Error::other("the power failed"));
        }
        self.left.set(self.left.get() - 1);
        self.done.set(self.done.get() + 1);
        Ok(())
    }

    fn note(&self, pending: Pending) {
        self.pending.borrow_mut().push(pending);
    }

    /// What a reboot finds.
    fn reboot(&self, unsynced: Unsynced) {
        for pending in self.pending.borrow_mut().drain(..).rev() {
            match (unsynced, pending) {
                // A torn write keeps its name; whether the name was kept is the case "kept".
                (Unsynced::Kept, _)
                | (Unsynced::Torn, Pending::Name { .. } | Pending::Folder(_)) => {}
                (Unsynced::Torn, Pending::Bytes(path)) => {
                    if let Ok(bytes) = fs::read(&path) {
                        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
                    }
                }
                (Unsynced::Lost, Pending::Bytes(path)) => {
                    if path.exists() {
                        fs::write(&path, b"").unwrap();
                    }
                }
                (Unsynced::Lost, Pending::Name { path, before }) => match before {
                    Some(bytes) => fs::write(&path, bytes).unwrap(),
                    None => {
                        let _ = fs::remove_file(&path);
                    }
                },
                (Unsynced::Lost, Pending::Folder(path)) => {
                    let _ = fs::remove_dir_all(&path);
                }
            }
        }
    }
}

impl Disk for CutDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        RealDisk.create_dir(path)?;
        self.note(Pending::Folder(path.to_owned()));
        Ok(())
    }

    fn write(&self, path: &Path, source: &mut dyn Read, access: Access) -> io::Result<u64> {
        let cut = self.step();
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes)?;
        if cut.is_err() {
            bytes.truncate(bytes.len() / 2);
        }
        self.note(Pending::Name {
            path: path.to_owned(),
            before: fs::read(path).ok(),
        });
        let written = RealDisk.write(path, &mut bytes.as_slice(), access);
        self.note(Pending::Bytes(path.to_owned()));
        cut?;
        written
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        self.pending
            .borrow_mut()
            .retain(|one| !matches!(one, Pending::Bytes(p) if p == path));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        let (moved, before) = (fs::read(from).ok(), fs::read(to).ok());
        RealDisk.rename(from, to)?;
        // Bytes that were not synced travel with the file.
        for pending in self.pending.borrow_mut().iter_mut() {
            if let Pending::Bytes(path) = pending
                && path == from
            {
                to.clone_into(path);
            }
        }
        self.note(Pending::Name {
            path: from.to_owned(),
            before: moved,
        });
        self.note(Pending::Name {
            path: to.to_owned(),
            before,
        });
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        let inside = |name: &Path| name.parent() == Some(path);
        self.pending.borrow_mut().retain(|one| match one {
            Pending::Bytes(_) => true,
            Pending::Name { path: name, .. } | Pending::Folder(name) => !inside(name),
        });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        self.note(Pending::Name {
            path: path.to_owned(),
            before: fs::read(path).ok(),
        });
        RealDisk.remove(path)
    }
}

const OPTIONS: Options = Options {
    scope: Scope::All,
    renew_snapshot: false,
    renew_timestamp: false,
};

fn now() -> UtcTime {
    UtcTime::parse("2026-11-23T12:00:00Z").unwrap()
}

fn add_release(ground: &Ground, disk: &dyn Disk) -> Result<(), SignerError> {
    add::add(
        disk,
        &ground.path("w"),
        &ground.path("release.toml"),
        now(),
        &Silent,
    )
    .map(drop)
}

fn publish_all(ground: &Ground, disk: &dyn Disk) -> Result<(), SignerError> {
    let keys = common::open(&["snapshot", "timestamp"]);
    publish(disk, &ground.path("w"), &keys, OPTIONS, now(), &Silent).map(drop)
}

fn sign_draft(ground: &Ground, disk: &dyn Disk, holder: &str) -> Result<(), SignerError> {
    let path = ground.path(DRAFT);
    let mut request = Request::load(&path)?;
    sign::sign(&mut request, &common::open(&[holder]))?;
    request.store(disk, &path)
}

const DRAFT: &str = "w/staging/2.infusion-pump.request";

/// Version of the product in the tree, every byte of which verifies.
fn tree(ground: &Ground) -> u64 {
    let report = verify::tree(&ground.path("w/published"), Expiry::Ignore, now(), &Silent)
        .unwrap_or_else(|e| panic!("{e}: {:?}", std::error::Error::source(&e)));
    report
        .rows
        .iter()
        .find(|row| row.role == "infusion-pump")
        .unwrap()
        .version
}

/// A workspace with one release published and the next at hand.
fn template() -> Ground {
    let ground = Ground::published();
    ground.build(5);
    let toml = common::release_toml("2.4.1", 17);
    ground.write(
        "release.toml",
        toml.replace("\"last:3\"", "\"last:1\"").as_bytes(),
    );
    ground
}

/// Cuts `run` after each of its operations, in each way, on copies of `template`.
fn cut_everywhere(
    template: &Ground,
    run: &dyn Fn(&Ground, &dyn Disk) -> Result<(), SignerError>,
    after: &dyn Fn(&Ground),
) -> usize {
    let counting = CutDisk::new(usize::MAX);
    run(&template.copy(), &counting).expect("the clean run");
    let operations = counting.done.get();
    for cut in 0..operations {
        for unsynced in [Unsynced::Kept, Unsynced::Lost, Unsynced::Torn] {
            println!("cut after {cut} of {operations}, unsynced {unsynced:?}");
            let ground = template.copy();
            let disk = CutDisk::new(cut);
            run(&ground, &disk).expect_err("the power failed");
            disk.reboot(unsynced);
            after(&ground);
            run(&ground, &CutDisk::new(usize::MAX)).expect("the same again, after the cut");
        }
    }
    operations
}

#[test]
fn a_cut_anywhere_in_publish_leaves_the_old_tree_or_the_new() {
    let template = template();
    add_release(&template, &RealDisk).unwrap();
    let product = ampoule_protocol::name::ProductName::parse("infusion-pump").unwrap();
    ampoule_signer::deltas::build(
        &RealDisk,
        &template.path("w"),
        &product,
        ampoule_signer::deltas::Means {
            memory_max: 16 << 20,
            caps: ampoule_delta::Caps::all(),
        },
        now(),
        &Silent,
    )
    .unwrap();
    for holder in ["engineer", "safety"] {
        sign_draft(&template, &RealDisk, holder).unwrap();
    }
    let operations = cut_everywhere(
        &template,
        &|ground, disk| {
            publish_all(ground, disk)?;
            assert_eq!(tree(ground), 2, "published, and not there");
            Ok(())
        },
        &|ground| {
            assert!((1..=2).contains(&tree(ground)));
            if tree(ground) == 1 {
                let request = Request::load(&ground.path(DRAFT)).expect("the signed draft");
                assert!(request.is_complete().unwrap(), "signatures were lost");
            }
        },
    );
    assert!(
        operations > 30,
        "{operations} operations are too few to be all"
    );
}

#[test]
fn a_cut_anywhere_in_the_first_publication_leaves_no_half_tree() {
    let template = Ground::new();
    template.build(0);
    template.release("2.4.0", 16);
    add_release(&template, &RealDisk).unwrap();
    template.sign_all(&["alice", "bob", "engineer", "safety"]);
    cut_everywhere(
        &template,
        &|ground, disk| {
            publish_all(ground, disk)?;
            assert_eq!(tree(ground), 1);
            Ok(())
        },
        &|ground| {
            if ground.path("w/published/metadata/timestamp.json").exists() {
                assert_eq!(tree(ground), 1);
            }
        },
    );
}

#[test]
fn a_cut_anywhere_in_add_leaves_the_tree_and_no_half_draft() {
    cut_everywhere(&template(), &add_release, &|ground| {
        assert_eq!(tree(ground), 1);
        if ground.path(DRAFT).exists() {
            Request::load(&ground.path(DRAFT)).expect("a whole draft");
        }
    });
}

#[test]
fn a_cut_anywhere_in_a_signature_keeps_the_signature_before() {
    let template = template();
    add_release(&template, &RealDisk).unwrap();
    sign_draft(&template, &RealDisk, "engineer").unwrap();
    cut_everywhere(
        &template,
        &|ground, disk| sign_draft(ground, disk, "safety"),
        &|ground| {
            let request = Request::load(&ground.path(DRAFT)).expect("a whole draft");
            assert!(
                !request.needs().unwrap()[0].signed.is_empty(),
                "a signature was lost"
            );
        },
    );
}
