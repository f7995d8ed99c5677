//! Power cuts while a device comes by its certificate, and while it renews it.
//!
//! The device's real code asks (`ampoule_agent::enrol`); the server is a certificate authority in this
//! process. After each cut: a key that is there is whole, a certificate that is there is whole, for that
//! key, and one that was issued; none is asked for before its key is durable. In the end the device has
//! the certificate that it asked for, and installs its first release.

use std::path::Path;
use std::sync::OnceLock;

use ampoule_agent::driver::DriverError;
use ampoule_agent::enrol::{self, EnrolmentError};
use ampoule_protocol::enrol::{certificates, for_key, validity};
use ampoule_protocol::key::PublicKey;
use ampoule_protocol::sign::{self, Ed25519Key};
use ampoule_tests::power::cut::Unsynced;
use ampoule_tests::power::disk::SimDisk;
use ampoule_tests::power::life::{World, live};
use ampoule_tests::power::mistake::Mistake;
use ampoule_tests::power::stories;
use ampoule_tests::power::story::Story;
use rcgen::{CertificateParams, Issuer, KeyPair, SubjectPublicKeyInfo};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::cut_everywhere;
use crate::mistakes::all_caught;

const KEY: &str = "/data/identity/device.key";
const CERTIFICATE: &str = "/data/identity/device.pem";

/// The last year of the first certificate, and of a renewed one.
const ENDS: [i32; 2] = [2030, 2031];

/// The answer of a server to a request of this key: certs-only CMS.
fn issue(key: &PublicKey, end: i32) -> Vec<u8> {
    static AUTHORITY: OnceLock<Issuer<'static, KeyPair>> = OnceLock::new();
    let authority = AUTHORITY.get_or_init(|| {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
        Issuer::new(CertificateParams::default(), key)
    });
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(2029, 1, 1);
    params.not_after = rcgen::date_time_ymd(end, 12, 31);
    let subject = SubjectPublicKeyInfo::from_der(&key.to_spki_der()).expect("a public key");
    let made = params.signed_by(&subject, authority).expect("it signs");
    let list = der(0xa0, &[made.der()]);
    let version = [0x02, 0x01, 0x01];
    let signed = der(0x30, &[&version, &[0x31, 0], &[0x30, 0], &list, &[0x31, 0]]);
    let kind = [0x06, 0x01, 0x2a];
    der(0x30, &[&kind, &der(0xa0, &[&signed])])
}

fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let value = parts.concat();
    let len = u16::try_from(value.len()).expect("short").to_be_bytes();
    [&[tag, 0x82], len.as_slice(), &value].concat()
}

/// When the certificate on this disk ends; `None` where there is none.
fn end_of(disk: &SimDisk) -> Option<i32> {
    let pem = disk.content(Path::new(CERTIFICATE))?;
    let certificate = CertificateDer::from_pem_slice(&pem).ok()?;
    let (_, end) = validity(&certificate).ok()?;
    end.to_string().get(..4)?.parse().ok()
}

/// What is wrong with what the disk has of them.
fn wrong(disk: &SimDisk) -> Vec<String> {
    let mut wrong = Vec::new();
    let pem = disk.content(Path::new(CERTIFICATE));
    let key = disk.content(Path::new(KEY)).map(|key| {
        let text = String::from_utf8(key).unwrap_or_default();
        sign::from_pkcs8_pem(&text)
    });
    match (pem, key) {
        (_, Some(Err(_))) => wrong.push("the key is not whole".to_owned()),
        (Some(_), None) => wrong.push("a certificate without its key".to_owned()),
        (Some(pem), Some(Ok(key))) => {
            let found = CertificateDer::from_pem_slice(&pem);
            let is_good = found.is_ok_and(|found| for_key(&[&found], key.public_key()).is_ok());
            if !is_good || end_of(disk).is_none_or(|end| !ENDS.contains(&end)) {
                wrong.push("the certificate is not whole, or for another key".to_owned());
            }
        }
        (None, Some(Ok(_)) | None) => {}
    }
    wrong
}

/// Comes by a certificate that ends then, unless it has it.
fn ask(disk: &SimDisk, end: i32) -> Result<(), EnrolmentError> {
    if end_of(disk) == Some(end) {
        return Ok(());
    }
    let key = enrol::key(disk, Path::new(KEY))?;
    let durable = disk.power_cycle(Unsynced::Lost);
    if durable.content(Path::new(KEY)) != disk.content(Path::new(KEY)) {
        disk.sin("a certificate is asked for before its key is durable".to_owned());
    }
    let answer = issue(key.public_key(), end);
    assert_eq!(certificates(&answer).expect("a good answer").len(), 1);
    enrol::keep(disk, Path::new(CERTIFICATE), &answer, &*key).map(|_| ())
}

fn ask_and_live(disk: &SimDisk, world: &World, end: i32) -> Result<(), DriverError> {
    if let Err(error) = ask(disk, end)
        && !disk.is_off()
    {
        disk.sin(error.to_string());
    }
    live(disk, world)
}

fn has(disk: &SimDisk, end: i32) -> Vec<String> {
    let mut wrong = wrong(disk);
    if end_of(disk) != Some(end) {
        wrong.push(format!("no certificate until {end}"));
    }
    wrong
}

fn enrolling() -> Story {
    let mut story = stories::first_install();
    story.name = "enrolment, first install";
    story.start.plant("/data/identity/ca.pem", b"ca");
    story.holds = wrong;
    story.ends = |disk| has(disk, ENDS[0]);
    story.act = |disk, world| ask_and_live(disk, world, ENDS[0]);
    story
}

fn renewing() -> Story {
    let mut story = stories::full();
    story.name = "certificate renewed, update";
    let key = Ed25519Key::from_seed(&[7; 32]).expect("a seed");
    story.start.plant(KEY, key.to_pkcs8_pem().as_bytes());
    ask(&story.start, ENDS[0]).expect("a good disk");
    story.holds = |disk| {
        let mut wrong = wrong(disk);
        if end_of(disk).is_none() {
            wrong.push("the device has no certificate any more".to_owned());
        }
        wrong
    };
    story.ends = |disk| has(disk, ENDS[1]);
    story.act = |disk, world| ask_and_live(disk, world, ENDS[1]);
    story
}

#[test]
fn enrolment() {
    cut_everywhere(&enrolling());
}

#[test]
fn renewal() {
    cut_everywhere(&renewing());
}

/// A file of the identity that is not synced, whose name is not, or that is written in place.
#[test]
fn mistakes_with_the_identity() {
    let mistakes = [
        Mistake::NoFileSync("/data/identity/"),
        Mistake::NoFolderSync("/data/identity"),
    ];
    all_caught(&enrolling(), &mistakes);
    all_caught(&renewing(), &[Mistake::InPlace("/data/identity/")]);
}
