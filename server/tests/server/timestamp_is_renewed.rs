//! The online timestamp: renewed before it lapses, never falling, never vouching for what does
//! not verify.

use std::fs;

use ampoule_protocol::time::UtcTime;

use crate::common::client::Client;
use crate::common::{Server, World, until};

const TIMESTAMP: &str = "/tuf/image/metadata/timestamp.json";
const SHORT: &str = "expiry_secs = 4\nrefresh_before_secs = 3";

struct Seen {
    version: u64,
    expires: i64,
    snapshot: u64,
}

fn seen(client: &Client) -> Seen {
    let signed = &client.get(TIMESTAMP).json()["signed"];
    Seen {
        version: signed["version"].as_u64().unwrap(),
        expires: UtcTime::parse(signed["expires"].as_str().unwrap())
            .unwrap()
            .unix(),
        snapshot: signed["meta"]["snapshot.json"]["version"].as_u64().unwrap(),
    }
}

fn now() -> i64 {
    i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap()
}

#[test]
fn it_is_renewed_before_it_lapses_and_never_falls() {
    let mut world = World::new();
    world.timestamp = SHORT.into();
    let device = world.enroll("pump-1");
    let mut last = 0;
    for round in 0..3 {
        let server = world.start();
        let client = device.client(&server);
        let first = seen(&client);
        assert!(
            first.version >= last,
            "round {round}: {} after {last}",
            first.version
        );
        assert!(first.version > 1, "above the signer's own");
        last = first.version;
        until("two more were signed", || {
            let seen = seen(&client);
            assert!(seen.version >= last, "{} after {last}", seen.version);
            assert!(seen.expires > now(), "a lapsed timestamp was served");
            last = last.max(seen.version);
            seen.version >= first.version + 2
        });
        // A crash keeps what was served.
        if round == 1 {
            server.kill();
        } else {
            server.stop();
        }
    }
}

#[test]
fn a_new_snapshot_is_noticed_and_an_old_one_is_not_vouched_for() {
    let mut world = World::new();
    let device = world.enroll("pump-1");
    let server = world.start();
    let client = device.client(&server);
    assert_eq!(seen(&client).snapshot, 1);
    world.tree.publish_next();
    until("the new snapshot is named", || seen(&client).snapshot == 2);
    let version = seen(&client).version;

    // The thief of the timestamp key and of an old copy of the tree.
    world.tree.replay(1);
    until("it is noticed", || {
        server.said().contains("snapshot version 1 is older than 2")
    });
    let after = seen(&client);
    assert_eq!(
        (after.version, after.snapshot),
        (version, 2),
        "the old snapshot is not vouched for"
    );
    server.stop();

    // Not after a restart either.
    let server = world.start();
    assert_eq!(seen(&device.client(&server)).snapshot, 2);
    server.stop();
}

#[test]
fn a_tree_that_does_not_verify_is_not_vouched_for() {
    let mut world = World::new();
    let device = world.enroll("pump-1");
    let server = world.start();
    let client = device.client(&server);
    let good = seen(&client);

    world.tree.bent = true;
    world.tree.publish_next();
    until("it is noticed", || {
        server.said().contains("the timestamp stays")
    });
    let after = seen(&client);
    assert_eq!((after.version, after.snapshot), (good.version, 1));

    // Published again as it should be, it is taken at once.
    world.tree.bent = false;
    world.tree.publish_next();
    until("the good one is named", || seen(&client).snapshot == 3);
    server.stop();
}

#[test]
fn a_key_that_root_does_not_name_is_refused_at_start() {
    let world = World::new();
    let other = crate::common::tree::key(9).to_pkcs8_pem();
    fs::write(world.path("timestamp.key"), other.as_bytes()).unwrap();
    let Err(said) = Server::try_start(&world.config()) else {
        panic!("it started")
    };
    assert!(
        said.starts_with("error: the timestamp cannot be signed: "),
        "{said}"
    );
    assert!(said.contains("\nhint: "), "{said}");
}
