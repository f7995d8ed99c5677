//! Devices that ask in the words of FleetLock before they leave service, of a real server over mTLS.

use std::path::PathBuf;

use serde_json::Value;

use crate::common::client::{Client, Reply};
use crate::common::people::with_secrets;
use crate::common::{Server, World, run, text};
use crate::postgres::Cluster;
use crate::rollout_reaches_devices::{InFleet, ctl, with_director, write_plan};
use crate::servers_share_a_fleet::config;

const MEANT: [(&str, &str); 1] = [("fleet-lock-protocol", "true")];

fn ask(client: &Client, what: &str, group: &str) -> Reply {
    let body = format!(
        "{{\"client_params\":{{\"id\":\"c988d2509fdf5cdcbed39037c56406fb\",\"group\":\"{group}\"}}}}"
    );
    let path = format!("/fleetlock/v1/{what}");
    client.ask("POST", &path, &MEANT, body.as_bytes())
}

pub fn locks(client: &Client) -> u16 {
    ask(client, "pre-reboot", "default").status
}

fn unlocks(client: &Client) -> u16 {
    ask(client, "steady-state", "default").status
}

/// The kind of a refusal, after checking that it says more than that.
fn kind(reply: &Reply) -> String {
    let words = reply.json();
    assert!(!words["value"].as_str().unwrap().is_empty());
    words["kind"].as_str().unwrap().into()
}

/// Three pumps of one ward, of which two may be away.
fn ward(world: &World) -> Vec<InFleet> {
    let names = ["pump-1", "pump-2", "pump-3"];
    names.map(|name| InFleet::new(world, name)).into()
}

fn tag(devices: &[InFleet], tag: impl Fn(&str)) {
    for device in devices {
        tag(device.device.id.as_str());
    }
}

/// Goal: what a device was told it holds, it holds when the server was killed, and its ward is counted
/// with offers. Catches: a lock that is answered before the disk has it, one that stays after it was
/// given back, a rollout that does not see it, an act that the audit log does not tell.
#[test]
fn a_permit_outlives_the_server_and_counts_beside_offers() {
    let mut world = with_director();
    let digest = world.tree.publish_release("2.4.1", 17);
    let mut devices = ward(&world);
    let server = world.start();
    for device in &devices {
        device.report(&server);
    }
    tag(&devices, |id| {
        ctl(&world, &["device", "tag", id, "region=EU", "ward=w7"]).unwrap();
    });
    let clients: Vec<Client> = devices
        .iter()
        .map(|one| one.device.client(&server))
        .collect();
    assert_eq!(unlocks(&clients[0]), 200, "it holds none, and that is well");
    assert_eq!((locks(&clients[0]), locks(&clients[1])), (200, 200));
    assert_eq!(locks(&clients[1]), 200, "asked again");
    let full = ask(&clients[2], "pre-reboot", "w7");
    assert_eq!(
        (full.status, kind(&full).as_str()),
        (409, "failed_lock_semaphore_full")
    );
    let held = ctl(&world, &["rollout", "permits"]).unwrap();
    assert_eq!(held.as_array().unwrap().len(), 2, "{held}");
    assert_eq!(held[0]["device"], "pump-1");
    assert_eq!(held[0]["counted"]["ward"], "w7");
    server.kill();

    let server = world.start();
    let clients: Vec<Client> = devices
        .iter()
        .map(|one| one.device.client(&server))
        .collect();
    assert_eq!(locks(&clients[2]), 409, "after the server's death too");
    let plan = write_plan(&world, &digest, "");
    // For the third alone, or another would come first by chance.
    let text = std::fs::read_to_string(&plan).unwrap();
    let text = text.replace("hardware = pump-mk3", "device = pump-3");
    std::fs::write(&plan, text).unwrap();
    ctl(&world, &["rollout", "create", &plan]).unwrap();
    let offered = |devices: &mut [InFleet]| -> Vec<bool> {
        ctl(&world, &["rollout", "list"]).unwrap();
        let polls = devices
            .iter_mut()
            .map(|device| device.poll(&server).is_some());
        polls.collect()
    };
    assert!(!offered(&mut devices)[2], "two of its ward are away");
    assert_eq!((unlocks(&clients[0]), unlocks(&clients[1])), (200, 200));
    assert_eq!(unlocks(&clients[1]), 200, "asked again");
    assert_eq!(locks(&clients[2]), 200);
    server.kill();
    let server = world.start();
    let held = ctl(&world, &["rollout", "permits"]).unwrap();
    let holds = |id: &str| {
        let holders = held.as_array().unwrap();
        holders
            .iter()
            .any(|row| row["device"] == id && row.get("lock").is_some())
    };
    assert_eq!(
        [holds("pump-1"), holds("pump-2"), holds("pump-3")],
        [false, false, true]
    );
    server.stop();
    let acts = acts_of(&world);
    let count = |act: &str| acts.iter().filter(|(found, _)| found == act).count();
    assert_eq!((count("lock"), count("lock-end")), (4, 2), "{acts:?}");
    assert!(acts.contains(&("lock-end".into(), "device:pump-2".into())));
}

