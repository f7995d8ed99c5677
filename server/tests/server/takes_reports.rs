//! Inventories and receipts: what is taken, what is refused, and what is known afterwards.

use ampoule_protocol::digest::Digest;

use crate::common::client::Client;
use crate::common::{World, run, said, text};

const INVENTORY: &str = "/device/v1/inventory";
const RECEIPTS: &str = "/device/v1/receipts";

#[test]
fn reports_are_taken_and_shown() {
    let world = World::new();
    for kind in ["ed25519", "p256"] {
        let device = world.enroll_with(&format!("pump-{kind}"), &["--key", kind]);
        let server = world.start();
        let client = device.client(&server);

        let checked_in = client.post(INVENTORY, &device.inventory(7));
        assert_eq!(checked_in.status, 200, "{checked_in:?}");
        assert_eq!(checked_in.json()["seq"], 7);
        assert_eq!(checked_in.json()["poll_interval_secs"], 300);
        let receipt = device.receipt(1);
        for _ in 0..3 {
            // Sent again, it is acknowledged again and kept once.
            let answer = client.post(RECEIPTS, &receipt);
            assert_eq!(
                answer.json()["acknowledged"][0],
                Digest::of(&receipt).to_string()
            );
        }
        let view = client.get("/device/v1/self").json();
        assert_eq!(view["inventory"]["seq"], 7);
        assert_eq!(view["receipts"].as_array().unwrap().len(), 1);
        server.stop();

        // After a restart too, by the store itself.
        let config = world.config();
        let output = run(&[
            "device",
            "show",
            device.id.as_str(),
            "--config",
            text(&config),
            "--json",
        ]);
        assert!(output.status.success(), "{}", said(&output));
        let details: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(details["view"]["receipts"][0]["seq"], 1);
        let events: Vec<_> = details["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| &e["what"])
            .collect();
        assert_eq!(events, ["enrolled", "inventory-changed", "receipt"]);
    }
}

/// What was sent before and comes again has a number below the newest: taken, since a device may
/// have lost its memory, and noted for whoever looks. Catches: a replay that leaves no trace.
#[test]
fn a_replayed_inventory_is_seen_by_its_number() {
    let world = World::new();
    let device = world.enroll("pump-1");
    let server = world.start();
    let client = device.client(&server);
    let replayed = device.inventory(7);
    for report in [&replayed, &device.inventory(8), &replayed] {
        assert_eq!(client.post(INVENTORY, report).status, 200);
    }
    server.stop();
    let config = world.config();
    let shown = run(&[
        "device",
        "show",
        "pump-1",
        "--config",
        text(&config),
        "--json",
    ]);
    let details: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    let events = details["events"].as_array().unwrap();
    let events: Vec<_> = events.iter().map(|event| &event["what"]).collect();
    assert_eq!(events, ["enrolled", "inventory-changed", "sequence-fell"]);
}

#[test]
fn bad_reports_are_refused_with_the_place() {
    let mut world = World::new();
    world.limits = "body_len_max = 2048".into();
    let device = world.enroll("pump-1");
    let other = world.enroll("pump-2");
    let server = world.start();
    let client = device.client(&server);

    let broken = client.post(INVENTORY, b"{\"device\": \"pump-1\",\n  oops}");
    assert_eq!(
        (broken.status, broken.problem().as_str()),
        (400, "report-malformed")
    );
    let detail = broken.json()["detail"].as_str().unwrap().to_string();
    assert!(detail.contains("line 2"), "{detail}");
    let twice = client.post(INVENTORY, b"{\"device\":\"pump-1\",\"device\":\"pump-2\"}");
    assert_eq!(twice.status, 400, "JSON that reads two ways is refused");
    assert_eq!(client.post(INVENTORY, b"{}").status, 400);

    let long = client.post(INVENTORY, &[b' '; 4096]);
    assert_eq!(
        (long.status, long.problem().as_str()),
        (413, "body-too-large")
    );
    let chunked = [("transfer-encoding", "chunked")];
    let long = client.ask("POST", INVENTORY, &chunked, &chunks());
    assert_eq!(
        long.status, 413,
        "a body of unknown length is cut at its bound too"
    );

    let theirs = client.post(INVENTORY, &other.inventory(1));
    assert_eq!(
        (theirs.status, theirs.problem().as_str()),
        (403, "other-device")
    );
    let theirs = client.post(RECEIPTS, &other.receipt(1));
    assert_eq!(
        (theirs.status, theirs.problem().as_str()),
        (403, "report-unsigned")
    );
    let mut bent = device.receipt(1);
    let at = bent.windows(5).position(|w| w == b"seq\":").unwrap() + 5;
    bent[at] = b'9';
    assert_eq!(client.post(RECEIPTS, &bent).problem(), "report-unsigned");
    assert_eq!(client.get(RECEIPTS).problem(), "method-not-allowed");
    let view = client.get("/device/v1/self").json();
    assert_eq!(
        view["receipts"].as_array().unwrap().len(),
        0,
        "nothing of it was kept"
    );
    assert!(view.get("inventory").is_none());
    server.stop();
}

fn chunks() -> Vec<u8> {
    let mut body = Vec::new();
    for _ in 0..8 {
        body.extend_from_slice(b"400\r\n");
        body.extend_from_slice(&[b' '; 0x400]);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    body
}

#[test]
fn too_many_requests_are_told_when_to_come_again() {
    let mut world = World::new();
    world.limits = "requests_burst = 3\nrequests_per_minute = 6".into();
    let (hasty, calm) = (world.enroll("pump-1"), world.enroll("pump-2"));
    let server = world.start();
    let client = hasty.client(&server);
    for _ in 0..3 {
        assert_eq!(client.get("/device/v1/self").status, 200);
    }
    let refused = client.get("/device/v1/self");
    assert_eq!(
        (refused.status, refused.problem().as_str()),
        (429, "too-many-requests")
    );
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=10).contains(&wait), "{wait}");
    assert_eq!(
        calm.client(&server).get("/device/v1/self").status,
        200,
        "others are not held up"
    );
    server.stop();
}

#[test]
fn strangers_are_refused() {
    let world = World::new();
    let device = world.enroll("pump-1");
    let server = world.start();
    let nobody = Client::anonymous(server.address, &world.path("ca.pem"));
    let mut connection = nobody.connect().unwrap();
    let refused = connection.ask("GET", "/device/v1/self", &[], b"");
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("CertificateRequired"),
        "the alert was not sent: {refused}"
    );

    // The same name from another authority.
    let elsewhere = World::new();
    let foreign = elsewhere.enroll("pump-1");
    std::fs::copy(world.path("ca.pem"), foreign.dir.join("ca.pem")).unwrap();
    let refused =
        foreign
            .client(&server)
            .connect()
            .unwrap()
            .ask("GET", "/device/v1/self", &[], b"");
    assert!(refused.is_err(), "{refused:?}");

    // From our authority, but enrolled somewhere else: another store.
    let sibling = World::new();
    for name in ["ca.pem", "ca.key"] {
        std::fs::copy(world.path(name), sibling.path(name)).unwrap();
    }
    let unknown = sibling.enroll("pump-9");
    let refused = unknown.client(&server).get("/device/v1/self");
    assert_eq!(
        (refused.status, refused.problem().as_str()),
        (403, "unknown-device")
    );
    let clone = sibling.enroll("pump-1");
    let refused = clone.client(&server).get("/device/v1/self");
    assert_eq!(refused.problem(), "certificate-not-enrolled");
    assert_eq!(device.client(&server).get("/device/v1/self").status, 200);
    server.stop();
}
