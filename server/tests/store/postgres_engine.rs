//! The suite on PostgreSQL, and what only a database shared by several servers must do.

use std::sync::Arc;

use ampoule_protocol::digest::Digest;
use ampoule_server::store::postgres::{Database, PostgresStore};
use ampoule_server::store::{News, Store, StoreError, Write, Written};

use crate::postgres::{Cluster, Raw, wait_until};
use crate::suite::{self, CAPACITY, Factory, enroll, receipt, row};

struct Place(Database);

impl Factory for Place {
    fn open(&self) -> Arc<dyn Store> {
        Arc::new(open(&self.0))
    }
}

fn open(database: &Database) -> PostgresStore {
    PostgresStore::open(database.clone(), CAPACITY).unwrap()
}

suite::on_engine!(Place(Cluster::shared().database()));

/// Goal: what one server writes, another hears of, once, in whatever order the transactions end.
/// Catches: a mark that moves past a transaction that is still open.
#[test]
fn servers_hear_of_each_other() {
    let database = Cluster::shared().database();
    let (one, two) = (open(&database), open(&database));
    let (nothing, mark) = two.news(None).unwrap();
    assert!(nothing.is_empty());
    one.commit(&[enroll("pump-1"), receipt("pump-1", 1)])
        .unwrap();
    // The other transaction begins first and ends last.
    let slow = Raw::open(&database.config);
    slow.run("BEGIN; INSERT INTO news (what, devices, seqs) VALUES (3, '{42}', '{NULL}')");
    one.commit(&[enroll("pump-2")]).unwrap();
    let (mut first, mark) = two.news(Some(&mark)).unwrap();
    // Those of one transaction come in no order.
    first.sort();
    assert_eq!(
        first,
        [News::Device(0), News::Device(1), News::Receipt(0, 0)]
    );
    slow.run("COMMIT");
    let (second, mark) = two.news(Some(&mark)).unwrap();
    assert_eq!(
        second,
        [News::Tags(42)],
        "it is told, and each is told once"
    );
    assert!(two.news(Some(&mark)).unwrap().0.is_empty());
    assert_eq!(two.some_devices(&[1, 7]).unwrap(), [row(&two, "pump-2")]);
    wait_until("a notification", || two.told() > 0);
    // A poll that changes nothing is no news.
    let poll = |seq| Write::Inventory {
        device: suite::device("pump-1"),
        at: 9,
        seq,
        time: 9,
        digest: Digest::of(b"same"),
        bytes: b"same".to_vec(),
    };
    one.commit(&[poll(1)]).unwrap();
    one.commit(&[poll(2)]).unwrap();
    let (polled, _) = two.news(Some(&mark)).unwrap();
    assert_eq!(polled, [News::Inventory(0)]);
}

/// Catches: two turns at once, a turn that is never given back, one that writes though dropped.
#[test]
fn one_server_at_a_time_has_the_turn() {
    let database = Cluster::shared().database();
    let (one, two) = (open(&database), Arc::new(open(&database)));
    one.commit(&[enroll("pump-1")]).unwrap();
    let mut turn = one.turn().unwrap().unwrap();
    let (_, mark) = turn.news(None).unwrap();
    let waiting = two.clone();
    let other = std::thread::spawn(move || {
        let mut turn = waiting.turn().unwrap().unwrap();
        turn.news(Some(&mark)).unwrap().0
    });
    let written = turn.finish(vec![receipt("pump-1", 7)]).unwrap();
    assert!(matches!(written[..], [Written::Done(_)]));
    assert_eq!(
        other.join().unwrap(),
        [News::Receipt(0, 0)],
        "it saw what the first one did"
    );
    drop(one.turn().unwrap());
    drop(two.turn().unwrap());
    assert_eq!(one.receipts(&row(&one, "pump-1")).unwrap().len(), 1);
}

