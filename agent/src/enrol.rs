//! How the device comes by its certificate, and renews it (EST, RFC 7030).
//!
//! ```text
//!   key, made here once ──► request ──► server ──► certificate for that key, put in place whole
//! ```
//!
//! The key is made where it stays, in a file or behind a command ([`crate::key`]); it never leaves the
//! device and is never replaced: a renewal certifies it anew. So there is
//! one file that changes, by one rename, and after a cut the device has the old certificate or the
//! new one. The server goes on taking the old one until the new one is used.

use std::io;
use std::path::Path;

use ampoule_protocol::enrol::{self, EnrolError};
use ampoule_protocol::name::DeviceId;
use ampoule_protocol::sign::{self, Ed25519Key, Sign, SignError};
use ampoule_protocol::time::UtcTime;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};

use crate::key;
use crate::net::NetError;
use crate::net::est::{self, Answered, Proof};
use crate::ports::{Access, Storage, replace};

/// Bytes of a key file.
const KEY_LEN_MAX: u64 = 16 << 10;
/// Of a certificate's life, the share after which it is renewed: two thirds.
const SHARE: (i64, i64) = (2, 3);
/// Characters of a PEM line.
const LINE_LEN: usize = 64;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// A file failed.
    #[error("\"{path}\" failed")]
    File {
        /// The file.
        path: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The key cannot be used.
    #[error("the device's key cannot be used: {0}")]
    Key(#[from] SignError),
    /// The server refused, or was not reached.
    #[error(transparent)]
    Network(#[from] NetError),
    /// The answer is not a certificate for this device.
    #[error(transparent)]
    Answer(#[from] EnrolError),
}

fn file(path: &Path) -> impl Fn(io::Error) -> EnrolmentError + '_ {
    move |source| EnrolmentError::File {
        path: path.display().to_string(),
        source,
    }
}

/// The device's key; made where there is none, and durable before it is used. Where the file describes
/// a command, that command makes it.
///
/// # Errors
/// The file cannot be read or written, or holds something else: it is left as it is then. The command
/// failed.
pub fn key(
    storage: &dyn Storage,
    path: &Path,
) -> Result<Box<dyn Sign + Send + Sync>, EnrolmentError> {
    if let Some(bytes) = storage.read(path, KEY_LEN_MAX).map_err(file(path))? {
        if !key::is_pem(&bytes) {
            let hook = key::described(path).map_err(SignError)?;
            return Ok(Box::new(hook.create()?));
        }
        let text = String::from_utf8(bytes).map_err(|_| SignError("it is not PEM".into()))?;
        return Ok(sign::from_pkcs8_pem(&text)?);
    }
    let mut seed = [0; 32];
    SystemRandom::new()
        .fill(&mut seed)
        .map_err(|_| SignError("the system gives no randomness".into()))?;
    let key = Ed25519Key::from_seed(&seed)?;
    // Nobody else may read it, not even while it is written.
    let beside = path.with_extension("new");
    let write = || -> io::Result<()> {
        storage.remove(&beside)?;
        drop(storage.open(&beside, Access::Create)?);
        storage.set_mode(&beside, 0o600)?;
        let mut file = storage.open(&beside, Access::Write)?;
        file.write_at(key.to_pkcs8_pem().as_bytes(), 0)?;
        file.sync()?;
        storage.rename(&beside, path)?;
        storage.sync_dir(path.parent().unwrap_or(Path::new(".")))
    };
    write().map_err(file(path))?;
    Ok(Box::new(key))
}

/// Asks once; a certificate that comes is in place when this returns, and its end is told.
///
/// # Errors
/// See [`EnrolmentError`]; the certificate that was there stays.
pub fn ask(
    storage: &dyn Storage,
    question: &Question<'_>,
    key: &dyn Sign,
    device: &DeviceId,
) -> Result<Asked, EnrolmentError> {
    let request = enrol::request(device, key)?;
    let answer = match est::ask(question.agent, question.url, &question.proof, &request)? {
        Answered::Certificates(answer) => answer,
        Answered::Waits(secs) => return Ok(Asked::Waits(secs)),
    };
    keep(storage, question.certificate, &answer, key).map(Asked::Until)
}

/// Puts the certificate for `key` that a server answered with in place at `path`; its end.
///
/// # Errors
/// An answer without one, and a file that cannot be written; what was there stays.
pub fn keep(
    storage: &dyn Storage,
    path: &Path,
    answer: &[u8],
    key: &dyn Sign,
) -> Result<UtcTime, EnrolmentError> {
    let list = enrol::certificates(answer)?;
    let own = enrol::for_key(&list, key.public_key())?;
    let (_, end) = enrol::validity(own)?;
    replace(storage, path, pem(own).as_bytes()).map_err(file(path))?;
    Ok(end)
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The certificate is in place, and ends then.
    Until(UtcTime),
    /// A person has to decide; ask again after so many seconds.
    Waits(u64),
}

/// Where and how a certificate is asked for.
pub struct Question<'a> {
    /// The client, which shows what it shows.
    pub agent: &'a ureq::Agent,
    /// The address of the question.
    pub url: &'a str,
    /// What goes with it.
    pub proof: Proof,
    /// Where the certificate goes.
    pub certificate: &'a Path,
}

/// Whether a certificate should be renewed at `now`; one that cannot be read is left alone.
pub fn is_due(certificate: &[u8], now: UtcTime) -> bool {
    enrol::validity(certificate).is_ok_and(|(begin, end)| {
        let life = end.unix().saturating_sub(begin.unix());
        now.unix() >= begin.unix().saturating_add(life / SHARE.1 * SHARE.0)
    })
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(LINE_LEN) {
        pem.push_str(std::str::from_utf8(line).unwrap_or_default());
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use ampoule_protocol::key::PublicKey;

    #[test]
    fn a_key_is_made_once_and_for_its_owner() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("device.key");
        let made = key(&Disk, &path).expect("a new key");
        let again = key(&Disk, &path).expect("the same key");
        assert_eq!(made.public_key(), again.public_key());
        let mode = std::fs::metadata(&path)
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(&path, "no key").expect("written");
        assert!(key(&Disk, &path).is_err());
        assert_eq!(std::fs::read(&path).expect("read"), b"no key");
    }

    #[test]
    fn a_certificate_for_another_key_is_not_taken() {
        let made = || {
            let key = rcgen::KeyPair::generate().expect("a key");
            let params = rcgen::CertificateParams::default();
            let certificate = params.self_signed(&key).expect("a certificate");
            let public = PublicKey::from_spki_pem(&key.public_key_pem()).expect("a known kind");
            (certificate.der().to_vec(), public)
        };
        let [(authority, _), (own, key), (_, other)] = [made(), made(), made()];
        let list = [authority.as_slice(), &own];
        assert_eq!(enrol::for_key(&list, &key), Ok(own.as_slice()));
        assert_eq!(
            enrol::for_key(&list, &other),
            Err(enrol::EnrolError::OtherKey)
        );
    }

    #[test]
    fn a_certificate_is_due_in_its_last_third() {
        let mut params = rcgen::CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 1, 31);
        let key = rcgen::KeyPair::generate().expect("a key");
        let der = params.self_signed(&key).expect("a certificate");
        let at = |text| UtcTime::parse(text).expect("a time");
        assert!(!is_due(der.der(), at("2026-01-20T00:00:00Z")));
        assert!(is_due(der.der(), at("2026-01-22T00:00:00Z")));
        assert!(!is_due(b"nonsense", at("2026-01-22T00:00:00Z")));
    }
}
