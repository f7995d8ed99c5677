//! What is done to a log by whoever can write its folder, with and without its key: each is found,
//! and the first bad index is named.

use std::collections::BTreeMap;
use std::path::Path;

use ampoule_server::audit::medium::Folder;
use ampoule_server::audit::tiles::{self, Kind, WIDTH};
use ampoule_server::audit::verify::{Against, What, parted, verify};
use ampoule_server::audit::{AuditError, Checkpoint, Log};

use crate::{entries, entries_of, signer, verifier};

const SIZE: u64 = 700;

fn log(folder: &Path) -> Log {
    Log::open(Box::new(Folder::new(folder)), signer()).unwrap()
}

/// A log on a real disk, and its checkpoint after each append.
fn world() -> (tempfile::TempDir, BTreeMap<u64, Checkpoint>) {
    let folder = tempfile::tempdir().unwrap();
    let mut log = log(folder.path());
    let mut checkpoints = BTreeMap::new();
    for size in [100, 256, 400, SIZE] {
        log.append(&entries(log.size(), size)).unwrap();
        let checkpoint = Checkpoint::verify(log.checkpoint().as_bytes(), &verifier());
        checkpoints.insert(size, checkpoint.unwrap());
    }
    (folder, checkpoints)
}

fn look(folder: &Path, known: Vec<Checkpoint>) -> Result<(), (u64, What)> {
    let against = Against {
        known,
        ..Against::default()
    };
    match verify(&Folder::new(folder), &verifier(), against, |_, _| {}) {
        Ok(_) => Ok(()),
        Err(AuditError::Found(finding)) => Err((finding.index, finding.what)),
        Err(error) => panic!("{error:?}"),
    }
}

