//! Devices enrol themselves by EST (RFC 7030): by a token, by a birth certificate, by the
//! certificate in use; with plain OpenSSL, and with a stock EST client.
//!
//! Catches, each planted (`tests/planted.json`):
//! - a token serves any key, a name in the request is not compared:
//!   `a_token_serves_one_device_one_key_and_its_time`, `a_birth_certificate_needs_a_word`;
//! - a renewed certificate counts when it is issued, a replaced one stays off the list, a copied identity
//!   is not told: `a_lost_answer_locks_nobody_out`.
//!
//! Not seen when it was planted: a revocation that leaves a renewal behind. Its certificate is on the list
//! by then, and its device is not enrolled, so two other rules refuse it (`who_was_revoked_gets_nothing`).

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::common::client::Client;
use crate::common::enrol::{
    ENROLL, Factory, REENROLL, anonymous, crl, keep, new_key, newborn, own, post, request, token,
};
use crate::common::{Device, World, run, said, text, until};

const SELF: &str = "/device/v1/self";

fn world(more: &str) -> World {
    let mut world = World::new();
    world.director = format!("[est]\nlisten = \"127.0.0.1:0\"\n{more}\n");
    world
}

#[test]
fn a_token_serves_one_device_one_key_and_its_time() {
    let world = world("");
    let server = world.start();
    let client = anonymous(&world, &server);
    let device = newborn(&world, "pump-1");
    let der = request(&device, "pump-1");
    let refused = post(&client, ENROLL, None, &der);
    assert_eq!(
        (refused.status, refused.problem().as_str()),
        (401, "enrolment-unproven")
    );
    assert_eq!(
        refused.header("www-authenticate"),
        "Basic realm=\"enrolment\""
    );

    let token = token(&world, "pump-1", &[]);
    let ask = |user: &str, token: &str, der: &[u8]| {
        let reply = post(&client, ENROLL, Some((user, token)), der);
        (
            reply.status,
            if reply.status == 200 {
                String::new()
            } else {
                reply.problem()
            },
        )
    };
    let code = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(ask("pump-1", "0123", &der), code(401, "token-refused"));
    assert_eq!(ask("pump-2", &token, &der), code(401, "token-refused"));
    let named_other = request(&device, "pump-2");
    assert_eq!(
        ask("pump-1", &token, &named_other),
        code(403, "other-device")
    );
    keep(
        &device,
        &post(&client, ENROLL, Some(("pump-1", &token)), &der),
    );
    assert_eq!(device.client(&server).get(SELF).status, 200);

    // The answer may be lost: the same key is answered again, and the last certificate counts.
    keep(
        &device,
        &post(&client, ENROLL, Some(("pump-1", &token)), &der),
    );
    assert_eq!(device.client(&server).get(SELF).status, 200);
    new_key(&device);
    let other_key = request(&device, "pump-1");
    assert_eq!(ask("pump-1", &token, &other_key), code(403, "token-used"));
    server.stop();
}

#[test]
fn what_is_no_request_is_refused_with_a_reason() {
    let world = world("");
    let server = world.start();
    let client = anonymous(&world, &server);
    let token = token(&world, "pump-1", &[]);
    let bad = |body: &[u8]| {
        let secret = format!("Basic {}", STANDARD.encode(format!("pump-1:{token}")));
        let headers = [
            ("content-type", "application/pkcs10"),
            ("authorization", &*secret),
        ];
        let reply = client.ask("POST", ENROLL, &headers, body);
        (reply.status, reply.problem())
    };
    let refused = (400, "bad-request-for-certificate".to_owned());
    for body in [&b""[..], b"%%%", b"AAAA", &vec![b'A'; 20_000]] {
        assert_eq!(bad(body), refused, "{} bytes", body.len());
    }
    let announced = [
        ("content-type", "application/pkcs10"),
        ("content-length", "1048576"),
    ];
    assert_eq!(client.ask("POST", ENROLL, &announced, b"").status, 413);
    let reply = client.post(ENROLL, b"");
    assert_eq!(
        (reply.status, reply.problem().as_str()),
        (415, "not-pkcs10")
    );
    assert_eq!(client.get(ENROLL).status, 405);
    assert_eq!(client.get("/.well-known/est/nothing").status, 404);
    assert_eq!(client.get("/tuf/image/metadata/1.root.json").status, 404);
    assert_eq!(client.get("/.well-known/est/csrattrs").status, 204);
    server.stop();
}

