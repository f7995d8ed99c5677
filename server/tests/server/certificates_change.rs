//! Certificates are replaced while devices are connected: nobody is cut, new connections see the
//! new ones, and bad new ones change nothing.

use std::fs;

use crate::common::people::{Api, with_door};
use crate::common::{Server, World, run, text, until};

const SELF: &str = "/device/v1/self";

fn served(world: &World, server: &Server, device: &crate::common::Device) -> Vec<u8> {
    let _ = world;
    let mut connection = device.client(server).connect().unwrap();
    assert_eq!(connection.ask("GET", SELF, &[], b"").unwrap().status, 200);
    connection.stream.conn.peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn new_certificates_are_taken_and_bad_ones_are_not() {
    let world = World::new();
    let device = world.enroll("pump-1");
    let server = world.start();
    let client = device.client(&server);
    let before = served(&world, &server, &device);
    let mut open = client.connect().unwrap();
    assert_eq!(open.ask("GET", SELF, &[], b"").unwrap().status, 200);

    // Half of a pair: the old pair stays in use.
    let key = fs::read(world.path("server.key")).unwrap();
    fs::write(world.path("server.key"), "nonsense").unwrap();
    server.signal("HUP");
    until("the bad pair is noticed", || {
        server
            .said()
            .contains("new certificates are bad, the old ones stay")
    });
    assert_eq!(open.ask("GET", SELF, &[], b"").unwrap().status, 200);
    assert_eq!(served(&world, &server, &device), before);
    fs::write(world.path("server.key"), key).unwrap();

    // A new server certificate of the same authority, seen without a signal.
    let elsewhere = tempfile::tempdir().unwrap();
    renew(&world, elsewhere.path());
    until("the new certificate is served", || {
        served(&world, &server, &device) != before
    });
    assert_eq!(
        open.ask("GET", SELF, &[], b"").unwrap().status,
        200,
        "open ones are not dropped"
    );
    let said = server.stop();
    assert!(said.contains("certificates loaded anew"), "{said}");
}

/// Catches: an operators' listener that shows the old certificate until it is started again.
#[test]
fn the_operators_listener_takes_new_certificates_too() {
    let world = with_door(World::new());
    let server = world.start();
    let healthy = || {
        let reply =
            Api::new(&world, &server).call("GET", "/healthz", None, &serde_json::Value::Null);
        reply.status
    };
    assert_eq!(healthy(), 200);
    let key = fs::read(world.path("server.key")).unwrap();
    fs::write(world.path("server.key"), "nonsense").unwrap();
    server.signal("HUP");
    until("the bad pair is noticed", || {
        server
            .said()
            .contains("the operators' new certificates are bad")
    });
    assert_eq!(healthy(), 200, "the old ones stay");
    fs::write(world.path("server.key"), key).unwrap();

    let elsewhere = tempfile::tempdir().unwrap();
    renew(&world, elsewhere.path());
    until("the new ones are taken", || {
        server
            .said()
            .contains("the operators' certificates loaded anew")
    });
    // The signal may have been answered between the two files; in the end the pair is whole.
    let renewed = pem_to_der(&fs::read(world.path("server.pem")).unwrap());
    until("the new certificate is shown", || {
        operators_certificate(&world, &server) == renewed
    });
    server.stop();
}

fn pem_to_der(pem: &[u8]) -> Vec<u8> {
    use rustls_pki_types::pem::PemObject as _;
    rustls_pki_types::CertificateDer::from_pem_slice(pem)
        .unwrap()
        .to_vec()
}

/// What the operators' listener shows now.
fn operators_certificate(world: &World, server: &Server) -> Vec<u8> {
    let client =
        crate::common::client::Client::anonymous(server.operators.unwrap(), &world.path("ca.pem"));
    let mut connection = client.connect().unwrap();
    assert_eq!(
        connection.ask("GET", "/healthz", &[], b"").unwrap().status,
        200
    );
    connection.stream.conn.peer_certificates().unwrap()[0].to_vec()
}

/// The authority's key signs another server certificate.
fn renew(world: &World, folder: &std::path::Path) {
    let output = run(&["dev-ca", "--dir", text(folder)]);
    assert!(output.status.success());
    // The new authority is trusted beside the old: devices keep theirs, the client takes the old.
    let key = rcgen::KeyPair::from_pem(&fs::read_to_string(world.path("ca.key")).unwrap()).unwrap();
    let ca = fs::read_to_string(world.path("ca.pem")).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&ca, key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["localhost".to_string()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    fs::write(world.path("server.key"), key.serialize_pem()).unwrap();
    fs::write(world.path("server.pem"), certificate.pem()).unwrap();
}

#[test]
fn an_authority_that_is_trusted_no_more_ends_resumption_too() {
    let world = World::new();
    let device = world.enroll("pump-1");
    let server = world.start();
    let client = device.client(&server);
    let mut first = client.connect().unwrap();
    assert_eq!(first.ask("GET", SELF, &[], b"").unwrap().status, 200);
    let mut again = client.connect().unwrap();
    assert_eq!(again.ask("GET", SELF, &[], b"").unwrap().status, 200);
    assert!(again.is_resumed());

    let other = World::new();
    fs::copy(other.path("ca.pem"), world.path("ca.pem")).unwrap();
    until("the old authority is out", || {
        client
            .connect()
            .unwrap()
            .ask("GET", SELF, &[], b"")
            .is_err()
    });
    server.stop();
}
