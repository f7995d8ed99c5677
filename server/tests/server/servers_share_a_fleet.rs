//! Three servers, one database, one tree: devices ask whichever a balancer would give them.

use std::path::PathBuf;

use ampoule_protocol::device::Outcome;
use ampoule_server::audit::note::Verifier;
use ampoule_server::audit::tiles::{self, Tiles};
use ampoule_server::audit::verify::{Against, verify};
use ampoule_server::store::postgres::{Database, PostgresStore};
use ampoule_server::store::{Capacity, Store as _};
use serde_json::Value;

use crate::common::client::Client;
use crate::common::people::with_secrets;
use crate::common::{Device, Server, World, run, text, until};
use crate::postgres::{Cluster, Raw};
use crate::rollout_reaches_devices::{InFleet, with_director, write_plan};

const DEVICES: usize = 6;
/// In `with_director`: at most so many devices of a ward at once.
const CAP: usize = 2;

/// The configuration of one of the servers: a folder and a socket of its own, the rest is shared.
pub fn config(world: &World, name: &str) -> PathBuf {
    let shared = std::fs::read_to_string(world.config()).unwrap();
    let own = shared
        .replace("path = \"state\"", &format!("path = \"state-{name}\""))
        .replace("admin.sock", &format!("{name}.sock"));
    let path = world.path(&format!("{name}.toml"));
    std::fs::write(&path, own).unwrap();
    path
}

