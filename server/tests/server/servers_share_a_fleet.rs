//! Three servers, one database, one tree: devices ask whichever a balancer would give them.

use std::path::PathBuf;

use ampoule_protocol::device::Outcome;
use ampoule_server::store::postgres::{Database, PostgresStore};
use ampoule_server::store::{Capacity, Store as _};
use serde_json::Value;

use crate::common::{Server, World, run, text, until};
use crate::postgres::Cluster;
use crate::rollout_reaches_devices::{InFleet, with_director, write_plan};

const DEVICES: usize = 6;
/// In `with_director`: at most so many devices of a ward at once.
const CAP: usize = 2;

/// The configuration of one of the servers: a folder and a socket of its own, the rest is shared.
fn config(world: &World, name: &str) -> PathBuf {
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
    let mut world = with_director();
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

/// Goal: a device that one server revokes is refused by another within moments. Catches: a table
/// in memory that only follows its own writes.
#[test]
fn a_revocation_reaches_every_server() {
    let mut world = World::new();
    let database = Cluster::shared().database_text();
    world.store = format!("engine = \"postgres\"\ndatabase = \"{database}\"");
    let device = world.enroll("pump-1");
    let configs = ["a", "b"].map(|name| config(&world, name));
    let servers = configs.each_ref().map(|config| Server::start(config));
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