/// Rewrites bundle 1 (entries 256 to 511).
fn edit(folder: &Path, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let path = folder.join(tiles::path(Kind::Entries, 1, WIDTH));
    let bytes = std::fs::read(&path).unwrap();
    let mut list: Vec<Vec<u8>> = tiles::entries(&bytes)
        .0
        .iter()
        .map(|e| e.to_vec())
        .collect();
    change(&mut list);
    let mut bytes = Vec::new();
    for entry in &list {
        tiles::bundle(&mut bytes, entry);
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn each_change_to_entries_names_the_first_bad_index() {
    let edited = |change: fn(&mut Vec<Vec<u8>>)| {
        let (folder, _) = world();
        assert_eq!(look(folder.path(), Vec::new()), Ok(()));
        edit(folder.path(), change);
        look(folder.path(), Vec::new()).unwrap_err().0
    };
    assert_eq!(edited(|list| list[44].push(b' ')), 300);
    assert_eq!(edited(|list| drop(list.remove(44))), 300);
    assert_eq!(edited(|list| list.swap(44, 50)), 300);
    assert_eq!(edited(|list| list.insert(44, b"{}".to_vec())), 300);
    assert_eq!(edited(|list| list.truncate(44)), 300);
    assert_eq!(edited(|list| list.push(b"{}".to_vec())), 512);
    assert_eq!(edited(|list| list.push(list[255].clone())), 512);
}

#[test]
fn files_that_are_gone_or_cut_are_named() {
    for (kind, number, width, first) in [
        (Kind::Entries, 1, WIDTH, 256),
        (Kind::Entries, 2, 188, 512),
        (Kind::Level(0), 1, WIDTH, 256),
        (Kind::Level(0), 2, 188, 512),
        (Kind::Level(1), 0, 2, 0),
    ] {
        let (folder, _) = world();
        let path = folder.path().join(tiles::path(kind, number, width));
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        // The tile of level 1 is asked for when the first of level 0 is full.
        let index = look(folder.path(), Vec::new()).unwrap_err().0;
        assert_eq!(index, first, "{kind:?} {number}");
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let cut = look(folder.path(), Vec::new()).unwrap_err().0;
        assert!(cut >= first, "{kind:?} {number}: {cut}");
    }
}

/// A thief without the key rewrites tiles to match, as far as he likes.
#[test]
fn tiles_rewritten_to_match_lead_to_the_tile_above_or_the_root() {
    let (folder, checkpoints) = world();
    let other = tempfile::tempdir().unwrap();
    let mut forged = log(other.path());
    forged.append(&entries(0, 300)).unwrap();
    forged.append(&entries_of("mallory", 300, 301)).unwrap();
    forged.append(&entries(301, SIZE)).unwrap();
    let copy = |kind, number, width| {
        let path = tiles::path(kind, number, width);
        std::fs::copy(other.path().join(&path), folder.path().join(&path)).unwrap();
    };
    copy(Kind::Entries, 1, WIDTH);
    assert_eq!(look(folder.path(), Vec::new()).unwrap_err().0, 300);
    copy(Kind::Level(0), 1, WIDTH);
    let (index, what) = look(folder.path(), Vec::new()).unwrap_err();
    assert_eq!(index, 256, "{what}");
    assert!(
        matches!(
            what,
            What::Hash {
                level: 1,
                place: 1,
                ..
            }
        ),
        "{what}"
    );
    copy(Kind::Level(1), 0, 2);
    let known = || {
        vec![
            checkpoints[&100].clone(),
            checkpoints[&256].clone(),
            checkpoints[&400].clone(),
        ]
    };
    let (index, what) = look(folder.path(), known()).unwrap_err();
    assert_eq!(
        (index, &what),
        (
            256,
            &What::Root {
                size: 400,
                after: 256
            }
        )
    );
    let (index, _) = look(folder.path(), Vec::new()).unwrap_err();
    assert_eq!(index, 0, "nothing but the last checkpoint is known");
}

/// A thief with the key signs what he likes: only somebody who remembers can tell.
#[test]
fn another_history_is_found_by_whoever_holds_a_checkpoint() {
    let (folder, checkpoints) = world();
    let other = tempfile::tempdir().unwrap();
    let mut forged = log(other.path());
    forged.append(&entries(0, 300)).unwrap();
    forged.append(&entries_of("mallory", 300, SIZE)).unwrap();
    assert_eq!(look(other.path(), Vec::new()), Ok(()), "it hangs together");
    let known = || checkpoints.values().cloned().collect();
    let (index, what) = look(other.path(), known()).unwrap_err();
    assert_eq!(
        (index, what),
        (
            256,
            What::Root {
                size: 400,
                after: 256
            }
        )
    );
    // With both folders at hand, the very entry.
    let (one, two) = (Folder::new(folder.path()), Folder::new(other.path()));
    let (one, two) = (tiles::Tiles::new(&one, SIZE), tiles::Tiles::new(&two, SIZE));
    assert_eq!(parted(&one, &two).unwrap(), Some(300));
    assert_eq!(parted(&one, &one).unwrap(), None);
}

#[test]
fn a_log_cut_back_to_an_old_checkpoint_is_too_short() {
    let (folder, checkpoints) = world();
    let short = tempfile::tempdir().unwrap();
    log(short.path()).append(&entries(0, 400)).unwrap();
    assert_eq!(look(short.path(), Vec::new()), Ok(()), "it was signed once");
    let (index, what) = look(short.path(), vec![checkpoints[&SIZE].clone()]).unwrap_err();
    assert_eq!(
        (index, what),
        (
            400,
            What::Short {
                size: 400,
                known: SIZE
            }
        )
    );
    drop(folder);
}

#[test]
fn an_entry_that_names_another_place_is_found_though_it_was_signed() {
    let folder = tempfile::tempdir().unwrap();
    log(folder.path())
        .append(&[entries(0, 3), entries(4, 6)].concat())
        .unwrap();
    let (index, what) = look(folder.path(), Vec::new()).unwrap_err();
    assert_eq!((index, what), (3, What::Place(3, 4)));
}
