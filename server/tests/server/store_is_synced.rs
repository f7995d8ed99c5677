//! Nothing is acknowledged before the disk has it, and nothing is written twice.
//!
//! Method: the sync of the journal is a seam; here it waits until the test lets it through, or takes
//! a copy of the folder at that moment. Catches: an answer before the sync, a sync before the write,
//! a group that is not one commit, receipts that push out newer ones.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::DeviceId;
use ampoule_server::store::sled::{LogSync, SledStore};
use ampoule_server::store::writer::Writer;
use ampoule_server::store::{Capacity, EventKind, Store, StoreError, Write, Written};

const CAPACITY: Capacity = Capacity {
    receipts_max: 4,
    events_max: 3,
};

const JOURNAL_LEN: u64 = 1 << 20;

/// Says that it was asked, and waits for leave.
struct Gate {
    asked: Mutex<Sender<()>>,
    leave: Mutex<Receiver<std::io::Result<()>>>,
}

impl LogSync for Gate {
    fn sync(&self, _: &File) -> std::io::Result<()> {
        self.asked.lock().unwrap().send(()).unwrap();
        self.leave.lock().unwrap().recv().unwrap()
    }
}

fn gated(folder: &Path) -> (SledStore, Receiver<()>, Sender<std::io::Result<()>>) {
    let (asked_sender, asked) = channel();
    let (leave, leave_receiver) = channel();
    let gate = Gate {
        asked: Mutex::new(asked_sender),
        leave: Mutex::new(leave_receiver),
    };
    let store = SledStore::open_with(folder, CAPACITY, 8, JOURNAL_LEN, Box::new(gate)).unwrap();
    (store, asked, leave)
}

fn device(name: &str) -> DeviceId {
    DeviceId::parse(name).unwrap()
}

fn enroll(name: &str) -> Write {
    Write::Enroll {
        device: device(name),
        certificate: Digest::of(name.as_bytes()),
        not_after: 9,
        at: 1,
    }
}

fn receipt(name: &str, number: u32) -> Write {
    let bytes = format!("receipt {number} {}", "x".repeat(1500)).into_bytes();
    Write::Receipt {
        device: device(name),
        at: 2,
        digest: Digest::of(&bytes),
        bytes,
    }
}

/// Asks on a thread of its own.
fn ask(writer: &Writer, write: Write) -> JoinHandle<Result<Written, StoreError>> {
    let writer = writer.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(writer.write(write))
    })
}

#[test]
fn an_answer_waits_for_the_sync_and_a_group_is_synced_once() {
    let folder = tempfile::tempdir().unwrap();
    let (store, asked, leave) = gated(folder.path());
    let (writer, writing) = Writer::start(Arc::new(store), 64, 64, |_| {}, |_| {}).unwrap();

    let first = ask(&writer, enroll("pump-1"));
    asked.recv().unwrap();
    // While the first group is at the disk, ten more writes wait and become one group.
    let others: Vec<_> = (0..10)
        .map(|n| ask(&writer, receipt("pump-1", n)))
        .collect();
    std::thread::sleep(Duration::from_millis(50));
    assert!(!first.is_finished(), "answered before the disk had it");
    leave.send(Ok(())).unwrap();
    asked.recv().unwrap();
    assert!(matches!(first.join().unwrap(), Ok(Written::Done(_))));
    std::thread::sleep(Duration::from_millis(50));
    assert!(others.iter().all(|other| !other.is_finished()));
    leave.send(Ok(())).unwrap();
    for other in others {
        assert!(matches!(other.join().unwrap(), Ok(Written::Done(_))));
    }
    assert!(
        asked.try_recv().is_err(),
        "ten writes were one group and one sync"
    );
    drop(writer);
    writing.join();
}

#[test]
fn after_a_failed_sync_nothing_more_is_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let (store, asked, leave) = gated(folder.path());
    let (failed_sender, failed) = channel();
    let complain = move |error: &StoreError| failed_sender.send(error.to_string()).unwrap();
    let (writer, writing) = Writer::start(Arc::new(store), 64, 64, |_| {}, complain).unwrap();
    leave
        .send(Err(std::io::ErrorKind::StorageFull.into()))
        .unwrap();
    leave.send(Ok(())).unwrap();
    let refused = ask(&writer, enroll("pump-1")).join().unwrap();
    assert!(matches!(refused, Err(StoreError::Closed)), "{refused:?}");
    assert_eq!(
        failed.recv().unwrap(),
        "failed to write the store's journal"
    );
    writing.join();
    // The next sync would succeed, and still nothing is taken: what the disk holds is unknown.
    let refused = ask(&writer, enroll("pump-2")).join().unwrap();
    assert!(matches!(refused, Err(StoreError::Closed)), "{refused:?}");
    drop(asked);
}

