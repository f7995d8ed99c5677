//! A fleet moves between engines and comes back as it was.
//!
//! Catches: anything that an export leaves out, an altered or short file that is taken, a store
//! that is written before the file was found whole.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ampoule_server::store::Store;
use ampoule_server::store::postgres::PostgresStore;
use ampoule_server::store::records::{Expected, Key, Kind, RecordWrite};
use ampoule_server::store::sled::SledStore;
use ampoule_server::store::transfer::{self, Moved, TransferError};
use ampoule_server::store::{Capacity, Write};

use crate::postgres::Cluster;
use crate::sled_engine::opened as sled;
use crate::suite::{CAPACITY, device, enroll, receipt};

fn postgres() -> Arc<dyn Store> {
    let database = Cluster::shared().database();
    Arc::new(PostgresStore::open(database, CAPACITY).unwrap())
}

/// Devices with and without everything, rings that went round, records of binary.
fn fill(store: &dyn Store) {
    let names: Vec<String> = (0..300).map(|number| format!("pump-{number:03}")).collect();
    let group: Vec<_> = names.iter().map(|name| enroll(name)).collect();
    store.commit(&group).unwrap();
    let mut group: Vec<_> = (0..9).map(|number| receipt("pump-007", number)).collect();
    group.push(receipt("pump-299", 1));
    group.push(Write::Revoke {
        device: device("pump-003"),
        at: 77,
    });
    group.push(Write::Tags {
        device: device("pump-004"),
        bytes: b"{\"ward\":\"3\"}".to_vec(),
    });
    group.push(Write::Inventory {
        device: device("pump-005"),
        at: 5,
        seq: u64::MAX,
        time: i64::MIN,
        digest: ampoule_protocol::digest::Digest::of(b"inventory"),
        bytes: vec![b'i'; 2000],
    });
    for (kind, key) in [
        ("account", "anna"),
        ("account", "\u{e9}va"),
        ("zone", "a b"),
    ] {
        group.push(Write::Records(vec![RecordWrite {
            kind: Kind::parse(kind).unwrap(),
            key: Key::parse(key).unwrap(),
            expected: Expected::Any,
            bytes: Some((0..=255).collect()),
        }]));
    }
    store.commit(&group).unwrap();
}

fn export(store: &dyn Store, path: &Path) -> Moved {
    transfer::export(store, transfer::create(path).unwrap(), 1).unwrap()
}

fn import(store: &dyn Store, path: &Path) -> Result<Moved, TransferError> {
    transfer::import(store, File::open(path).unwrap())
}

#[test]
fn there_and_back_again_nothing_is_lost_or_added() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let first = sled(&file("first"));
    fill(&*first);
    let moved = export(&*first, &file("one"));
    assert_eq!((moved.devices, moved.receipts, moved.records), (300, 5, 3));
    let second = postgres();
    assert_eq!(import(&*second, &file("one")).unwrap(), moved);
    assert_eq!(export(&*second, &file("two")), moved);
    let third = sled(&file("third"));
    assert_eq!(import(&*third, &file("two")).unwrap(), moved);
    drop(third);
    let third = sled(&file("third"));
    assert_eq!(export(&*third, &file("three")), moved);
    let read = |name| std::fs::read(file(name)).unwrap();
    assert!(read("one") == read("two"), "the database holds the same");
    assert!(read("one") == read("three"), "and so does the folder");
    // The fleet lives on: the next device gets the next number, a known receipt is known.
    for store in [&second, &third] {
        let written = store
            .commit(&[enroll("new"), receipt("pump-007", 8)])
            .unwrap();
        let said = format!("{written:?}");
        assert!(said.contains("number: 300"), "{said}");
        assert!(said.contains("Repeated"), "{said}");
    }
    let again = import(&*second, &file("one"));
    assert!(matches!(again, Err(TransferError::NotEmpty)), "{again:?}");
}

#[test]
fn a_file_that_is_not_whole_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let store = sled(&file("store"));
    fill(&*store);
    export(&*store, &file("good"));
    let good = std::fs::read(file("good")).unwrap();
    let empty = sled(&file("empty"));
    let refused = |bytes: &[u8]| {
        std::fs::write(file("bad"), bytes).unwrap();
        let error = import(&*empty, &file("bad")).unwrap_err();
        assert!(empty.devices().unwrap().is_empty(), "{error}");
        assert!(empty.record_kinds().unwrap().is_empty(), "{error}");
    };
    for at in (0..good.len()).step_by(997) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        refused(&bad);
        refused(&good[..at]);
    }
    let lines: Vec<&[u8]> = good.split_inclusive(|byte| *byte == b'\n').collect();
    refused(&[&lines[..5], &lines[6..]].concat().concat());
    refused(
        &[&lines[..5], &[lines[6], lines[5]], &lines[7..]]
            .concat()
            .concat(),
    );
    refused(&[&good[..], lines[7]].concat());
    let other = Capacity {
        receipts_max: 5,
        ..CAPACITY
    };
    let other = SledStore::open(&file("other"), other, 8).unwrap();
    let error = import(&other, &file("good")).unwrap_err();
    assert!(matches!(error, TransferError::Capacity { .. }), "{error}");
    assert!(import(&*empty, &file("good")).is_ok());
    assert!(!transfer::is_partial(&*empty).unwrap());
}
