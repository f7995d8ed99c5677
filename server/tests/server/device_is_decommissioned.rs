//! A decommissioned device: refused at once, its certificate on the list, its record kept, and its
//! name never enrolled again, by any way.
//!
//! Meant to catch: an enrolment that does not ask whether the device was decommissioned, by hand, for
//! a token, or by a birth certificate.

use crate::common::enrol::{
    ENROLL, Factory, anonymous, crl, keep, newborn, own, post, request, token,
};
use crate::common::{World, run, said, text};
use ampoule_server::config::Config;
use ampoule_server::store::open::Opened;
use ampoule_server::store::records::{Expected, Kind, RecordWrite};
use ampoule_server::store::{Store as _, Write};

const SELF: &str = "/device/v1/self";

#[test]
fn it_is_refused_kept_and_never_comes_back() {
    let mut world = World::new();
    let factory = Factory::new(&world);
    std::fs::write(world.path("authorised"), "pump-2\n").unwrap();
    world.director = "[est]\nlisten = \"127.0.0.1:0\"\nbirth_ca = \"birth.pem\"\n\
                      authorised = \"authorised\"\n"
        .into();
    let server = world.start();
    let device = newborn(&world, "pump-1");
    let first = token(&world, "pump-1", &[]);
    let client = anonymous(&world, &server);
    let der = request(&device, "pump-1");
    keep(
        &device,
        &post(&client, ENROLL, Some(("pump-1", &first)), &der),
    );
    let old = device.client(&server);
    assert_eq!(old.get(SELF).status, 200);
    assert_eq!(
        old.post("/device/v1/receipts", &device.receipt(1)).status,
        200
    );

    let config = world.config();
    let ask = |args: &[&str]| {
        let mut all = args.to_vec();
        all.extend(["--config", text(&config)]);
        run(&all)
    };
    let done = ask(&["device", "decommission", "pump-1"]);
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(old.get(SELF).problem(), "device-revoked");
    assert_eq!(crl(&world, &server).matches("Serial Number:").count(), 1);
    let shown = ask(&["device", "show", "pump-1", "--json"]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert!(
        shown.to_string().contains("\"receipt\""),
        "its record is kept: {shown}"
    );

    for again in [
        ask(&["enrolment", "token", "pump-1"]),
        ask(&["enroll", "pump-1", "--dir", text(&world.path("again"))]),
    ] {
        assert_eq!(again.status.code(), Some(1));
        assert!(
            said(&again).contains("was decommissioned"),
            "{}",
            said(&again)
        );
    }
    let born = factory.born(&world, "pump-2", "born");
    let by_birth = |folder: &str| {
        let device = factory.born(&world, "pump-2", folder);
        let der = request(&device, "pump-2");
        post(&own(&device, &server), ENROLL, None, &der)
    };
    let der = request(&born, "pump-2");
    assert_eq!(post(&own(&born, &server), ENROLL, None, &der).status, 200);
    let done = ask(&["device", "decommission", "pump-2"]);
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(by_birth("again-born").problem(), "device-decommissioned");
    let unknown = ask(&["device", "decommission", "pump-9"]);
    assert_eq!(unknown.status.code(), Some(1), "{}", said(&unknown));
    let late = world.enroll("pump-9");
    assert_eq!(
        late.client(&server).get(SELF).status,
        200,
        "nobody's name was burnt"
    );
    server.stop();

    let again = ask(&["enroll", "pump-1", "--dir", text(&world.path("later"))]);
    assert!(
        said(&again).contains("was decommissioned"),
        "{}",
        said(&again)
    );
    let done = ask(&["device", "decommission", "pump-9"]);
    assert!(
        done.status.success(),
        "with no server running: {}",
        said(&done)
    );
    let server = world.start();
    assert_eq!(late.client(&server).get(SELF).problem(), "device-revoked");
    let again = ask(&["enrolment", "token", "pump-9"]);
    assert!(
        said(&again).contains("was decommissioned"),
        "{}",
        said(&again)
    );
    server.stop();
}

/// Goal: the revocation list does not grow for ever, and names no certificate too short: an entry goes
/// two days after its certificate ended by itself, and from the store too.
/// Catches: an entry that goes while its certificate is good, or as soon as it ended; one that stays
/// for ever; a record that goes without having been left out of the list.
#[test]
fn entries_leave_the_list_after_their_certificates_ended() {
    let mut world = World::new();
    world.director = "[est]\nlisten = \"127.0.0.1:0\"\n".into();
    let server = world.start();
    let client = anonymous(&world, &server);
    let config = world.config();
    let names = ["good", "ended", "over"];
    for name in names {
        let device = newborn(&world, name);
        let secret = token(&world, name, &[]);
        let der = request(&device, name);
        keep(&device, &post(&client, ENROLL, Some((name, &secret)), &der));
        let done = ["device", "decommission", name, "--config", text(&config)];
        assert!(run(&done).status.success());
    }
    assert_eq!(crl(&world, &server).matches("Serial Number:").count(), 3);
    server.stop();

    // Time passes.
    let store = Config::load(&config).unwrap().store;
    let open = || Opened::open(&store, None).unwrap();
    let kind = Kind::parse("enrol-revoked").unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let opened = open();
    let mut serials = std::collections::BTreeMap::new();
    for record in opened.records(&kind, None, 10).unwrap() {
        let mut entry: serde_json::Value = serde_json::from_slice(&record.bytes).unwrap();
        let name = entry["device"].as_str().unwrap().to_owned();
        let day = 24 * 3600;
        entry["not_after"] = match &*name {
            "good" => now + day,
            "ended" => now - 2 * day + 3600,
            _ => now - 2 * day - 3600,
        }
        .into();
        let serial = record.key.as_str().trim_start_matches("00");
        serials.insert(name, serial.to_uppercase());
        let write = RecordWrite {
            kind: kind.clone(),
            key: record.key,
            expected: Expected::Version(record.version),
            bytes: Some(serde_json::to_vec(&entry).unwrap()),
        };
        opened.commit(&[Write::Records(vec![write])]).unwrap();
    }
    opened.close();
    drop(opened);

    let server = world.start();
    let list = crl(&world, &server).replace(':', "").to_uppercase();
    let named = names.map(|name| list.contains(&serials[name]));
    assert_eq!(named, [true, true, false], "{list}");
    server.stop();
    let opened = open();
    let left = opened.records(&kind, None, 10).unwrap();
    assert_eq!(left.len(), 2);
    opened.close();
}
