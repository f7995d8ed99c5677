//! A decommissioned device: refused at once, its certificate on the list, its record kept, and its
//! name never enrolled again, by any way.
//!
//! Catches (planted in `admin/ending.rs` and `est/decide.rs`, and seen red): an enrolment that does
//! not ask whether the device was decommissioned, by hand and by token.

use crate::common::enrol::{ENROLL, anonymous, crl, keep, newborn, post, request, token};
use crate::common::{World, run, said, text};

const SELF: &str = "/device/v1/self";

#[test]
fn it_is_refused_kept_and_never_comes_back() {
    let mut world = World::new();
    world.director = "[est]\nlisten = \"127.0.0.1:0\"\n".into();
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