#[test]
fn a_full_queue_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (store, asked, leave) = gated(folder.path());
    let (writer, _writing) = Writer::start(Arc::new(store), 2, 1, |_| {}, |_| {}).unwrap();
    let first = ask(&writer, enroll("pump-1"));
    asked.recv().unwrap();
    let mut waiting: Vec<_> = (0..8).map(|n| ask(&writer, receipt("pump-1", n))).collect();
    let full = loop {
        let Some(at) = waiting.iter().position(JoinHandle::is_finished) else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        break waiting.remove(at).join().unwrap();
    };
    assert!(matches!(full, Err(StoreError::Full)), "{full:?}");
    (0..9).for_each(|_| leave.send(Ok(())).unwrap());
    assert!(first.join().unwrap().is_ok());
}

/// Copies the folder instead of syncing.
struct Copying {
    from: std::path::PathBuf,
    to: std::path::PathBuf,
}

impl LogSync for Copying {
    fn sync(&self, _: &File) -> std::io::Result<()> {
        for name in ["db", "conf", "journal-0", "journal-1"] {
            std::fs::copy(self.from.join(name), self.to.join(name))?;
        }
        Ok(())
    }
}

#[test]
fn what_was_committed_is_on_the_disk_when_the_sync_is_asked_for() {
    // The folder as it is at the moment of the sync, opened elsewhere: what a power cut right after
    // the sync leaves. Catches a sync before the write.
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let copying = Copying {
        from: folder.path().into(),
        to: copy.path().into(),
    };
    let store =
        SledStore::open_with(folder.path(), CAPACITY, 8, JOURNAL_LEN, Box::new(copying)).unwrap();
    store.commit(&[enroll("pump-1")]).unwrap();
    for number in 0..10 {
        store.commit(&[receipt("pump-1", number)]).unwrap();
        let after_cut = SledStore::open(copy.path(), CAPACITY, 8).unwrap();
        let row = after_cut.devices().unwrap().remove(0);
        let Write::Receipt { digest, .. } = receipt("pump-1", number) else {
            unreachable!()
        };
        let newest = after_cut.receipts(&row).unwrap().pop().unwrap();
        assert_eq!(newest.digest, digest, "receipt {number}");
        drop(after_cut);
        for entry in std::fs::read_dir(copy.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::remove_file(path).unwrap();
            }
        }
    }
}

#[test]
fn rings_are_bounded_and_keep_the_newest() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStore::open(folder.path(), CAPACITY, 8).unwrap();
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
    let store = SledStore::open(folder.path(), CAPACITY, 8).unwrap();
    let rows = store.devices().unwrap();
    let kept: Vec<_> = store
        .receipts(&rows[0])
        .unwrap()
        .iter()
        .map(|one| one.seq)
        .collect();
    assert_eq!(kept, [6, 7, 8, 9]);
    let events = store.events(&rows[0]).unwrap();
    assert_eq!(
        events.iter().map(|one| one.seq).collect::<Vec<_>>(),
        [8, 9, 10]
    );
    assert!(events.iter().all(|one| one.what == EventKind::Receipt));
    // One that gave way is news again; one that is kept is not.
    let again = store
        .commit(&[receipt("pump-1", 0), receipt("pump-1", 9)])
        .unwrap();
    assert!(
        matches!(again[..], [Written::Done(_), Written::Repeated(_)]),
        "{again:?}"
    );
    assert!(store.receipts(&rows[1]).unwrap().is_empty());
    let unknown = store.commit(&[receipt("pump-3", 0)]).unwrap();
    assert_eq!(unknown, [Written::UnknownDevice]);
    let blobs = std::fs::read_dir(folder.path().join("blobs")).map_or(0, Iterator::count);
    assert_eq!(blobs, 0, "no value left the log that we sync");
}