#[test]
fn a_lost_answer_locks_nobody_out() {
    let world = world("");
    let device = world.enroll("pump-1");
    let server = world.start();
    let der = request(&device, "pump-1");
    // Two answers that never come.
    for _ in 0..2 {
        assert_eq!(
            post(&device.client(&server), REENROLL, None, &der).status,
            200
        );
        assert_eq!(
            device.client(&server).get(SELF).status,
            200,
            "the old one still counts"
        );
    }
    let old = device.client(&server);
    new_key(&device);
    let der = request(&device, "pump-1");
    let reply = post(&old, REENROLL, None, &der);
    keep(&device, &reply);
    // A renewal is remembered across a crash.
    server.kill();
    let server = world.start();
    let old = Client {
        address: server.address,
        ..old
    };
    assert_eq!(old.get(SELF).status, 200, "nothing was used yet");
    assert_eq!(
        device.client(&server).get(SELF).status,
        200,
        "the first use"
    );
    assert_eq!(old.get(SELF).problem(), "certificate-not-enrolled");
    assert_eq!(device.client(&server).get(SELF).status, 200);

    // What was replaced is used again: somebody has a copy.
    assert!(
        server.said().contains("its identity was copied"),
        "{}",
        server.said()
    );
    let list = crl(&world, &server);
    assert!(list.contains("Superseded"), "{list}");
    let other = request(&device, "pump-2");
    let refused = post(&own(&device, &server), REENROLL, None, &other);
    assert_eq!(refused.problem(), "other-device");
    let refused = post(&anonymous(&world, &server), REENROLL, None, &der);
    assert_eq!(refused.problem(), "renewal-unproven");
    server.stop();
}

#[test]
fn who_was_revoked_gets_nothing() {
    let world = world("");
    let server = world.start();
    let client = anonymous(&world, &server);
    let device = newborn(&world, "pump-1");
    let der = request(&device, "pump-1");
    let token = token(&world, "pump-1", &[]);
    keep(
        &device,
        &post(&client, ENROLL, Some(("pump-1", &token)), &der),
    );
    let renewed = newborn(&world, "renewed");
    std::fs::copy(
        device.dir.join("device.key"),
        renewed.dir.join("device.key"),
    )
    .unwrap();
    keep(
        &renewed,
        &post(&device.client(&server), REENROLL, None, &der),
    );

    let mut idle = device.client(&server).connect().unwrap();
    assert_eq!(idle.ask("GET", SELF, &[], b"").unwrap().status, 200);
    let config = world.config();
    let output = run(&["device", "revoke", "pump-1", "--config", text(&config)]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(idle.is_cut(), "an open connection ends by itself");
    for client in [device.client(&server), renewed.client(&server)] {
        assert_eq!(client.get(SELF).problem(), "device-revoked");
    }
    let refused = post(&own(&device, &server), REENROLL, None, &der);
    assert_eq!(refused.problem(), "device-revoked");
    let again = post(&client, ENROLL, Some(("pump-1", &token)), &der);
    assert_eq!(
        again.problem(),
        "token-refused",
        "the token went with the device"
    );
    let list = crl(&world, &server);
    assert_eq!(list.matches("Serial Number").count(), 2, "{list}");
    server.stop();
}

#[test]
fn a_birth_certificate_needs_a_word() {
    let mut world = world("birth_ca = \"birth.pem\"\nauthorised = \"authorised.txt\"");
    std::fs::write(world.path("authorised.txt"), "# the first lot\npump-1\n").unwrap();
    let factory = Factory::new(&world);
    let server = world.start();
    let listed = factory.born(&world, "pump-1", "born-1");
    let der = request(&newborn(&world, "pump-1"), "pump-1");
    let birth = |device: &Device| Client::new(server.enrolment.unwrap(), &device.dir);
    let device = Device {
        dir: world.path("pump-1"),
        ..newborn(&world, "spare")
    };
    keep(&device, &post(&birth(&listed), ENROLL, None, &der));
    assert_eq!(device.client(&server).get(SELF).status, 200);
    // A birth certificate opens no other door.
    assert!(
        listed
            .client(&server)
            .connect()
            .unwrap()
            .ask("GET", SELF, &[], b"")
            .is_err()
    );
    let refused = post(&birth(&listed), ENROLL, None, &request(&device, "pump-3"));
    assert_eq!(refused.problem(), "other-device");

    // Not on the list: a person is asked, about this key.
    let unlisted = factory.born(&world, "pump-2", "born-2");
    let second = newborn(&world, "pump-2");
    let der = request(&second, "pump-2");
    let waits = post(&birth(&unlisted), ENROLL, None, &der);
    assert_eq!((waits.status, waits.header("retry-after")), (202, "300"));
    let config = world.config();
    let enrolment = |args: &[&str]| {
        let args = [&["enrolment"], args, &["--config", text(&config)]].concat();
        run(&args)
    };
    let waiting = enrolment(&["requests", "--json"]);
    let waiting: serde_json::Value = serde_json::from_slice(&waiting.stdout).unwrap();
    let of_second = waiting
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["device"] == "pump-2");
    let key = of_second.unwrap()["key"].as_str().unwrap().to_owned();
    let wrong = enrolment(&["approve", "pump-2", "--key", "000000000000"]);
    assert!(said(&wrong).contains("asks for key"), "{}", said(&wrong));
    let done = enrolment(&["approve", "pump-2", "--key", &key[..12]]);
    assert!(done.status.success(), "{}", said(&done));
    keep(&second, &post(&birth(&unlisted), ENROLL, None, &der));
    assert_eq!(second.client(&server).get(SELF).status, 200);

    // The same birth certificate with another key: reset, or copied. A person looks.
    new_key(&device);
    let again = post(&birth(&listed), ENROLL, None, &request(&device, "pump-1"));
    assert_eq!(again.status, 202);
    assert!(
        server.said().contains("its birth certificate was copied"),
        "{}",
        server.said()
    );
    let requests = enrolment(&["requests"]);
    let table = String::from_utf8(requests.stdout).unwrap();
    assert!(
        table.contains("enrolled before with another key"),
        "{table}"
    );
    server.stop();
    world.director.clear();
    assert!(world.start().enrolment.is_none(), "no [est], no listener");
}

