//! The device's own way to its certificate, and to the next one: the real agent and the real server,
//! over TLS on loopback.
//!
//! Catches, planted: a certificate that is never due, so that nobody renews it (the second test). That a
//! certificate for another key is not taken stands beside the code.

mod hook;

#[path = "../airgap/site.rs"]
#[allow(dead_code, reason = "this site has a network")]
mod site;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use site::Site;

/// A running server; killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the server on free ports, and tells the agent where.
fn start(site: &Site) -> Running {
    let config = String::from_utf8(site.read("server.toml")).expect("text");
    let config = config.replace("127.0.0.1:8443", "127.0.0.1:0");
    site.write(
        "serving.toml",
        format!("{config}[est]\nlisten = \"127.0.0.1:0\"\n").as_bytes(),
    );
    let mut child = Command::new(env!("CARGO_BIN_EXE_server-under-test"))
        .args(["run", "--config", "serving.toml"])
        .current_dir(site.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let out = BufReader::new(child.stdout.take().expect("a pipe"));
    let (mut enrolling, mut listening) = (String::new(), String::new());
    for line in out.lines() {
        let line = line.expect("text");
        if let Some(address) = line.strip_prefix("enrolling on ") {
            address.clone_into(&mut enrolling);
        }
        if let Some(address) = line.strip_prefix("listening on ") {
            address.clone_into(&mut listening);
            break;
        }
    }
    let agent = String::from_utf8(site.read("agent.toml")).expect("text");
    let agent = agent.replace("127.0.0.1:8443", &listening);
    let enrolment = format!("[enrolment]\nurl = \"https://{enrolling}\"\ntoken_file = \"token\"\n");
    site.write("agent.toml", format!("{agent}\n{enrolment}").as_bytes());
    Running(child)
}

#[test]
fn a_device_makes_its_key_enrols_and_updates() {
    let site = Site::new();
    // As it left the factory: it knows whom to trust, and has neither key nor certificate.
    for gone in ["identity/device.pem", "identity/device.key"] {
        std::fs::remove_file(site.file(gone)).expect("removed");
    }
    let _server = start(&site);
    site.write("token", b"0123456789abcdef0123456789abcdef\n");
    assert_eq!(site.refusal("enroll pump-0007"), "not-enrolled");
    let key = site.read("identity/device.key");
    let token = site.server("enrolment token pump-0007 --config serving.toml");
    site.write("token", token.as_bytes());
    let enrolled = site.agent("enroll pump-0007");
    assert_eq!(enrolled["result"], "enrolled");
    assert_eq!(site.read("identity/device.key"), key, "the key stays");
    assert_eq!(site.agent("install")["result"], "restart-due");
    assert_eq!(site.refusal("enroll pump-0007"), "not-enrolled");
    let shown = site.server("device show --config serving.toml pump-0007");
    assert!(shown.contains("enrolled"), "{shown}");
}

#[test]
fn a_certificate_near_its_end_is_renewed_and_the_old_one_ends() {
    let site = Site::new();
    old_certificate(&site);
    site.server("enroll --config server.toml --certificate identity/device.pem pump-0042");
    let _server = start(&site);
    let (old, key) = (
        site.read("identity/device.pem"),
        site.read("identity/device.key"),
    );
    assert_eq!(site.agent("install")["result"], "restart-due");
    let new = site.read("identity/device.pem");
    assert_ne!(new, old, "it was renewed");
    assert_eq!(site.read("identity/device.key"), key);
    // The first use was the update itself: the old one serves no more.
    site.write("identity/device.pem", &old);
    let refused = site.refusal("check");
    assert_eq!(refused, "server-forbids");
    site.write("identity/device.pem", &new);
    site.agent("check");
}

/// A certificate of the site's authority that has used up most of its life.
fn old_certificate(site: &Site) {
    let pem = |name: &str| String::from_utf8(site.read(name)).expect("text");
    let key = KeyPair::from_pem(&pem("pki/ca.key")).expect("a key");
    let issuer = Issuer::from_ca_cert_pem(&pem("pki/ca.pem"), key).expect("an authority");
    let device = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "pump-0042");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let day = std::time::Duration::from_hours(24);
    let now = std::time::SystemTime::now();
    params.not_before = (now - day * 300).into();
    params.not_after = (now + day * 30).into();
    let certificate = params.signed_by(&device, &issuer).expect("a certificate");
    site.write("identity/device.pem", certificate.pem().as_bytes());
    site.write("identity/device.key", device.serialize_pem().as_bytes());
}
