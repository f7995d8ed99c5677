//! Devices without a certificate, with the tools that they enrol with.

use std::process::{Command, Output};

use ampoule_protocol::name::DeviceId;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use super::client::{Client, Reply};
use super::{Device, Server, World, run, said, text};

/// Where a first certificate is asked for.
pub const ENROLL: &str = "/.well-known/est/simpleenroll";
/// Where the next one is.
pub const REENROLL: &str = "/.well-known/est/simplereenroll";

/// A folder for a device that has a key and no certificate.
pub fn newborn(world: &World, name: &str) -> Device {
    let dir = world.path(name);
    std::fs::create_dir(&dir).unwrap();
    std::fs::copy(world.path("ca.pem"), dir.join("ca.pem")).unwrap();
    let device = Device {
        id: DeviceId::parse(name).unwrap(),
        dir,
    };
    new_key(&device);
    device
}

pub fn new_key(device: &Device) {
    openssl(&[
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-out",
        text(&device.dir.join("device.key")),
    ]);
}

pub fn openssl(args: &[&str]) -> Output {
    let output = Command::new("openssl").args(args).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    output
}

/// A request as plain OpenSSL makes it, DER.
pub fn request(device: &Device, name: &str) -> Vec<u8> {
    let out = device.dir.join("request.der");
    openssl(&[
        "req",
        "-new",
        "-key",
        text(&device.dir.join("device.key")),
        "-subj",
        &format!("/CN={name}"),
        "-outform",
        "DER",
        "-out",
        text(&out),
    ]);
    std::fs::read(out).unwrap()
}

pub fn post(client: &Client, path: &str, basic: Option<(&str, &str)>, der: &[u8]) -> Reply {
    let body = STANDARD.encode(der);
    let secret = basic.map(|(user, token)| STANDARD.encode(format!("{user}:{token}")));
    let secret = secret.map(|secret| format!("Basic {secret}"));
    let mut headers = vec![("content-type", "application/pkcs10")];
    headers.extend(secret.as_deref().map(|secret| ("authorization", secret)));
    client.ask("POST", path, &headers, body.as_bytes())
}

/// What came is put where the device has its certificate.
pub fn keep(device: &Device, reply: &Reply) {
    assert_eq!(
        reply.status,
        200,
        "{}",
        String::from_utf8_lossy(&reply.body)
    );
    let kind = "application/pkcs7-mime; smime-type=certs-only";
    assert_eq!(reply.header("content-type"), kind);
    let body: Vec<u8> = reply
        .body
        .iter()
        .copied()
        .filter(|b| !b.is_ascii_whitespace())
        .collect();
    let path = device.dir.join("answer.p7");
    std::fs::write(&path, STANDARD.decode(body).unwrap()).unwrap();
    openssl(&[
        "pkcs7",
        "-inform",
        "DER",
        "-in",
        text(&path),
        "-print_certs",
        "-out",
        text(&device.dir.join("device.pem")),
    ]);
}

pub fn token(world: &World, device: &str, more: &[&str]) -> String {
    let config = world.config();
    let mut args = vec!["enrolment", "token", device, "--config", text(&config)];
    args.extend(more);
    let output = run(&args);
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub fn anonymous(world: &World, server: &Server) -> Client {
    Client::anonymous(server.enrolment.unwrap(), &world.path("ca.pem"))
}

/// With the device's own certificate, on the enrolment listener.
pub fn own(device: &Device, server: &Server) -> Client {
    Client::new(server.enrolment.unwrap(), &device.dir)
}

/// The revocation list as OpenSSL reads it, after checking its signature.
pub fn crl(world: &World, server: &Server) -> String {
    let reply = anonymous(world, server).get("/.well-known/est/crl");
    assert_eq!(reply.status, 200);
    let path = world.path("list.pem");
    std::fs::write(&path, &reply.body).unwrap();
    let output = openssl(&[
        "crl",
        "-in",
        text(&path),
        "-CAfile",
        text(&world.path("ca.pem")),
        "-noout",
        "-text",
    ]);
    assert!(said(&output).contains("verify OK"), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The manufacturer's authority, and a birth certificate for a device.
pub struct Factory {
    issuer: Issuer<'static, KeyPair>,
}

impl Factory {
    pub fn new(world: &World) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "Factory");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        std::fs::write(world.path("birth.pem"), pem).unwrap();
        Self {
            issuer: Issuer::new(params, key),
        }
    }

    /// A folder whose certificate is the birth certificate.
    pub fn born(&self, world: &World, name: &str, folder: &str) -> Device {
        let dir = world.path(folder);
        std::fs::create_dir(&dir).unwrap();
        std::fs::copy(world.path("ca.pem"), dir.join("ca.pem")).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(dir.join("device.pem"), certificate.pem()).unwrap();
        std::fs::write(dir.join("device.key"), key.serialize_pem()).unwrap();
        Device {
            id: DeviceId::parse(name).unwrap(),
            dir,
        }
    }
}
