//! The device's own certificate and key: what it is called, and what it signs receipts with.

use std::path::{Path, PathBuf};

use ampoule_protocol::name::DeviceId;
use ampoule_protocol::sign::{self, Sign};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, parse_pem};

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
    /// Its key, for receipts.
    pub key: Box<dyn Sign + Send + Sync>,
    /// Its certificate, DER.
    pub(super) leaf: Vec<u8>,
    pub(super) certificate: ClientCert,
    pub(super) authorities: Vec<Certificate<'static>>,
}

impl Identity {
    /// Reads the three files.
    ///
    /// # Errors
    /// Files that are missing or not what they should be.
    pub fn load(certificate: &Path, key: &Path, authorities: &Path) -> Result<Self, IdentityError> {
        let (chain, pem, trusted) = (read(certificate)?, read(key)?, read(authorities)?);
        Self::of(
            (certificate, chain.as_slice()),
            (key, pem.as_slice()),
            (authorities, trusted.as_slice()),
        )
    }

    /// From what is in the three files.
    ///
    /// # Errors
    /// Bytes that are not what they should be.
    pub fn of_pem(
        certificate: &[u8],
        key: &[u8],
        authorities: &[u8],
    ) -> Result<Self, IdentityError> {
        Self::of(
            (Path::new("certificate"), certificate),
            (Path::new("key"), key),
            (Path::new("ca"), authorities),
        )
    }

    fn of(
        (certificate, chain): (&Path, &[u8]),
        (key, pem): (&Path, &[u8]),
        (authorities, trusted): (&Path, &[u8]),
    ) -> Result<Self, IdentityError> {
        let chain = certificates_in(certificate, chain)?;
        let device = chain.first().and_then(|leaf| device_of(leaf.der()));
        let device = device.ok_or_else(|| fault(certificate, "names no device"))?;
        let private = PrivateKey::from_pem(pem).map_err(|_| fault(key, "holds no private key"))?;
        let text = std::str::from_utf8(pem).map_err(|_| fault(key, "is not PEM"))?;
        let signer =
            sign::from_pkcs8_pem(text).map_err(|error| fault(key, &format!("is {error}")))?;
        Ok(Self {
            device,
            key: signer,
            leaf: chain
                .first()
                .map(|leaf| leaf.der().to_vec())
                .unwrap_or_default(),
            certificate: ClientCert::new_with_certs(&chain, private),
            authorities: certificates_in(authorities, trusted)?,
        })
    }
}

fn fault(path: &Path, what: &str) -> IdentityError {
    IdentityError {
        path: path.to_owned(),
        what: what.to_owned(),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    std::fs::read(path).map_err(|error| fault(path, &format!("cannot be read: {error}")))
}

pub(crate) fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, IdentityError> {
    certificates_in(path, &read(path)?)
}

pub(super) fn certificates_in(
    path: &Path,
    pem: &[u8],
) -> Result<Vec<Certificate<'static>>, IdentityError> {
    let items = parse_pem(pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let found: Vec<_> = items.collect();
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
