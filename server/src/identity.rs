//! Who a device is: its client certificate says it, and nothing else does.
//!
//! The id is the first URI `urn:ampoule:device:<id>` among the subject alternative names, or else
//! the common name. The chain was checked by rustls before anything here is read.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use ampoule_protocol::digest::Digest;
use ampoule_protocol::key::PublicKey;
use ampoule_protocol::name::{DeviceId, NameError};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// What comes before the id in a certificate's URI.
pub const URN: &str = "urn:ampoule:device:";

/// What a client certificate says about its device.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The device.
    pub device: DeviceId,
    /// SHA-256 of the certificate.
    pub digest: Digest,
    /// The certificate's serial number, as its bytes stand.
    pub serial: Vec<u8>,
    /// Its issuer's name, DER.
    pub issuer: Vec<u8>,
    /// Unix time of its last second.
    pub not_after: i64,
    /// Its key, DER. Read only when a receipt comes: taking a key apart costs more than a poll.
    spki: Vec<u8>,
}

/// Why a certificate names no device.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It is not X.509.
    #[error("is not an X.509 certificate")]
    NotX509,
    /// Neither a URI of ours nor a common name.
    #[error("names no device: neither a URI \"{URN}…\" nor a common name")]
    NoName,
    /// The name cannot be a device id.
    #[error("names a device that cannot be: {0}")]
    BadName(#[from] NameError),
}

impl Identity {
    /// Reads a certificate, DER.
    ///
    /// # Errors
    /// It names no device.
    pub fn of(der: &[u8]) -> Result<Self, IdentityError> {
        Self::read(der, Digest::of(der))
    }

    fn read(der: &[u8], digest: Digest) -> Result<Self, IdentityError> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|_| IdentityError::NotX509)?;
        let name = name_of(&certificate).ok_or(IdentityError::NoName)?;
        Ok(Self {
            device: DeviceId::parse(name)?,
            digest,
            serial: certificate.raw_serial().to_vec(),
            issuer: certificate.issuer().as_raw().to_vec(),
            not_after: certificate.validity().not_after.timestamp(),
            spki: certificate.public_key().raw.to_vec(),
        })
    }

    /// The device's key; absent where it is of a kind that does not sign receipts.
    pub fn key(&self) -> Option<PublicKey> {
        PublicKey::from_spki_der(&self.spki).ok()
    }
}

/// Certificates that were read before, by their digest: a device shows the same one with each poll,
/// and taking one apart costs more than answering.
///
/// What is kept says who somebody is and never whether they may: that is asked of the fleet and the
/// revocation lists each time.
#[derive(Debug, Default)]
pub struct Known(RwLock<HashMap<Digest, Arc<Identity>>>);

/// Identities that are kept; a fleet beyond that has the rest read anew. Some 80 MiB at the most.
const KNOWN_MAX: usize = 1 << 17;

impl Known {
    /// [`Identity::of`], remembered.
    ///
    /// # Errors
    /// It names no device.
    pub fn identify(&self, der: &[u8]) -> Result<Arc<Identity>, IdentityError> {
        let digest = Digest::of(der);
        let known = {
            let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
            known.get(&digest).cloned()
        };
        if let Some(identity) = known {
            return Ok(identity);
        }
        let identity = Arc::new(Identity::read(der, digest)?);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < KNOWN_MAX {
            known.insert(digest, identity.clone());
        }
        Ok(identity)
    }
}

fn name_of<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a str> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let uri = names
        .into_iter()
        .flat_map(|names| &names.value.general_names)
        .find_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix(URN),
            _ => None,
        });
    uri.or_else(|| {
        certificate
            .subject()
            .iter_common_name()
            .next()?
            .as_str()
            .ok()
    })
}
