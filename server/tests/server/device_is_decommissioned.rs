//! A decommissioned device: refused at once, its certificate on the list, its record kept, and its
//! name never enrolled again, by any way.
//!
//! Meant to catch: an enrolment that does not ask whether the device was decommissioned, by hand, for
//! a token, or by a birth certificate.

use crate::common::enrol::{
    ENROLL, Factory, anonymous, crl, keep, newborn, own, post, request, token,
};
use crate::common::{World, run, said, text};

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
