//! The device's own certificate and key: what it is called, and what it signs receipts with.

use std::path::{Path, PathBuf};

use ampoule_protocol::enrol;
use ampoule_protocol::key::PublicKey;
use ampoule_protocol::name::DeviceId;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::Shown;
use crate::key::{self, DeviceKey};

/// The prefix of the URI in a device certificate.
const URI_PREFIX: &[u8] = b"urn:ampoule:device:";
/// `2.5.4.3`, the common name, as it stands in DER.
const COMMON_NAME: &[u8] = &[0x06, 0x03, 0x55, 0x04, 0x03];

/// A certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("\"{path}\" {what}")]
pub struct IdentityError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
}

/// Who this device is.
pub struct Identity {
    /// The name in its certificate.
    pub device: DeviceId,
    /// Its key, for receipts and handshakes.
    pub key: DeviceKey,
    /// Its certificate first.
    chain: Vec<CertificateDer<'static>>,
    pub(super) authorities: Vec<CertificateDer<'static>>,
}

impl Identity {
    /// Reads the three files; a key behind a command is not asked for anything yet.
    ///
    /// # Errors
    /// Files that are missing or not what they should be.
    pub fn load(certificate: &Path, key: &Path, authorities: &Path) -> Result<Self, IdentityError> {
        let (chain, file, trusted) = (read(certificate)?, read(key)?, read(authorities)?);
        let open =
            |public: &PublicKey| key::open(key, &file, public).map_err(|what| fault(key, &what));
        Self::of((certificate, &chain), open, (authorities, &trusted))
    }

    /// From what is in the files of the certificates, and a key that is made for the certificate's.
    ///
    /// # Errors
    /// Bytes that are not what they should be.
    pub fn of_pem(
        certificate: &[u8],
        key: impl FnOnce(&PublicKey) -> DeviceKey,
        authorities: &[u8],
    ) -> Result<Self, IdentityError> {
        let (own, ca) = (Path::new("certificate"), Path::new("ca"));
        Self::of(
            (own, certificate),
            |public| Ok(key(public)),
            (ca, authorities),
        )
    }

    fn of(
        (certificate, chain): (&Path, &[u8]),
        key: impl FnOnce(&PublicKey) -> Result<DeviceKey, IdentityError>,
        (authorities, trusted): (&Path, &[u8]),
    ) -> Result<Self, IdentityError> {
        let chain = certificates_in(certificate, chain)?;
        let leaf = chain
            .first()
            .map(CertificateDer::as_ref)
            .unwrap_or_default();
        let device = device_of(leaf).ok_or_else(|| fault(certificate, "names no device"))?;
        let public = enrol::key_of(leaf).map_err(|error| fault(certificate, &error.to_string()))?;
        Ok(Self {
            device,
            key: key(&public)?,
            chain,
            authorities: certificates_in(authorities, trusted)?,
        })
    }

    /// Its certificate, DER.
    pub(super) fn leaf(&self) -> &[u8] {
        self.chain
            .first()
            .map(CertificateDer::as_ref)
            .unwrap_or_default()
    }

    /// What it shows to servers.
    pub(super) fn shown(&self) -> Shown {
        Shown::new(&self.chain, self.key.clone())
    }
}

pub(super) fn fault(path: &Path, what: &str) -> IdentityError {
    IdentityError {
        path: path.to_owned(),
        what: what.to_owned(),
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    std::fs::read(path).map_err(|error| fault(path, &format!("cannot be read: {error}")))
}

pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    certificates_in(path, &read(path)?)
}

pub(super) fn certificates_in(
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .filter_map(Result::ok)
        .collect();
    if found.is_empty() {
        return Err(fault(path, "holds no certificate"));
    }
    Ok(found)
}

/// The device id in our own certificate: the URI, else the subject's common name (the last one in
/// the file: the issuer stands before the subject).
///
/// This reads the one certificate that the device was given at enrolment; who may speak as this
/// device is decided by the server, which parses the whole.
fn device_of(der: &[u8]) -> Option<DeviceId> {
    let id = text_after_uri(der).or_else(|| common_name(der))?;
    DeviceId::parse(std::str::from_utf8(id).ok()?).ok()
}

fn text_after_uri(der: &[u8]) -> Option<&[u8]> {
    let at = der
        .windows(URI_PREFIX.len())
        .position(|window| window == URI_PREFIX)?;
    let length = usize::from(*der.get(at.checked_sub(1)?)?);
    der.get(at + URI_PREFIX.len()..at.checked_add(length)?)
}

fn common_name(der: &[u8]) -> Option<&[u8]> {
    let at = der
        .windows(COMMON_NAME.len())
        .rposition(|window| window == COMMON_NAME)?;
    let value = der.get(at + COMMON_NAME.len()..)?;
    let length = usize::from(*value.get(1)?);
    value.get(2..2 + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uri_counts_before_the_name() {
        let mut der = [
            COMMON_NAME,
            &[0x0c, 2],
            b"ca",
            COMMON_NAME,
            &[0x0c, 6],
            b"pump-1",
        ]
        .concat();
        assert_eq!(device_of(&der).expect("a name").as_str(), "pump-1");
        der.extend_from_slice(&[0x86, 25]);
        der.extend_from_slice(b"urn:ampoule:device:pump-2");
        assert_eq!(device_of(&der).expect("a name").as_str(), "pump-2");
        der.truncate(der.len() - 1);
        assert_eq!(
            device_of(&der).map(|id| id.as_str().to_owned()),
            Some("pump-1".into())
        );
        assert_eq!(device_of(b""), None);
    }
}
