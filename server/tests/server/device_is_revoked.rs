//! A revoked device is refused at once: on a new connection, a resumed one, an open one, and in
//! the middle of a download. By the operator's word and by a revocation list alike.
//!
//! Catches: revocation that is left to the handshake, which a resumed session skips.

use std::fs;
use std::io::{Read, Write};
use std::time::SystemTime;

use rcgen::{
    CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::common::client::Connection;
use crate::common::{Device, World, run, said, text, until};

const SELF: &str = "/device/v1/self";

#[test]
fn the_operators_word_reaches_open_and_resumed_connections() {
    let world = World::new();
    let (device, other) = (world.enroll("pump-1"), world.enroll("pump-2"));
    let server = world.start();
    let client = device.client(&server);
    let mut open = client.connect().unwrap();
    assert_eq!(open.ask("GET", SELF, &[], b"").unwrap().status, 200);
    let mut download = client.connect().unwrap();
    download
        .send(
            "GET",
            &format!("/tuf/image/{}", world.tree.image_path),
            &[],
            b"",
        )
        .unwrap();
    let mut some = [0; 1000];
    download.stream.read_exact(&mut some).unwrap();

    let config = world.config();
    let output = run(&["device", "revoke", "pump-1", "--config", text(&config)]);
    assert!(output.status.success(), "{}", said(&output));

    is_refused(&mut open);
    let mut resumed = client.connect().unwrap();
    assert_eq!(
        resumed.ask("GET", SELF, &[], b"").unwrap().problem(),
        "device-revoked"
    );
    assert!(resumed.is_resumed(), "this test is about a resumed session");
    let mut rest = Vec::new();
    let _ = download.stream.read_to_end(&mut rest);
    assert!(
        rest.len() < crate::common::tree::IMAGE_LEN,
        "the download goes on: {}",
        rest.len()
    );
    assert_eq!(other.client(&server).get(SELF).status, 200);

    // Enrolled again, the old certificate stays refused: whoever stole its key is still out.
    let fresh = world.enroll("pump-1");
    assert_eq!(fresh.client(&server).get(SELF).status, 200);
    assert_eq!(client.get(SELF).problem(), "certificate-not-enrolled");
    server.stop();
    let server = world.start();
    assert_eq!(
        device.client(&server).get(SELF).problem(),
        "certificate-not-enrolled"
    );
    server.stop();
}

#[test]
fn a_revocation_list_acts_without_a_restart() {
    let mut world = World::new();
    world.devices = "crl = \"devices.crl\"".into();
    fs::write(world.path("devices.crl"), crl(&world, &[])).unwrap();
    let (device, other) = (world.enroll("pump-1"), world.enroll("pump-2"));
    let server = world.start();
    let client = device.client(&server);
    let mut open = client.connect().unwrap();
    assert_eq!(open.ask("GET", SELF, &[], b"").unwrap().status, 200);

    // A list that nobody of ours signed changes nothing.
    let stranger = World::new();
    replace(&world, &crl(&stranger, &[&device]));
    server.signal("HUP");
    until("the bad list is noticed", || {
        server.said().contains("the old ones stay: revocation list")
    });
    let mut same = client.connect().unwrap();
    assert_eq!(same.ask("GET", SELF, &[], b"").unwrap().status, 200);

    replace(&world, &crl(&world, &[&device]));
    until("the list is seen", || client.get(SELF).status == 403);
    is_refused(&mut open);
    assert_eq!(other.client(&server).get(SELF).status, 200);
    server.stop();
}

/// A connection that was opened before: it is told so, or was ended already by whoever looks at
/// open connections twice a second.
fn is_refused(open: &mut Connection) {
    if let Ok(refused) = open.ask("GET", SELF, &[], b"") {
        assert_eq!(
            (refused.status, refused.problem().as_str()),
            (403, "device-revoked")
        );
    }
    assert!(open.is_cut(), "the refusal ends the connection");
}

fn replace(world: &World, pem: &str) {
    let mut file = fs::File::create(world.path("devices.crl.new")).unwrap();
    file.write_all(pem.as_bytes()).unwrap();
    fs::rename(world.path("devices.crl.new"), world.path("devices.crl")).unwrap();
}

fn crl(world: &World, revoked: &[&Device]) -> String {
    let key = KeyPair::from_pem(&fs::read_to_string(world.path("ca.key")).unwrap()).unwrap();
    let ca = fs::read_to_string(world.path("ca.pem")).unwrap();
    let now = SystemTime::now();
    let revoked_certs = revoked.iter().map(|device| RevokedCertParams {
        serial_number: serial(device),
        revocation_time: now.into(),
        reason_code: None,
        invalidity_date: None,
    });
    let params = CertificateRevocationListParams {
        this_update: now.into(),
        next_update: (now + std::time::Duration::from_hours(1)).into(),
        crl_number: SerialNumber::from_slice(&[1]),
        issuing_distribution_point: None,
        revoked_certs: revoked_certs.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let issuer = Issuer::from_ca_cert_pem(&ca, key).unwrap();
    params.signed_by(&issuer).unwrap().pem().unwrap()
}

fn serial(device: &Device) -> SerialNumber {
    let der = CertificateDer::from_pem_file(device.dir.join("device.pem")).unwrap();
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    SerialNumber::from_slice(certificate.raw_serial())
}
