//! The suite. A story opens the store, writes, opens it again, and looks.
//!
//! Mistakes that it is meant to catch stand at each story.

use std::sync::Arc;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::DeviceId;
use ampoule_server::rollout::RolloutId;
use ampoule_server::store::records::{Expected, Key, Kind, RECORD_LEN_MAX, RecordWrite};
use ampoule_server::store::{
    Capacity, DeviceRow, EventKind, Standing, Store, StoreError, Write, Written,
};

pub const CAPACITY: Capacity = Capacity {
    receipts_max: 4,
    events_max: 3,
};

/// Gives a store, and the same one again. The one before is dropped then.
pub trait Factory {
    fn open(&self) -> Arc<dyn Store>;
}

/// Each story as a test of its own.
macro_rules! on_engine {
    ($factory:expr) => {
        crate::suite::on_engine!($factory;
            devices_are_numbered_and_come_back,
            inventories_replace_each_other,
            rings_are_bounded_and_keep_the_newest,
            tags_and_rollouts_come_back,
            records_are_changed_by_whom_saw_them,
            records_are_listed_in_order,
            records_are_written_together_or_not_at_all,
            a_group_sees_its_own_writes,
        );
    };
    ($factory:expr; $($story:ident),+ $(,)?) => {
        $(
            #[test]
            fn $story() {
                crate::suite::$story(&$factory);
            }
        )+
    };
}
pub(crate) use on_engine;

pub fn device(name: &str) -> DeviceId {
    DeviceId::parse(name).unwrap()
}

pub fn enroll(name: &str) -> Write {
    Write::Enroll {
        device: device(name),
        certificate: Digest::of(name.as_bytes()),
        not_after: 9,
        at: 1,
    }
}

pub fn receipt(name: &str, number: u32) -> Write {
    let bytes = format!("receipt {number} {}", "x".repeat(1500)).into_bytes();
    Write::Receipt {
        device: device(name),
        at: 2,
        digest: Digest::of(&bytes),
        bytes,
    }
}

fn inventory(name: &str, seq: u64, bytes: &[u8]) -> Write {
    Write::Inventory {
        device: device(name),
        at: 5,
        seq,
        time: -7,
        digest: Digest::of(bytes),
        bytes: bytes.to_vec(),
    }
}

pub fn row(store: &dyn Store, name: &str) -> DeviceRow {
    let rows = store.devices().unwrap();
    rows.into_iter()
        .find(|row| row.device == device(name))
        .unwrap()
}

fn kind(name: &str) -> Kind {
    Kind::parse(name).unwrap()
}

fn key(name: &str) -> Key {
    Key::parse(name).unwrap()
}

fn record(of: &str, name: &str, expected: Expected, bytes: Option<&[u8]>) -> RecordWrite {
    RecordWrite {
        kind: kind(of),
        key: key(name),
        expected,
        bytes: bytes.map(<[u8]>::to_vec),
    }
}

fn one(store: &dyn Store, write: Write) -> Written {
    store.commit(&[write]).unwrap().pop().unwrap()
}

fn put(store: &dyn Store, write: RecordWrite) -> Written {
    one(store, Write::Records(vec![write]))
}