fn ctl(world: &World, server: &str, args: &[&str]) -> Value {
    let config = world.path(&format!("{server}.toml"));
    let mut all = args.to_vec();
    all.extend(["--config", text(&config), "--json"]);
    let output = run(&all);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Goal: a rollout goes on when one of its servers is killed, with no device offered it twice, no
/// more devices of a ward at once than the cap, no receipt lost, and no version that falls for a
/// device that asks one server and then another (its own trust rules would refuse that here).
/// Catches: two servers that decide at once, an offer served before the others know of it, a
/// timestamp that each signs for itself, receipts that only the server that took them knows.
#[test]
fn a_rollout_outlives_one_of_three_servers() {
    let mut world = with_secrets(with_director());
    let database = Cluster::shared().database_text();
    world.store = format!("engine = \"postgres\"\ndatabase = \"{database}\"");
    let digest = world.tree.publish_release("2.4.1", 17);
    let names: Vec<String> = (0..DEVICES)
        .map(|number| format!("pump-{number}"))
        .collect();
    let mut devices: Vec<_> = names
        .iter()
        .map(|name| InFleet::new(&world, name))
        .collect();
    let configs = ["a", "b", "c"].map(|name| config(&world, name));
    let mut servers: Vec<Server> = configs.iter().map(|config| Server::start(config)).collect();
    for (number, device) in devices.iter_mut().enumerate() {
        let server = &servers[number % 3];
        assert!(device.poll(server).is_none());
        device.report(server);
        let id = device.device.id.to_string();
        ctl(&world, "c", &["device", "tag", &id, "region=EU", "ward=w7"]);
    }
    let plan = write_plan(&world, &digest, "");
    ctl(&world, "b", &["rollout", "create", &plan]);

    let mut committed = [false; DEVICES];
    let (mut killed, mut asked) = (false, 0);
    // Each round waits for the servers' hold, so one limit for all rounds would be too short.
    for _ in 0..10_000 {
        let mut holding = 0;
        for (number, device) in devices.iter_mut().enumerate() {
            asked += 1;
            let offered = device.poll(&servers[asked % servers.len()]).is_some();
            if offered && !committed[number] {
                holding += 1;
            }
            assert!(holding <= CAP, "{holding} devices of a ward hold a permit");
        }
        // One of those that hold a permit answers, to another server than it asked.
        let next = (0..DEVICES).find(|number| {
            asked += 1;
            !committed[*number]
                && devices[*number]
                    .poll(&servers[asked % servers.len()])
                    .is_some()
        });
        if let Some(number) = next {
            asked += 1;
            devices[number].ends(&servers[asked % servers.len()], Outcome::Committed);
            committed[number] = true;
        }
        if !killed && committed.iter().filter(|done| **done).count() == 2 {
            killed = true;
            servers.remove(0).kill();
            // And what is newest changes meanwhile.
            world.tree.publish_release("2.4.2", 18);
        }
        if committed.iter().all(|done| *done) {
            break;
        }
    }
    assert!(
        killed && committed.iter().all(|done| *done),
        "{committed:?}"
    );
    servers.push(Server::start(&configs[0]));
    for server in ["a", "b", "c"] {
        until("the rollout is done on every server", || {
            let shown = ctl(&world, server, &["rollout", "show", "r1"]);
            shown["tally"]["committed"] == DEVICES
        });
        let shown = ctl(&world, server, &["rollout", "show", "r1"]);
        assert_eq!(shown["tally"]["offered"], DEVICES, "{shown}");
        assert_eq!(shown["tally"]["failures"], 0, "{shown}");
    }
    for device in &mut devices {
        for server in &servers {
            let _ = device.poll(server);
        }
    }
    drop(servers);
    let database = Database {
        config: database.parse().unwrap(),
        tls: None,
    };
    let capacity = Capacity {
        receipts_max: 1,
        events_max: 1,
    };
    let store = PostgresStore::open(database, capacity).unwrap();
    is_one_audit_log(&world, &store);
    for row in store.devices().unwrap() {
        assert_eq!(store.receipts(&row).unwrap().len(), 1, "{}", row.device);
    }
    let rollout = ampoule_server::rollout::RolloutId::parse("r1").unwrap();
    for (device, bytes) in store.deployments(&rollout).unwrap() {
        let row: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(
            row["attempt"], 1,
            "device {device} was offered it once: {row}"
        );
    }
}

/// What three servers wrote, with one of them killed, is one log: it verifies as a whole, by the key
/// that each of them tells, and has each act of each server once.
fn is_one_audit_log(world: &World, store: &PostgresStore) {
    let keys = ["a", "b", "c"].map(|name| {
        let path = world.path(&format!("state-{name}/audit/key"));
        std::fs::read_to_string(path).unwrap()
    });
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    let files = store.audit_files().unwrap();
    let log = Verifier::parse(&keys[0]).unwrap();
    let verified = verify(&*files, &log, Against::default(), |_, _| {}).unwrap();
    let tiles = Tiles::new(&*files, verified.checkpoint.size);
    let mut told = Vec::new();
    for number in 0..verified.checkpoint.size.div_ceil(256) {
        let bundle = tiles.bundle(number).unwrap().unwrap();
        let (entries, _) = tiles::entries(&bundle);
        let each = entries.iter().map(|entry| serde_json::from_slice(entry));
        told.extend(each.map(Result::<Value, _>::unwrap));
    }
    let count = |act: &str, outcome: &str| {
        let is = |entry: &&Value| entry["act"] == act && entry["outcome"] == outcome;
        told.iter().filter(is).count()
    };
    assert_eq!(count("start", "done"), 4, "one server was started twice");
    assert_eq!(count("receipt", "done"), DEVICES);
    let offered = |entry: &&Value| entry["act"] == "offer" && entry["detail"]["taken"] == false;
    assert_eq!(told.iter().filter(offered).count(), DEVICES);
    assert_eq!(count("rollout-create", "done"), 1);
    assert_eq!(count("tag", "done"), DEVICES);
}

/// Goal: what is kept of the log outside the database convicts a database that was set back.
/// Catches: a server that goes on with an older history, which every witness would refuse later; a
/// server with another key that begins a second log.
#[test]
fn an_audit_log_that_was_set_back_is_not_gone_on_with() {
    let mut world = with_secrets(World::new());
    let database = Cluster::shared().database_text();
    world.store = format!("engine = \"postgres\"\ndatabase = \"{database}\"");
    let [a, b] = ["a", "b"].map(|name| config(&world, name));
    let server = Server::start(&a);
    let other = Server::start(&b);
    server.stop();
    other.stop();
    let raw = Raw::open(&database.parse().unwrap());
    raw.run("CREATE TABLE saved AS SELECT * FROM audit_file");
    let server = Server::start(&a);
    server.stop();
    raw.run("DELETE FROM audit_file; INSERT INTO audit_file SELECT * FROM saved");
    let refused = Server::try_start(&a).err().unwrap();
    assert!(refused.contains("it was cut short"), "{refused}");
    // The other one did not see what is gone; what it writes is a second history to the first.
    Server::start(&b).stop();
    let refused = Server::try_start(&a).err().unwrap();
    assert!(refused.contains("history was rewritten"), "{refused}");

    let text = std::fs::read_to_string(&b).unwrap();
    std::fs::write(&b, text + "[audit]\nkey = \"other.key\"\n").unwrap();
    let refused = Server::try_start(&b).err().unwrap();
    assert!(refused.contains("signed with another key"), "{refused}");
}

/// Two servers that share a database, and a device that they know.
fn two_servers() -> (World, Device, [Server; 2]) {
    let mut world = with_secrets(World::new());
    let database = Cluster::shared().database_text();
    world.store = format!("engine = \"postgres\"\ndatabase = \"{database}\"");
    let device = world.enroll("pump-1");
    let configs = ["a", "b"].map(|name| config(&world, name));
    let servers = configs.each_ref().map(|config| Server::start(config));
    (world, device, servers)
}

/// Goal: a session that one server began is resumed by another that has met the device before, and
/// not under other authorities; the fleet's ticket keys are not in the database in plain.
/// Catches: ticket keys of each server's own; a chain that is taken from a ticket without having
/// been seen.
#[test]
fn a_session_is_resumed_by_another_server() {
    let (_world, device, servers) = two_servers();
    let client = device.client(&servers[0]);
    let ask = |server: &Server| {
        let client = Client {
            address: server.address,
            ..client.clone()
        };
        let mut connection = client.connect().unwrap();
        let reply = connection.ask("GET", "/device/v1/self", &[], b"").unwrap();
        assert_eq!(reply.status, 200);
        connection.is_resumed()
    };
    assert!(!ask(&servers[0]), "the first is a full handshake");
    assert!(!ask(&servers[1]), "this server has not seen the chain yet");
    assert!(ask(&servers[0]), "with the ticket of the other");
    assert!(ask(&servers[1]), "and back");
    let [one, two] = servers;
    two.kill();
    assert!(ask(&one), "and when the other is gone");
}

/// Goal: a device that one server revokes is refused by another within moments. Catches: a table
/// in memory that only follows its own writes.
#[test]
fn a_revocation_reaches_every_server() {
    let (world, device, servers) = two_servers();
    for server in &servers {
        assert_eq!(device.client(server).get("/device/v1/self").status, 200);
    }
    ctl(&world, "a", &["device", "revoke", "pump-1"]);
    until("the other server refuses it", || {
        device.client(&servers[1]).get("/device/v1/self").status == 403
    });
    let late = world.enroll("pump-2");
    until("a device enrolled elsewhere is served", || {
        let both = servers.each_ref().map(|server| late.client(server));
        both.iter()
            .all(|client| client.get("/device/v1/self").status == 200)
    });
}