/// strongSwan's `pki --est`, which others wrote.
#[test]
fn a_stock_est_client_enrols_and_renews() {
    let world = world("");
    let server = world.start();
    let device = newborn(&world, "pump-1");
    let token = token(&world, "pump-1", &[]);
    let url = format!("https://localhost:{}", server.enrolment.unwrap().port());
    if !has_stock_client() {
        return;
    }
    let ca = world.path("ca.pem");
    let request_path = || -> PathBuf {
        std::fs::write(device.dir.join("request.der"), request(&device, "pump-1")).unwrap();
        device.dir.join("request.der")
    };
    let stock = |args: &[&str], request: &Path| {
        let base = [
            "--est",
            "--url",
            &url,
            "--cacert",
            text(&ca),
            "--outform",
            "pem",
            "--in",
        ];
        let args = [&base[..], &[text(request)], args].concat();
        Command::new("pki").args(args).output().unwrap()
    };
    let login = format!("pump-1:{token}");
    let first = stock(&["--userpass", &login], &request_path());
    assert!(first.status.success(), "{}", said(&first));
    std::fs::write(device.dir.join("device.pem"), &first.stdout).unwrap();
    assert_eq!(device.client(&server).get(SELF).status, 200);

    std::fs::rename(device.dir.join("device.key"), device.dir.join("old.key")).unwrap();
    std::fs::rename(device.dir.join("device.pem"), device.dir.join("old.pem")).unwrap();
    new_key(&device);
    let (old_pem, old_key) = (device.dir.join("old.pem"), device.dir.join("old.key"));
    let args = ["--cert", text(&old_pem), "--key", text(&old_key)];
    let next = stock(&args, &request_path());
    assert!(next.status.success(), "{}", said(&next));
    std::fs::write(device.dir.join("device.pem"), &next.stdout).unwrap();
    until("the new certificate is taken up", || {
        device.client(&server).get(SELF).status == 200
    });
    server.stop();
}

/// Offline it may be left out; else it is an error that it is missing.
fn has_stock_client() -> bool {
    let is_there = Command::new("pki").arg("--help").output().is_ok();
    let is_offline = std::env::var_os("AMPOULE_TEST_OFFLINE").is_some();
    assert!(
        is_there || is_offline,
        "the Debian package strongswan-pki is missing"
    );
    is_there
}
