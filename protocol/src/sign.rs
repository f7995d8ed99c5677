//! Secret keys that sign. They live in the signer, in a device (its own key) and, for the
//! timestamp alone, on the server.
//!
//! No `Debug`, no `Clone`; the bytes are zeroed when dropped.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use p256::ecdsa::signature::Signer as _;
use zeroize::{Zeroize, Zeroizing};

use crate::key::PublicKey;

/// Whoever can sign for one public key: a file, a token, a command.
pub trait Sign {
    /// The key that verifies what [`Sign::sign`] makes.
    fn public_key(&self) -> &PublicKey;

    /// The signature over `message`: 64 bytes for Ed25519, DER for ECDSA.
    ///
    /// # Errors
    /// Where the token or command behind it fails; key files cannot.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;

    /// Whether it signs the same message with the same bytes each time; keys in hardware seldom do.
    fn repeats(&self) -> bool {
        true
    }
}

/// A secret key that could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SignError(pub String);

/// An Ed25519 secret key.
pub struct Ed25519Key {
    secret: ed25519_dalek::SigningKey,
    public: PublicKey,
}

impl Ed25519Key {
    /// From its seed, 32 bytes of good randomness (RFC 8032 section 5.1.5).
    ///
    /// # Errors
    /// The seeds of weak keys, which no randomness ever gives.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, SignError> {
        Self::from_secret(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// From PKCS#8 in PEM.
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, SignError> {
        ed25519_dalek::SigningKey::from_pkcs8_pem(pem)
            .map_err(bad_file)
            .and_then(Self::from_secret)
    }

    /// From PKCS#8 in DER.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, SignError> {
        ed25519_dalek::SigningKey::from_pkcs8_der(der)
            .map_err(bad_file)
            .and_then(Self::from_secret)
    }

    /// As PKCS#8 in PEM, version 1 (RFC 8410 section 7): OpenSSL 3.0 and the tools of tokens do not
    /// read version 2, which carries the public key as well.
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        let mut bytes = ed25519_dalek::pkcs8::KeypairBytes {
            secret_key: self.secret.to_bytes(),
            public_key: None,
        };
        let pem = bytes.to_pkcs8_pem(LineEnding::LF);
        bytes.secret_key.zeroize();
        pem.expect("an Ed25519 key fits PKCS#8")
    }

    fn from_secret(secret: ed25519_dalek::SigningKey) -> Result<Self, SignError> {
        let public = PublicKey::ed25519(secret.verifying_key().as_bytes())
            .map_err(|error| SignError(error.to_string()))?;
        Ok(Self { secret, public })
    }
}

impl Sign for Ed25519Key {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let signature: ed25519_dalek::Signature = self.secret.sign(message);
        Ok(signature.to_bytes().to_vec())
    }
}

/// An ECDSA P-256 secret key; signs deterministically (RFC 6979).
pub struct P256Key {
    secret: p256::ecdsa::SigningKey,
    public: PublicKey,
}

impl P256Key {
    /// From its scalar, 32 bytes big-endian.
    ///
    /// # Errors
    /// Zero and numbers beyond the group order.
    pub fn from_scalar(bytes: &[u8; 32]) -> Result<Self, SignError> {
        p256::ecdsa::SigningKey::from_slice(bytes)
            .map_err(bad_file)
            .map(Self::from_secret)
    }

    /// From PKCS#8 in PEM.
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, SignError> {
        p256::ecdsa::SigningKey::from_pkcs8_pem(pem)
            .map_err(bad_file)
            .map(Self::from_secret)
    }

    /// From PKCS#8 in DER.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, SignError> {
        p256::ecdsa::SigningKey::from_pkcs8_der(der)
            .map_err(bad_file)
            .map(Self::from_secret)
    }

    /// As PKCS#8 in PEM.
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        self.secret
            .to_pkcs8_pem(LineEnding::LF)
            .expect("a P-256 key fits PKCS#8")
    }

    fn from_secret(secret: p256::ecdsa::SigningKey) -> Self {
        let public = PublicKey::from_p256(*secret.verifying_key());
        Self { secret, public }
    }
}

impl Sign for P256Key {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let signature: p256::ecdsa::DerSignature = self.secret.sign(message);
        Ok(signature.as_bytes().to_vec())
    }
}

/// A secret key of either kind from PKCS#8 in PEM.
pub fn from_pkcs8_pem(pem: &str) -> Result<alloc::boxed::Box<dyn Sign + Send + Sync>, SignError> {
    if let Ok(key) = Ed25519Key::from_pkcs8_pem(pem) {
        return Ok(alloc::boxed::Box::new(key));
    }
    P256Key::from_pkcs8_pem(pem)
        .map(|key| alloc::boxed::Box::new(key) as _)
        .map_err(|_| SignError("not an Ed25519 or P-256 key in PKCS#8".to_string()))
}

fn bad_file(error: impl core::fmt::Display) -> SignError {
    SignError(alloc::format!("not a PKCS#8 key of this kind: {error}"))
}

/// An ECDSA signature over P-256 as tokens give it, `r || s`, in the DER that everybody else wants
/// (RFC 3279 section 2.2.3); `None` for what is none.
pub fn ecdsa_der(raw: &[u8]) -> Option<Vec<u8>> {
    let signature = p256::ecdsa::Signature::from_slice(raw).ok()?;
    Some(signature.to_der().as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_ecdsa_becomes_minimal_der() {
        let mut raw = [0u8; 64];
        raw[31] = 0x7f;
        raw[32] = 0x80;
        let der = ecdsa_der(&raw).expect("a signature");
        assert_eq!(&der[..6], &[0x30, 38, 0x02, 1, 0x7f, 0x02]);
        assert_eq!(&der[6..9], &[33, 0x00, 0x80]);
        assert_eq!(ecdsa_der(&raw[..63]), None);
        assert_eq!(ecdsa_der(&[0; 64]), None, "zero is in no signature");
    }

    #[test]
    fn what_is_signed_here_verifies_here() {
        let ed25519 = Ed25519Key::from_seed(&[7; 32]).expect("a seed");
        let p256 = P256Key::from_scalar(&[7; 32]).expect("a scalar");
        for key in [&ed25519 as &dyn Sign, &p256] {
            let signature = key.sign(b"message").expect("a key in memory");
            assert!(key.public_key().verify(b"message", &signature));
            assert!(!key.public_key().verify(b"massage", &signature));
        }
        assert!(
            !ed25519
                .public
                .verify(b"message", &p256.sign(b"message").expect("signed"))
        );
    }

    #[test]
    fn ed25519_is_written_as_rfc_8410_has_it() {
        // Section 10.3, the example without a public key.
        let pem = "-----BEGIN PRIVATE KEY-----\n\
                   MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                   -----END PRIVATE KEY-----\n";
        let key = Ed25519Key::from_pkcs8_pem(pem).expect("the example");
        assert_eq!(*key.to_pkcs8_pem(), pem);
    }

    #[test]
    fn pkcs8_comes_back() {
        let ed25519 = Ed25519Key::from_seed(&[7; 32]).expect("a seed");
        let p256 = P256Key::from_scalar(&[7; 32]).expect("a scalar");
        for (pem, public) in [
            (ed25519.to_pkcs8_pem(), &ed25519.public),
            (p256.to_pkcs8_pem(), &p256.public),
        ] {
            assert_eq!(
                from_pkcs8_pem(&pem).expect("our own file").public_key(),
                public
            );
        }
        assert!(from_pkcs8_pem("-----BEGIN PRIVATE KEY-----").is_err());
    }
}
