//! A push, and a mirror, that are cut after any write: what the timestamp leads to is there.
//!
//! Meant to catch: a push that writes metadata before targets, and a mirror that writes the timestamp
//! first.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ampoule_protocol::digest::Digest;
use ampoule_server::blob::mirror::Mirror;
use ampoule_server::blob::push::push;
use ampoule_server::blob::{BlobError, BlobStore, Chunks, Folder, Key, Later};

use crate::common::tree::Tree;

/// A store that fails after so many operations that change or read something of it.
#[derive(Debug)]
struct Failing {
    folder: Folder,
    left: AtomicUsize,
}

impl Failing {
    fn new(folder: &Path, left: usize) -> Self {
        Self {
            folder: Folder::new(folder.to_owned()),
            left: AtomicUsize::new(left),
        }
    }

    fn may(&self) -> Result<(), BlobError> {
        let one_less = |left: usize| left.checked_sub(1);
        let left = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
        left.map(drop)
            .map_err(|_| BlobError::Configuration("the power failed".into()))
    }
}

impl BlobStore for Failing {
    fn local(&self) -> Option<&Path> {
        None
    }
    fn length<'a>(&'a self, key: &'a Key) -> Later<'a, Option<u64>> {
        self.folder.length(key)
    }
    fn read<'a>(&'a self, key: &'a Key, from: u64, to: u64) -> Later<'a, Chunks> {
        Box::pin(async move {
            self.may()?;
            self.folder.read(key, from, to).await
        })
    }
    fn write<'a>(&'a self, key: &'a Key, path: &'a Path) -> Later<'a, ()> {
        Box::pin(async move {
            self.may()?;
            self.folder.write(key, path).await
        })
    }
    fn list<'a>(&'a self, folder: &'a str) -> Later<'a, Vec<(Key, u64)>> {
        self.folder.list(folder)
    }
    fn link<'a>(&'a self, _key: &'a Key) -> Later<'a, Option<String>> {
        Box::pin(async { Ok(None) })
    }
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Follows the timestamp to snapshot, targets and their files; how many targets it leads to.
fn is_whole(tree: &Path, with_targets: bool) -> Option<usize> {
    let metadata = tree.join("metadata");
    if !metadata.join("timestamp.json").exists() {
        return None;
    }
    let snapshot = &json(&metadata.join("timestamp.json"))["signed"]["meta"]["snapshot.json"];
    let snapshot = json(&metadata.join(format!("{}.snapshot.json", snapshot["version"])));
    let targets = &snapshot["signed"]["meta"]["targets.json"]["version"];
    let targets = json(&metadata.join(format!("{targets}.targets.json")));
    let listed = targets["signed"]["targets"].as_object().unwrap();
    for (path, file) in listed.iter().filter(|_| with_targets) {
        let (folder, name) = path.split_once('/').unwrap();
        let hash = file["hashes"]["sha256"].as_str().unwrap();
        let bytes = std::fs::read(tree.join(format!("targets/{folder}/{hash}.{name}")));
        let bytes = bytes.unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(Digest::of(&bytes).to_string(), hash);
    }
    Some(listed.len())
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(future)
}

/// A tree of two publications, small: the first image gives way to a few bytes.
fn two_publications(folder: &Path) -> (std::path::PathBuf, std::path::PathBuf) {
    let (first, second) = (folder.join("first"), folder.join("second"));
    let mut tree = Tree::publish(&first);
    copy(&first, &second);
    tree.folder.clone_from(&second);
    tree.publish_small("rootfs-1.1.0.img", b"small");
    (first, second)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::hard_link(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_push_that_is_cut_anywhere_leaves_a_whole_tree() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = two_publications(folder.path());
    let mut ends = Vec::new();
    for cut in 0..12 {
        let there = folder.path().join(format!("there-{cut}"));
        let open = |left| Failing::new(&there, left);
        block_on(push(&Folder::new(first.clone()), &open(99), |_, _| {})).unwrap();
        let done = block_on(push(&Folder::new(second.clone()), &open(cut), |_, _| {}));
        ends.push(is_whole(&there, true).unwrap());
        if done.is_ok() {
            break;
        }
        block_on(push(&Folder::new(second.clone()), &open(99), |_, _| {})).unwrap();
        assert_eq!(
            is_whole(&there, true),
            Some(2),
            "done again after cut {cut}"
        );
    }
    assert_eq!(ends.last(), Some(&2), "{ends:?}");
    assert!(ends.len() >= 5, "some cuts were visited: {ends:?}");
}

#[test]
fn a_mirror_that_is_cut_anywhere_leaves_whole_metadata() {
    let folder = tempfile::tempdir().unwrap();
    let (_, second) = two_publications(folder.path());
    let mut came = 0;
    for cut in 0..12 {
        let here = folder.path().join(format!("here-{cut}"));
        let look = |left| {
            let from = Arc::new(Failing::new(&second, left));
            block_on(Mirror::new(from, here.clone()).look())
        };
        let cut_short = look(cut).is_err();
        is_whole(&here, false);
        let last = look(99).unwrap();
        assert_eq!(is_whole(&here, false), Some(2), "after cut {cut}");
        if !cut_short {
            assert_eq!(last, 0);
            break;
        }
        came = came.max(last);
    }
    assert_eq!(came, 6, "all of it, where nothing had come");
}

#[test]
fn a_bucket_is_never_set_back_and_a_file_is_what_its_name_says() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = two_publications(folder.path());
    let there = Folder::new(folder.path().join("there"));
    let publish = |from: &Path| block_on(push(&Folder::new(from.to_owned()), &there, |_, _| {}));
    publish(&second).unwrap();
    let refused = publish(&first).unwrap_err().to_string();
    assert!(
        refused.contains("timestamp version 1 is older than 2"),
        "{refused}"
    );
    let here = folder.path().join("here");
    let look = |from: &Path| {
        let from = Arc::new(Folder::new(from.to_owned()));
        block_on(Mirror::new(from, here.clone()).look())
    };
    look(&second).unwrap();
    assert!(look(&first).is_err(), "a mirror is not set back either");
    assert_eq!(is_whole(&here, false), Some(2));
    let bent = second.join("targets/infusion-pump");
    let bent = bent.join(format!("{}.bent.img", Digest::of(b"straight")));
    std::fs::write(&bent, b"crooked").unwrap();
    let refused = publish(&second).unwrap_err().to_string();
    assert!(refused.contains("holds"), "{refused}");
}