fn version(written: &Written) -> u64 {
    match written {
        Written::Recorded(versions) => versions[0].unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Catches: numbers with gaps or given twice, a revocation or a new certificate that is not kept.
pub fn devices_are_numbered_and_come_back(factory: &dyn Factory) {
    let store = factory.open();
    let written = store.commit(&[enroll("pump-1"), enroll("pump-2"), enroll("pump-1")]);
    let numbers: Vec<_> = written
        .unwrap()
        .iter()
        .map(|written| match written {
            Written::Done(row) => row.number,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(numbers, [0, 1, 0]);
    let revoke = |name| Write::Revoke {
        device: device(name),
        at: 3,
    };
    assert!(matches!(one(&*store, revoke("pump-2")), Written::Done(_)));
    assert!(matches!(
        one(&*store, revoke("pump-2")),
        Written::Repeated(_)
    ));
    assert_eq!(one(&*store, revoke("pump-9")), Written::UnknownDevice);
    drop(store);

    let store = factory.open();
    assert_eq!(row(&*store, "pump-1").standing, Standing::Enrolled);
    let revoked = row(&*store, "pump-2");
    assert_eq!(
        (revoked.standing, revoked.revoked_at),
        (Standing::Revoked, Some(3))
    );
    let Written::Done(third) = one(&*store, enroll("pump-3")) else {
        panic!("it is new");
    };
    assert_eq!(third.number, 2);
    let again = Write::Enroll {
        device: device("pump-2"),
        certificate: Digest::of(b"new"),
        not_after: i64::MAX,
        at: i64::MIN,
    };
    one(&*store, again);
    let row = row(&*store, "pump-2");
    assert_eq!((row.number, row.standing), (1, Standing::Enrolled));
    assert_eq!(
        (row.certificate, row.not_after, row.enrolled_at),
        (Digest::of(b"new"), i64::MAX, i64::MIN)
    );
    assert_eq!(row.revoked_at, None);
    let events = store.events(&row).unwrap();
    let kinds: Vec<_> = events.iter().map(|event| event.what).collect();
    assert_eq!(
        kinds,
        [EventKind::Enrolled, EventKind::Revoked, EventKind::Enrolled]
    );
}

/// Catches: a shorter inventory with the tail of the longer one before it, numbers above what a
/// signed column holds, an event for what did not change.
pub fn inventories_replace_each_other(factory: &dyn Factory) {
    let store = factory.open();
    store.commit(&[enroll("pump-1")]).unwrap();
    let fresh = row(&*store, "pump-1");
    assert_eq!(store.inventory(&fresh).unwrap(), None);
    let long = vec![b'l'; 3000];
    one(&*store, inventory("pump-1", 1, &long));
    assert_eq!(
        store.inventory(&row(&*store, "pump-1")).unwrap(),
        Some(long)
    );
    one(&*store, inventory("pump-1", u64::MAX, b"short"));
    one(&*store, inventory("pump-1", 7, b"short"));
    drop(store);
    let store = factory.open();
    let row = row(&*store, "pump-1");
    assert_eq!(store.inventory(&row).unwrap(), Some(b"short".to_vec()));
    assert_eq!(
        (row.inventory_seq, row.inventory_time, row.seen_at),
        (7, -7, Some(5))
    );
    let events = store.events(&row).unwrap();
    let kinds: Vec<_> = events.iter().map(|event| event.what).collect();
    assert_eq!(
        kinds,
        [
            EventKind::InventoryChanged,
            EventKind::InventoryChanged,
            EventKind::SequenceFell
        ]
    );
    assert_eq!(
        one(&*store, inventory("pump-9", 1, b"x")),
        Written::UnknownDevice
    );
}

/// Catches: rings that grow, that drop the newest, that answer a receipt which gave way as known.
pub fn rings_are_bounded_and_keep_the_newest(factory: &dyn Factory) {
    let store = factory.open();
    store.commit(&[enroll("pump-1"), enroll("pump-2")]).unwrap();
    for number in 0..10 {
        let written = store
            .commit(&[receipt("pump-1", number), receipt("pump-1", number)])
            .unwrap();
        assert!(
            matches!(written[..], [Written::Done(_), Written::Repeated(_)]),
            "{written:?}"
        );
    }
    drop(store);
    let store = factory.open();
    let first = row(&*store, "pump-1");
    let kept = store.receipts(&first).unwrap();
    let seqs: Vec<_> = kept.iter().map(|one| one.seq).collect();
    assert_eq!(seqs, [6, 7, 8, 9]);
    assert!(kept.iter().all(|one| Digest::of(&one.bytes) == one.digest));
    let events = store.events(&first).unwrap();
    let seqs: Vec<_> = events.iter().map(|one| one.seq).collect();
    assert_eq!(seqs, [8, 9, 10]);
    assert!(events.iter().all(|one| one.what == EventKind::Receipt));
    // One that gave way is news again; one that is kept is not.
    let again = store
        .commit(&[receipt("pump-1", 0), receipt("pump-1", 9)])
        .unwrap();
    assert!(
        matches!(again[..], [Written::Done(_), Written::Repeated(_)]),
        "{again:?}"
    );
    assert!(store.receipts(&row(&*store, "pump-2")).unwrap().is_empty());
    let unknown = store.commit(&[receipt("pump-3", 0)]).unwrap();
    assert_eq!(unknown, [Written::UnknownDevice]);
}

/// Catches: rollouts mixed up with each other, deployments under the wrong number, old rows that
/// stay beside new ones.
pub fn tags_and_rollouts_come_back(factory: &dyn Factory) {
    let store = factory.open();
    let (spring, autumn) = (
        RolloutId::parse("spring").unwrap(),
        RolloutId::parse("autumn").unwrap(),
    );
    let rollout = |name: &RolloutId, bytes: &[u8]| Write::Rollout {
        name: name.clone(),
        bytes: bytes.to_vec(),
    };
    let deployment = |rollout: &RolloutId, device, bytes: &[u8]| Write::Deployment {
        rollout: rollout.clone(),
        device,
        bytes: bytes.to_vec(),
    };
    let tags = Write::Tags {
        device: device("pump-1"),
        bytes: b"{\"ward\":\"3\"}".to_vec(),
    };
    let long = vec![b's'; 2000];
    let group = [
        enroll("pump-1"),
        tags,
        rollout(&spring, &long),
        rollout(&autumn, b"autumn"),
        deployment(&spring, 0, b"zero"),
        deployment(&spring, 7, b"seven"),
        deployment(&autumn, 0, b"other"),
        rollout(&spring, b"spring"),
        deployment(&spring, 7, b"seven again"),
    ];
    store.commit(&group).unwrap();
    drop(store);
    let store = factory.open();
    let device = row(&*store, "pump-1");
    assert_eq!(
        store.tags(&device).unwrap().unwrap(),
        b"{\"ward\":\"3\"}".to_vec()
    );
    let mut rollouts = store.rollouts().unwrap();
    rollouts.sort();
    assert_eq!(rollouts, [b"autumn".to_vec(), b"spring".to_vec()]);
    let mut rows = store.deployments(&spring).unwrap();
    rows.sort();
    assert_eq!(rows, [(0, b"zero".to_vec()), (7, b"seven again".to_vec())]);
    assert_eq!(
        store.deployments(&autumn).unwrap(),
        [(0, b"other".to_vec())]
    );
}

/// Catches: a lost update, a version used twice after a removal, the tail of a longer record.
pub fn records_are_changed_by_whom_saw_them(factory: &dyn Factory) {
    let store = factory.open();
    let anna = |expected, bytes: Option<&[u8]>| record("account", "anna", expected, bytes);
    let long = vec![b'a'; RECORD_LEN_MAX];
    let made = put(&*store, anna(Expected::Absent, Some(&long)));
    let first = version(&made);
    let twice = put(&*store, anna(Expected::Absent, Some(b"other")));
    assert_eq!(
        twice,
        Written::Conflict {
            at: 0,
            version: Some(first)
        }
    );
    let found = store.record(&kind("account"), &key("anna")).unwrap();
    let found = found.unwrap();
    assert_eq!((found.version, found.bytes), (first, long));
    assert_eq!(store.record(&kind("session"), &key("anna")).unwrap(), None);
    let second = version(&put(
        &*store,
        anna(Expected::Version(first), Some(b"short")),
    ));
    assert!(second > first);
    let stale = put(&*store, anna(Expected::Version(first), Some(b"lost")));
    assert!(matches!(stale, Written::Conflict { .. }), "{stale:?}");
    drop(store);

    let store = factory.open();
    let found = store.record(&kind("account"), &key("anna")).unwrap();
    assert_eq!(found.unwrap().bytes, b"short");
    let gone = put(&*store, anna(Expected::Version(second), None));
    assert_eq!(gone, Written::Recorded(vec![None]));
    assert_eq!(store.record(&kind("account"), &key("anna")).unwrap(), None);
    let anew = version(&put(&*store, anna(Expected::Absent, Some(b"anew"))));
    assert!(anew > second, "a version is never used twice");
    let stale = put(&*store, anna(Expected::Version(second), None));
    assert!(matches!(stale, Written::Conflict { .. }), "{stale:?}");
    let any = put(&*store, anna(Expected::Any, Some(b"")));
    assert!(version(&any) > anew);
    let found = store.record(&kind("account"), &key("anna")).unwrap();
    assert_eq!(found.unwrap().bytes, b"");
    let too_long = vec![0; RECORD_LEN_MAX + 1];
    let write = Write::Records(vec![anna(Expected::Any, Some(&too_long))]);
    assert!(matches!(write.check(), Err(StoreError::TooLong { .. })));
}

/// Catches: an order that a collation makes, kinds that run into each other, pages that skip.
pub fn records_are_listed_in_order(factory: &dyn Factory) {
    let store = factory.open();
    let names = ["anna", "Zoe", "\u{e9}va", "anna-2", "ann", "a b", "~"];
    for name in names {
        put(
            &*store,
            record("account", name, Expected::Any, Some(name.as_bytes())),
        );
    }
    let long = vec![b'x'; 1200];
    put(
        &*store,
        record("account", "bert", Expected::Any, Some(&long)),
    );
    put(
        &*store,
        record("account-2", "anna", Expected::Any, Some(b"no")),
    );
    put(
        &*store,
        record("accoun", "anna", Expected::Any, Some(b"no")),
    );
    let mut expected: Vec<&str> = [&names[..], &["bert"]].concat();
    expected.sort_unstable();
    for page in [1, 3, 100] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let records = store
                .records(&kind("account"), after.as_ref(), page)
                .unwrap();
            assert!(records.len() <= page);
            let Some(last) = records.last() else { break };
            after = Some(last.key.clone());
            found.extend(records);
        }
        let keys: Vec<_> = found.iter().map(|one| one.key.as_str()).collect();
        assert_eq!(keys, expected, "pages of {page}");
        let bert = found.iter().find(|one| one.key.as_str() == "bert").unwrap();
        assert_eq!(bert.bytes, long);
    }
    assert!(store.records(&kind("none"), None, 9).unwrap().is_empty());
}

/// Catches: the first of two records written though the second is not as expected.
pub fn records_are_written_together_or_not_at_all(factory: &dyn Factory) {
    let store = factory.open();
    let together = |last| {
        Write::Records(vec![
            record("approval", "one", Expected::Absent, Some(b"1")),
            record("approval", "two", last, Some(b"2")),
        ])
    };
    let refused = one(&*store, together(Expected::Version(99)));
    assert_eq!(
        refused,
        Written::Conflict {
            at: 1,
            version: None
        }
    );
    assert!(
        store
            .records(&kind("approval"), None, 9)
            .unwrap()
            .is_empty()
    );
    let Written::Recorded(versions) = one(&*store, together(Expected::Absent)) else {
        panic!("both are as expected");
    };
    assert!(versions[0] < versions[1], "{versions:?}");
    assert_eq!(store.records(&kind("approval"), None, 9).unwrap().len(), 2);
}

/// Catches: an engine that reads the rows of a group before it applies it.
pub fn a_group_sees_its_own_writes(factory: &dyn Factory) {
    let store = factory.open();
    let group = [
        enroll("pump-1"),
        inventory("pump-1", 3, b"one"),
        receipt("pump-1", 1),
        receipt("pump-1", 1),
        inventory("pump-1", 2, b"two"),
        Write::Records(vec![record("lock", "a", Expected::Absent, Some(b"1"))]),
        Write::Records(vec![record("lock", "a", Expected::Absent, Some(b"2"))]),
        Write::Records(vec![record("lock", "a", Expected::Any, None)]),
        Write::Records(vec![record("lock", "a", Expected::Absent, Some(b"3"))]),
        receipt("pump-1", 2),
        receipt("pump-1", 3),
        receipt("pump-1", 4),
        receipt("pump-1", 5),
        receipt("pump-1", 1),
    ];
    let written = store.commit(&group).unwrap();
    assert!(matches!(written[3], Written::Repeated(_)), "{written:?}");
    assert!(
        matches!(written[6], Written::Conflict { .. }),
        "{written:?}"
    );
    assert_eq!(written[7], Written::Recorded(vec![None]));
    assert!(
        matches!(written[13], Written::Done(_)),
        "it gave way before"
    );
    drop(store);
    let store = factory.open();
    let row = row(&*store, "pump-1");
    let Written::Done(last) = &written[13] else {
        unreachable!()
    };
    assert_eq!(row, *last);
    let seqs: Vec<_> = store
        .receipts(&row)
        .unwrap()
        .iter()
        .map(|r| r.seq)
        .collect();
    assert_eq!(seqs, [2, 3, 4, 5]);
    assert_eq!(store.events(&row).unwrap().len(), 3);
    let lock = store.record(&kind("lock"), &key("a")).unwrap().unwrap();
    assert_eq!(lock.bytes, b"3");
}
