//! What was acknowledged is in the database: after kills of the server, and of the database.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ampoule_protocol::digest::Digest;
use ampoule_server::store::postgres::{Database, PostgresStore};
use ampoule_server::store::{Capacity, Store};

use crate::common::{Device, Server, World};
use crate::postgres::{Cluster, wait_until};

const RECEIPTS: &str = "/device/v1/receipts";
const KILLS: u64 = 60;
const CRASHES: u64 = 12;

fn world(text: &str) -> World {
    let mut world = World::new();
    world.limits = "requests_burst = 1000000\nrequests_per_minute = 1000000".into();
    world.store = format!("engine = \"postgres\"\ndatabase = \"{text}\"\nreceipts_max = 65536");
    world
}

/// Sends receipts as fast as they are acknowledged, until the connection ends.
fn send(
    device: &Device,
    server: &Server,
    seqs: std::ops::Range<u64>,
    acknowledged: &Arc<Mutex<Vec<Digest>>>,
) -> std::thread::JoinHandle<()> {
    let (client, acknowledged) = (device.client(server), acknowledged.clone());
    let receipts: Vec<_> = seqs.map(|seq| device.receipt(seq)).collect();
    std::thread::spawn(move || {
        let Ok(mut connection) = client.connect() else {
            return;
        };
        for receipt in &receipts {
            match connection.ask("POST", RECEIPTS, &[], receipt) {
                Ok(answer) if answer.status == 200 => {
                    acknowledged.lock().unwrap().push(Digest::of(receipt));
                }
                // The database is away for longer than the server waits.
                Ok(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
                Err(_) => return,
            }
        }
    })
}

fn lost(text: &str, acknowledged: &[Digest]) -> usize {
    let database = Database {
        config: text.parse().unwrap(),
        tls: None,
    };
    let capacity = Capacity {
        receipts_max: 1,
        events_max: 1,
    };
    let store = PostgresStore::open(database, capacity).unwrap();
    let row = store.devices().unwrap().remove(0);
    let kept: Vec<_> = store.receipts(&row).unwrap();
    let digests: BTreeSet<_> = kept.iter().map(|receipt| receipt.digest).collect();
    assert_eq!(digests.len(), kept.len(), "none is there twice");
    assert_eq!(
        row.receipts,
        kept.len() as u64,
        "the row counts what is there"
    );
    acknowledged
        .iter()
        .filter(|digest| !digests.contains(*digest))
        .count()
}

/// Goal: no acknowledged receipt is lost by SIGKILL of the server. Catches: an answer before the
/// commit.
#[test]
fn no_acknowledged_receipt_is_lost_when_the_server_is_killed() {
    let text = Cluster::shared().database_text();
    let world = world(&text);
    let device = world.enroll("pump-1");
    let config = world.config();
    let acknowledged: Arc<Mutex<Vec<Digest>>> = Arc::default();
    let count = || acknowledged.lock().unwrap().len();
    for round in 0..KILLS {
        let server = Server::start(&config);
        let before = count();
        let sender = send(&device, &server, round * 64..round * 64 + 64, &acknowledged);
        // However slow the disk is: some are acknowledged, and the kill meets one on its way.
        let wanted = before + 1 + usize::try_from(round % 5).unwrap();
        wait_until("some receipts are acknowledged", || count() >= wanted);
        std::thread::sleep(Duration::from_micros(37 * (round % 40)));
        server.kill();
        sender.join().unwrap();
    }
    let acknowledged = acknowledged.lock().unwrap();
    assert!(acknowledged.len() > 60, "{} were sent", acknowledged.len());
    let lost = lost(&text, &acknowledged);
    println!(
        "| postgres | {KILLS} kills of the server | {} acknowledged | {lost} lost |",
        acknowledged.len()
    );
    assert_eq!(lost, 0);
}

/// Goal: the server outlives a database that is ended as by a power cut, again and again, takes
/// receipts again by itself, and has lost and doubled none. Catches: a commit of unknown end taken
/// for done, or applied twice; a writer that ends with its connection.
#[test]
fn no_acknowledged_receipt_is_lost_when_the_database_crashes() {
    let cluster = Cluster::new();
    let text = cluster.database_text();
    let world = world(&text);
    let device = world.enroll("pump-1");
    let server = world.start();
    let acknowledged: Arc<Mutex<Vec<Digest>>> = Arc::default();
    let count = || acknowledged.lock().unwrap().len();
    let mut next = 0;
    for round in 0..CRASHES {
        let before = count();
        let sender = send(&device, &server, next..next + 2000, &acknowledged);
        next += 2000;
        let wanted = before + 5 + usize::try_from(round * 7).unwrap();
        wait_until("a receipt is taken again", || count() >= wanted);
        cluster.stop_immediately();
        cluster.start();
        let then = count();
        wait_until("the server takes receipts again", || count() > then + 3);
        // The rest of this sender's receipts would only take time.
        drop(sender);
    }
    server.kill();
    let acknowledged = acknowledged.lock().unwrap().clone();
    let lost = lost(&text, &acknowledged);
    println!(
        "| postgres | {CRASHES} crashes of the database | {} acknowledged | {lost} lost |",
        acknowledged.len()
    );
    assert_eq!(lost, 0);
}