/// Goal: servers that write about the same devices neither lose a write nor wait in a circle.
/// Catches: rows read before they are locked, locks taken in the order of the group.
#[test]
fn two_servers_write_about_the_same_devices() {
    let database = Cluster::shared().database();
    let names: Vec<String> = (0..8).map(|number| format!("pump-{number}")).collect();
    let first = open(&database);
    let enrolled: Vec<_> = names.iter().map(|name| enroll(name)).collect();
    first.commit(&enrolled).unwrap();
    let threads: Vec<_> = (0..3_u32)
        .map(|server| {
            let (store, mut names) = (open(&database), names.clone());
            std::thread::spawn(move || {
                for round in 0..10 {
                    names.rotate_left(server as usize + 1);
                    let group: Vec<_> = names
                        .iter()
                        .map(|name| receipt(name, server * 1000 + round))
                        .chain([enroll(&format!("new-{server}-{round}"))])
                        .collect();
                    store.commit(&group).unwrap();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let rows = first.devices().unwrap();
    assert!(
        (0..38).eq(rows.iter().map(|row| row.number)),
        "numbers have no gap"
    );
    for name in &names {
        assert_eq!(row(&first, name).receipts, 30);
    }
}

/// Catches: a database of a later server that is changed by an older one, and one that does not
/// sync.
#[test]
fn a_database_that_is_not_fit_is_refused() {
    let database = Cluster::shared().database();
    drop(open(&database));
    Raw::open(&database.config).run("INSERT INTO layout (version) VALUES (99)");
    let Err(StoreError::Damaged(said)) = PostgresStore::open(database.clone(), CAPACITY) else {
        panic!("a newer layout is taken");
    };
    assert_eq!(said, "its layout is 99, this server knows those up to 2");
    Raw::open(&database.config).run("DELETE FROM layout WHERE version = 99");
    drop(open(&database));
}

/// Goal: news are kept for a while and no longer, and a server that was away for longer is told so
/// instead of being told half.
/// Catches: a table that grows for ever, a row that is removed while somebody may still ask for it,
/// a mark that is believed after its rows are gone, a transaction that stays open for long and makes
/// everybody hear the same again and again.
#[test]
fn news_are_bounded_and_a_server_that_was_away_is_told_so() {
    let database = Cluster::shared().database();
    let one = open(&database);
    let (_, mark) = one.news(None).unwrap();
    one.commit(&[enroll("pump-1")]).unwrap();
    one.commit(&[enroll("pump-2")]).unwrap();
    let raw = Raw::open(&database.config);
    raw.run("UPDATE news SET at = at - interval '11 minutes' WHERE devices = '{0}'");
    // Each server removes what is old at its first look.
    let two = open(&database);
    two.news(None).unwrap();
    raw.run("DO $$ BEGIN ASSERT (SELECT array_agg(devices[1]) FROM news) = '{1}'; END $$");
    let mut old = mark.clone();
    old.clock_millis -= 5 * 60 * 1000 + 1000;
    assert!(matches!(one.news(Some(&old)), Err(StoreError::Forgotten)));
    assert_eq!(one.news(Some(&mark)).unwrap().0, [News::Device(1)]);

    // More than is heard at once, told by a transaction in each row.
    let many = "INSERT INTO news (what, devices, seqs) \
                SELECT 2, ARRAY[0], ARRAY[NULL::bigint] FROM generate_series(1, 5000)";
    let (_, before) = one.news(None).unwrap();
    let slow = Raw::open(&database.config);
    slow.run("BEGIN; INSERT INTO news (what, devices, seqs) VALUES (3, '{42}', '{NULL}')");
    raw.run(many);
    assert!(matches!(
        one.news(Some(&before)),
        Err(StoreError::Forgotten)
    ));
    // Whoever reads everything anew begins here, with all of them known though the other
    // transaction is open still.
    let (nothing, anew) = one.news(None).unwrap();
    assert!(nothing.is_empty());
    let (nothing, anew) = one.news(Some(&anew)).unwrap();
    assert!(nothing.is_empty(), "{} are told again", nothing.len());
    slow.run("COMMIT");
    assert_eq!(one.news(Some(&anew)).unwrap().0, [News::Tags(42)]);
}
