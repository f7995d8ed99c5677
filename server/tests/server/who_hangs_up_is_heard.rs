//! Whoever asks and hangs up before the answer: nothing is done, or it is done to its end. And whoever
//! asks a server that is told to end.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::Duration;

use ampoule_protocol::device::Outcome;
use ampoule_protocol::digest::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::common::World;
use crate::common::enrol::{ENROLL, anonymous, newborn, request, token};

use crate::common::client::Client;
use crate::common::people::{Api, first, hire, with_door};
use crate::common::until;
use crate::operators_act::audit_of;
use crate::rollout_reaches_devices::{InFleet, ctl, with_director};

/// Requests that are broken off, each a little later than the one before: before anything is read,
/// while the disk is waited for, and behind it.
const CUTS: u64 = 16;
const APART: Duration = Duration::from_micros(150);

/// Asks, and hangs up before the answer. Something was answered on the connection before: who hangs
/// up with bytes unread resets it, and what was sent last is thrown away unseen.
fn ask_and_go(client: &Client, path: &str, headers: &[(&str, &str)], body: &[u8], cut: u64) {
    let mut connection = client.connect().unwrap();
    connection.ask("GET", "/", &[], b"").unwrap();
    connection.send("POST", path, headers, body).unwrap();
    sleep(APART * u32::try_from(cut).unwrap());
}

/// A network is cut at any moment, and a device that hears nothing says it again. Catches: a receipt
/// that the store has and that no rollout hears of any more, so that the device counts as silent.
#[test]
fn a_receipt_counts_though_its_device_is_gone() {
    let mut world = with_director();
    let digest = world.tree.publish_release("2.4.1", 17);
    let names: Vec<_> = (0..CUTS).map(|cut| format!("pump-{cut}")).collect();
    let mut devices: Vec<_> = names
        .iter()
        .map(|name| InFleet::new(&world, name))
        .collect();
    let server = world.start();
    for device in &devices {
        device.report(&server);
        let id = device.device.id.as_str();
        ctl(&world, &["device", "tag", id, "region=EU"]).unwrap();
    }
    let plan = format!(
        "name = \"r1\"\nrelease = \"infusion-pump/release-2.4.1.toml\"\nsha256 = \"{digest}\"\n\
         filter = \"hardware = pump-mk3\"\nauthor = \"alice\"\n[[step]]\nshare = \"100%\"\n"
    );
    let file = world.path("plan.toml");
    std::fs::write(&file, plan).unwrap();
    ctl(&world, &["rollout", "create", file.to_str().unwrap()]).unwrap();
    for device in &mut devices {
        until("each is offered the release", || {
            device.poll(&server).is_some()
        });
    }
    for (cut, device) in (0..).zip(&devices) {
        let receipt = device
            .device
            .receipt_of(1, Some("2.4.1"), Outcome::Committed);
        let client = device.device.client(&server);
        ask_and_go(&client, "/device/v1/receipts", &[], &receipt, cut);
    }
    for device in &devices {
        device.ends(&server, Outcome::Committed);
    }
    until("all of them committed", || {
        let shown = ctl(&world, &["rollout", "show", "r1"]).unwrap();
        shown["tally"]["committed"] == CUTS
    });
}

/// Catches: an act that is done and stands in the audit log as intended for ever.
#[test]
fn an_act_is_written_down_though_its_operator_is_gone() {
    let mut world = with_door(with_director());
    let digest = world.tree.publish_release("2.4.1", 17);
    let server = world.start();
    let api = Api::new(&world, &server);
    let mut root = first(&world, &api);
    let alice = hire(&api, &mut root, "alice", &["fleet-operator"]);
    let door = Client::anonymous(server.operators.unwrap(), &world.path("ca.pem"));
    let bearer = format!("Bearer {}", alice.session);
    for cut in 0..CUTS {
        let plan = format!(
            "name = \"r{cut}\"\nrelease = \"infusion-pump/release-2.4.1.toml\"\n\
             sha256 = \"{digest}\"\nfilter = \"hardware = pump-mk3\"\nauthor = \"alice\"\n\
             approvals = 1\n[[step]]\nshare = \"100%\"\n"
        );
        let body = json!({ "plan": plan }).to_string();
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        ask_and_go(&door, "/api/v1/rollouts", &headers, body.as_bytes(), cut);
    }
    until("what has begun has ended", || {
        let told = |outcome: &str| {
            let log = audit_of(&world);
            let of = log
                .iter()
                .filter(|entry| entry["act"] == "rollout-create" && entry["outcome"] == outcome);
            of.count()
        };
        let begun = told("intended");
        begun > 0 && begun == told("done")
    });
}

/// The devices that the audit log says were enrolled.
fn enrolled(log: &[Value], outcome: &str) -> BTreeSet<String> {
    let of = log
        .iter()
        .filter(|entry| entry["act"] == "enroll" && entry["outcome"] == outcome);
    let about = of.map(|entry| entry["about"].as_str().unwrap());
    about
        .map(|about| about.replacen("device:", "", 1))
        .collect()
}

/// The devices that have a place in the fleet.
fn listed(world: &World) -> BTreeSet<String> {
    let rows = ctl(world, &["device", "list"]).unwrap();
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| row["device"].as_str().unwrap().to_owned())
        .collect()
}

/// Catches: a certificate that was issued and written down, for a device that got no place.
#[test]
fn a_device_is_enrolled_though_it_is_gone() {
    let mut world = World::new();
    world.director = "[est]\nlisten = \"127.0.0.1:0\"\n".into();
    let server = world.start();
    let client = anonymous(&world, &server);
    for cut in 0..CUTS {
        let name = format!("pump-{cut}");
        let der = request(&newborn(&world, &name), &name);
        let secret = format!("{name}:{}", token(&world, &name, &[]));
        let secret = format!("Basic {}", STANDARD.encode(secret));
        let headers = [
            ("content-type", "application/pkcs10"),
            ("authorization", secret.as_str()),
        ];
        let body = STANDARD.encode(der);
        ask_and_go(&client, ENROLL, &headers, body.as_bytes(), cut);
    }
    until("whoever is enrolled has a place", || {
        let said = enrolled(&audit_of(&world), "done");
        !said.is_empty() && said == listed(&world)
    });
}

/// A person at the server's own socket, while it is told to end: what was done is told, and what was not
/// told was not done. Catches: an act that is begun and neither ended nor answered.
#[test]
fn who_asks_at_the_end_is_answered() {
    let world = World::new();
    let mut answered = BTreeSet::new();
    for cut in 0..CUTS {
        let name = format!("pump-{cut}");
        let server = world.start();
        let mut socket = UnixStream::connect(world.path("admin.sock")).unwrap();
        let not_after = 4_000_000_000_i64;
        let ask = json!({
            "act": "enroll", "device": name, "certificate": Digest::of(name.as_bytes()), "not_after": not_after,
        });
        writeln!(socket, "{ask}").unwrap();
        sleep(APART * u32::try_from(cut).unwrap());
        server.signal("TERM");
        let mut told = String::new();
        // A server that did not read the question resets the connection.
        let _ = socket.read_to_string(&mut told);
        if told.contains(&name) {
            answered.insert(name);
        }
        assert_eq!(server.ended().0, Some(0));
    }
    let _server = world.start();
    assert_eq!(answered, listed(&world));
    let log = audit_of(&world);
    assert_eq!(enrolled(&log, "intended"), answered);
    assert_eq!(enrolled(&log, "done"), answered);
    assert!(!answered.is_empty());
}
