//! What a device asks for: a PKCS#10 request (RFC 2986), checked whole before anybody decides.
//!
//! Nothing of it is copied into a certificate but the key: name, uses and lifetime are ours. Its
//! signature proves that whoever asks has the key; the name it bears is compared with what the
//! caller proved.

use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::DeviceId;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateSigningRequestDer;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, GeneralName};
use x509_parser::public_key::PublicKey;

use crate::identity::URN;

/// Bytes of a request, decoded; one with an RSA key of 8192 bits has less than 3 KiB.
pub const REQUEST_LEN_MAX: usize = 8 * 1024;
/// Bits of an RSA key.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
/// `id-ecPublicKey` and its curves, `id-Ed25519`.
const CURVES: [&str; 2] = ["1.2.840.10045.3.1.7", "1.3.132.0.34"];
const EC: &str = "1.2.840.10045.2.1";
const ED25519: &str = "1.3.101.112";

/// A request whose signature holds.
#[derive(Debug)]
pub struct Csr {
    /// Whom it names.
    pub device: DeviceId,
    /// SHA-256 of the key's DER (SubjectPublicKeyInfo).
    pub key: Digest,
    /// The request, DER.
    pub der: CertificateSigningRequestDer<'static>,
}

/// Why a request is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Not base64 of a bounded length.
    #[error("the body is not base64 of at most {REQUEST_LEN_MAX} bytes")]
    Base64,
    /// Not PKCS#10.
    #[error("the body is not a PKCS#10 request, DER in base64")]
    Form,
    /// Whoever asks does not have the key.
    #[error("the request is not signed by the key that it names")]
    Signature,
    /// A kind of key that this server or its devices cannot use.
    #[error("the request's key is not Ed25519, P-256, P-384 or RSA of 2048 to 4096 bits")]
    Key,
    /// No name.
    #[error("the request names no device: neither a URI \"{URN}…\" nor a common name")]
    NoName,
    /// A name that cannot be.
    #[error("the request names a device that cannot be: {0}")]
    BadName(String),
}

impl Csr {
    /// Reads the body of a request, base64 with or without line breaks (RFC 8951 section 3.1).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of_body(body: &[u8]) -> Result<Self, CsrError> {
        let text: Vec<u8> = body
            .iter()
            .copied()
            .filter(|byte| !byte.is_ascii_whitespace())
            .collect();
        if text.len() > REQUEST_LEN_MAX * 4 / 3 + 4 {
            return Err(CsrError::Base64);
        }
        let der = STANDARD.decode(text).map_err(|_| CsrError::Base64)?;
        Self::of_der(der)
    }

    fn of_der(der: Vec<u8>) -> Result<Self, CsrError> {
        let (rest, request) =
            X509CertificationRequest::from_der(&der).map_err(|_| CsrError::Form)?;
        if !rest.is_empty() {
            return Err(CsrError::Form);
        }
        check_key(&request)?;
        request
            .verify_signature()
            .map_err(|_| CsrError::Signature)?;
        let name = name_of(&request).ok_or(CsrError::NoName)?;
        let device =
            DeviceId::parse(&name).map_err(|error| CsrError::BadName(error.to_string()))?;
        let key = Digest::of(request.certification_request_info.subject_pki.raw);
        Ok(Self {
            device,
            key,
            der: der.into(),
        })
    }
}

fn check_key(request: &X509CertificationRequest<'_>) -> Result<(), CsrError> {
    let info = &request.certification_request_info.subject_pki;
    let algorithm = info.algorithm.algorithm.to_id_string();
    if algorithm == ED25519 {
        return Ok(());
    }
    let is_known = match info.parsed() {
        Ok(PublicKey::RSA(key)) => RSA_BITS.contains(&key.key_size()),
        Ok(PublicKey::EC(_)) if algorithm == EC => info
            .algorithm
            .parameters
            .as_ref()
            .and_then(|curve| curve.as_oid().ok())
            .is_some_and(|curve| CURVES.contains(&curve.to_id_string().as_str())),
        _ => false,
    };
    if is_known { Ok(()) } else { Err(CsrError::Key) }
}

/// As in a certificate: the URI, else the common name.
fn name_of(request: &X509CertificationRequest<'_>) -> Option<String> {
    let mut extensions = request.requested_extensions().into_iter().flatten();
    let uri = extensions.find_map(|extension| match extension {
        ParsedExtension::SubjectAlternativeName(names) => {
            names.general_names.iter().find_map(|name| match name {
                GeneralName::URI(uri) => uri.strip_prefix(URN).map(str::to_owned),
                _ => None,
            })
        }
        _ => None,
    });
    uri.or_else(|| {
        let subject = &request.certification_request_info.subject;
        Some(subject.iter_common_name().next()?.as_str().ok()?.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};

    use super::*;

    fn request(name: &str, key: &KeyPair) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serialize_request(key).unwrap().der().to_vec()
    }

    #[test]
    fn requests_are_read_with_and_without_line_breaks() {
        for algorithm in [&PKCS_ED25519, &PKCS_ECDSA_P256_SHA256] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let text = STANDARD.encode(request("pump-1", &key));
            let lines: Vec<&[u8]> = text.as_bytes().chunks(64).collect();
            let broken = lines.join(&b"\r\n"[..]);
            let one = Csr::of_body(text.as_bytes()).unwrap();
            let other = Csr::of_body(&broken).unwrap();
            assert_eq!(one.device.as_str(), "pump-1");
            assert_eq!((one.key, &one.der), (other.key, &other.der));
        }
    }

    /// Catches: a request whose signature is not checked: somebody else's key could be certified.
    /// Around what is signed, DER has bytes that mean nothing (unused bits); they change nothing.
    #[test]
    fn no_flipped_bit_changes_name_or_key() {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let der = request("pump-1", &key);
        let good = Csr::of_der(der.clone()).unwrap();
        let mut refused = 0;
        for at in 0..der.len() {
            let mut bad = der.clone();
            bad[at] ^= 1;
            match Csr::of_der(bad) {
                Ok(read) => assert_eq!((&read.device, read.key), (&good.device, good.key)),
                Err(_) => refused += 1,
            }
            assert!(Csr::of_der(der[..at].to_vec()).is_err(), "cut {at}");
        }
        assert!(refused + 4 >= der.len(), "{refused} of {}", der.len());
        let longer = [&der[..], &[0]].concat();
        assert_eq!(Csr::of_der(longer).unwrap_err(), CsrError::Form);
    }

    #[test]
    fn names_and_lengths_are_bounded() {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let named = |name: &str| Csr::of_der(request(name, &key)).unwrap_err();
        assert!(matches!(named("a/b"), CsrError::BadName(_)));
        let long = vec![b'A'; REQUEST_LEN_MAX * 2];
        assert_eq!(Csr::of_body(&long).unwrap_err(), CsrError::Base64);
        assert_eq!(Csr::of_body(b"=%=").unwrap_err(), CsrError::Base64);
        assert_eq!(Csr::of_body(b"").unwrap_err(), CsrError::Form);
    }
}