/// Acts and who did them, of the audit log on disk.
fn acts_of(world: &World) -> Vec<(String, String)> {
    let mut acts = Vec::new();
    // Fewer than fill a tile: the newest of the partial ones has them all.
    let partial = world.path("state/audit/tile/entries/000.p");
    let width =
        |file: &PathBuf| -> usize { file.file_name().unwrap().to_str().unwrap().parse().unwrap() };
    let files = std::fs::read_dir(partial).unwrap();
    let newest = files.map(|file| file.unwrap().path()).max_by_key(width);
    {
        let bytes = std::fs::read(newest.unwrap()).unwrap();
        let (entries, _) = ampoule_server::audit::tiles::entries(&bytes);
        for entry in entries {
            let entry: Value = serde_json::from_slice(entry).unwrap();
            let word = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            acts.push((word("act"), word("by")));
        }
    }
    acts
}

/// Goal: nobody is taken for another, and every refusal is one that a client of the field can read.
/// Catches: a request that was led here by mistake and taken, groups that nobody counts, bodies
/// without a bound.
#[test]
fn what_is_no_fleet_lock_is_refused_in_its_words() {
    let mut world = with_director();
    world.limits = format!("{}\nbody_len_max = 2048", world.limits);
    let devices = ward(&world);
    let server = world.start();
    tag(&devices, |id| {
        ctl(&world, &["device", "tag", id, "ward=w7"]).unwrap();
    });
    let client = devices[0].device.client(&server);
    let path = "/fleetlock/v1/pre-reboot";
    let body = b"{\"client_params\":{\"id\":\"a\",\"group\":\"default\"}}";
    let unmeant = client.ask("POST", path, &[], body);
    assert_eq!(
        (unmeant.status, kind(&unmeant).as_str()),
        (400, "missing_header")
    );
    let long_group = "g".repeat(129);
    let client_params = |id: &str, group: &str| {
        format!("{{\"client_params\":{{\"id\":\"{id}\",\"group\":\"{group}\"}}}}")
    };
    for bad in [
        String::new(),
        "{}".into(),
        "{\"client_params\":{\"id\":\"a\"}}".into(),
        client_params("", "default"),
        client_params("a\\u0000", "default"),
        client_params("a", ""),
        client_params("a", "w7/../x"),
        client_params("a", &long_group),
        "{\"client_params\":{\"id\":\"a\",\"id\":\"b\",\"group\":\"default\"}}".into(),
    ] {
        let reply = client.ask("POST", path, &MEANT, bad.as_bytes());
        assert_eq!(
            (reply.status, kind(&reply).as_str()),
            (400, "bad_request"),
            "{bad}"
        );
    }
    let long = client.ask("POST", path, &MEANT, &[b' '; 4096]);
    assert_eq!(
        (long.status, long.problem().as_str()),
        (413, "body-too-large")
    );
    let other = ask(&client, "pre-reboot", "w8");
    assert_eq!(
        (other.status, kind(&other).as_str()),
        (403, "unknown_group")
    );
    assert!(other.json()["value"].as_str().unwrap().contains("w7"));
    assert_eq!(client.get(path).problem(), "method-not-allowed");
    assert_eq!(
        client.post("/fleetlock/v1/lock", b"").problem(),
        "not-found"
    );
    let held = ctl(&world, &["rollout", "permits"]).unwrap();
    assert_eq!(held, serde_json::json!([]), "nothing of that took a permit");
    let revoke = ["device", "revoke", "pump-1"];
    ctl(&world, &revoke).unwrap();
    assert_eq!(locks(&devices[0].device.client(&server)), 403);
    server.stop();
}

/// Goal: servers that share a fleet count as one, also when the one that answered was killed.
/// Catches: a lock that only the server knows that gave it.
#[test]
fn every_server_of_a_fleet_counts_the_same_permits() {
    let mut world = with_secrets(with_director());
    let database = Cluster::shared().database_text();
    world.store = format!("engine = \"postgres\"\ndatabase = \"{database}\"");
    let devices = ward(&world);
    let configs = ["a", "b"].map(|name| config(&world, name));
    let [a, b] = configs.each_ref().map(|config| Server::start(config));
    tag(&devices, |id| {
        let config = text(&configs[1]);
        let tagged = run(&["device", "tag", id, "ward=w7", "--config", config]);
        assert!(tagged.status.success());
    });
    let at = |server: &Server, device: usize| devices[device].device.client(server);
    assert_eq!((locks(&at(&a, 0)), locks(&at(&b, 1))), (200, 200));
    assert_eq!((locks(&at(&a, 2)), locks(&at(&b, 2))), (409, 409));
    a.kill();
    assert_eq!(locks(&at(&b, 2)), 409);
    assert_eq!(unlocks(&at(&b, 0)), 200);
    let a = Server::start(&configs[0]);
    assert_eq!(locks(&at(&a, 2)), 200);
    assert_eq!(locks(&at(&b, 0)), 409);
    drop((a, b));
}
