//! Public keys: what can verify a signature, and what is only carried.
//!
//! Ed25519 (RFC 8032, verified strictly: no small-order points, no malleable signatures), ECDSA on
//! P-256 and P-384 (DER signatures), RSASSA-PSS with SHA-256 and MGF1 (RFC 8017, any salt length,
//! moduli of 2048 to 8192 bits). A key of another kind is carried with all its members and
//! verifies nothing.
//!
//! Invariant: two keys with equal [`PublicKey::material`] are one key, whatever ids they are listed
//! under. Thresholds count material.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePublicKey, EncodePublicKey};
use p256::ecdsa::signature::Verifier;
use rsa::traits::PublicKeyParts;

use crate::digest::Digest;
use crate::hex;
use crate::json::{self, Map, Value};

/// The id under which metadata lists a key.
///
/// We write the SHA-256 of the key's canonical form (TUF 1.0.34 section 4.2); we read any text
/// (TAP 12), since an id only names and never proves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

impl KeyId {
    /// From the text in metadata.
    pub fn new(text: &str) -> Self {
        Self(text.to_string())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 characters, for people.
    pub fn short(&self) -> String {
        self.0.chars().take(12).collect()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How signatures by a key are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `ed25519`
    Ed25519,
    /// `ecdsa-sha2-nistp256`
    EcdsaP256,
    /// `ecdsa-sha2-nistp384`
    EcdsaP384,
    /// `rsassa-pss-sha256`
    RsaPss,
}

impl Scheme {
    /// The name in metadata.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::EcdsaP256 => "ecdsa-sha2-nistp256",
            Self::EcdsaP384 => "ecdsa-sha2-nistp384",
            Self::RsaPss => "rsassa-pss-sha256",
        }
    }
}

/// A public key that can verify.
#[derive(Clone)]
pub struct PublicKey(Kind);

#[derive(Clone)]
enum Kind {
    Ed25519(ed25519_dalek::VerifyingKey),
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
    Rsa(Box<rsa::PublicKey>),
}

/// Bytes or a text that are not a public key of a kind that we verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519, ECDSA P-256 or P-384, or RSA (2048 to 8192 bits) public key")]
pub struct KeyError;

const RSA_BITS: core::ops::RangeInclusive<u32> = 2048..=8192;

impl PublicKey {
    /// An Ed25519 key from its 32 bytes.
    ///
    /// # Errors
    /// Bytes that are no point of the curve, and points of small order.
    pub fn ed25519(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| KeyError)?;
        if key.is_weak() {
            return Err(KeyError);
        }
        Ok(Self(Kind::Ed25519(key)))
    }

    /// From SubjectPublicKeyInfo in DER (RFC 5280), as certificates carry it.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, KeyError> {
        if let Ok(key) = ed25519_dalek::VerifyingKey::from_public_key_der(der) {
            return Self::ed25519(key.as_bytes());
        }
        if let Ok(key) = p256::ecdsa::VerifyingKey::from_public_key_der(der) {
            return Ok(Self(Kind::P256(key)));
        }
        if let Ok(key) = p384::ecdsa::VerifyingKey::from_public_key_der(der) {
            return Ok(Self(Kind::P384(key)));
        }
        rsa::PublicKey::from_public_key_der(der)
            .map_err(|_| KeyError)
            .and_then(Self::rsa)
    }

    /// From SubjectPublicKeyInfo in PEM.
    pub fn from_spki_pem(pem: &str) -> Result<Self, KeyError> {
        if let Ok(key) = ed25519_dalek::VerifyingKey::from_public_key_pem(pem) {
            return Self::ed25519(key.as_bytes());
        }
        if let Ok(key) = p256::ecdsa::VerifyingKey::from_public_key_pem(pem) {
            return Ok(Self(Kind::P256(key)));
        }
        if let Ok(key) = p384::ecdsa::VerifyingKey::from_public_key_pem(pem) {
            return Ok(Self(Kind::P384(key)));
        }
        rsa::PublicKey::from_public_key_pem(pem)
            .map_err(|_| KeyError)
            .and_then(Self::rsa)
    }

    pub(crate) fn from_p256(key: p256::ecdsa::VerifyingKey) -> Self {
        Self(Kind::P256(key))
    }

    fn rsa(key: rsa::PublicKey) -> Result<Self, KeyError> {
        if !RSA_BITS.contains(&key.n().bit_width_vartime()) {
            return Err(KeyError);
        }
        Ok(Self(Kind::Rsa(Box::new(key))))
    }

    /// How it signs.
    pub fn scheme(&self) -> Scheme {
        match &self.0 {
            Kind::Ed25519(_) => Scheme::Ed25519,
            Kind::P256(_) => Scheme::EcdsaP256,
            Kind::P384(_) => Scheme::EcdsaP384,
            Kind::Rsa(_) => Scheme::RsaPss,
        }
    }

    /// Whether `signature` is this key's over `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            Kind::Ed25519(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
            Kind::P256(key) => p256::ecdsa::DerSignature::try_from(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            Kind::P384(key) => p384::ecdsa::DerSignature::try_from(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            Kind::Rsa(key) => rsa::pss::Signature::try_from(signature).is_ok_and(|signature| {
                let key: rsa::pss::VerifyingKey<sha2::Sha256> =
                    rsa::pss::VerifyingKey::new_with_auto_salt_len((**key).clone());
                key.verify(message, &signature).is_ok()
            }),
        }
    }

    /// What makes it this key and no other: its kind and its numbers, however it was encoded.
    pub fn material(&self) -> Vec<u8> {
        let (kind, bytes) = match &self.0 {
            Kind::Ed25519(key) => (b'e', key.as_bytes().to_vec()),
            Kind::P256(key) => (b'2', key.to_sec1_bytes().into_vec()),
            Kind::P384(key) => (b'3', key.to_sec1_bytes().into_vec()),
            // The modulus alone: a second exponent for it comes from the same secret primes.
            Kind::Rsa(key) => (b'r', key.n().to_be_bytes().to_vec()),
        };
        let mut material = alloc::vec![kind];
        material.extend_from_slice(&bytes);
        material
    }

    /// SubjectPublicKeyInfo in DER.
    pub fn to_spki_der(&self) -> Vec<u8> {
        let der = match &self.0 {
            Kind::Ed25519(key) => key.to_public_key_der(),
            Kind::P256(key) => key.to_public_key_der(),
            Kind::P384(key) => key.to_public_key_der(),
            Kind::Rsa(key) => key.to_public_key_der(),
        };
        der.expect("a key that was decoded can be encoded")
            .into_vec()
    }

    /// SubjectPublicKeyInfo in PEM.
    pub fn to_spki_pem(&self) -> String {
        let pem = match &self.0 {
            Kind::Ed25519(key) => key.to_public_key_pem(LineEnding::LF),
            Kind::P256(key) => key.to_public_key_pem(LineEnding::LF),
            Kind::P384(key) => key.to_public_key_pem(LineEnding::LF),
            Kind::Rsa(key) => key.to_public_key_pem(LineEnding::LF),
        };
        pem.expect("a key that was decoded can be encoded")
    }

    /// The key object as we write it into metadata.
    pub fn to_key(&self) -> Key {
        let (keytype, public) = match &self.0 {
            Kind::Ed25519(key) => ("ed25519", hex::encode(key.as_bytes())),
            Kind::P256(_) | Kind::P384(_) => ("ecdsa", self.to_spki_pem()),
            Kind::Rsa(_) => ("rsa", self.to_spki_pem()),
        };
        let keyval = Map::from([("public".to_string(), Value::from(public))]);
        let object = Map::from([
            ("keytype".to_string(), Value::from(keytype)),
            ("keyval".to_string(), Value::from(keyval)),
            ("scheme".to_string(), Value::from(self.scheme().as_str())),
        ]);
        Key {
            object,
            public: Some(self.clone()),
        }
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.material() == other.material()
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PublicKey({} {})",
            self.scheme().as_str(),
            self.to_key().id().short()
        )
    }
}

/// A key object as metadata lists it: all its members, and the key in it where we can use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    object: Map,
    public: Option<PublicKey>,
}

impl Key {
    /// Reads a key object. Unknown kinds, and keys that do not decode, are carried without a
    /// [`PublicKey`]; they verify nothing.
    pub fn from_map(object: Map) -> Self {
        let public = read_public(&object);
        Self { object, public }
    }

    /// The key, where it is of a kind that we verify.
    pub fn public(&self) -> Option<&PublicKey> {
        self.public.as_ref()
    }

    /// All members, unknown ones too.
    pub fn object(&self) -> &Map {
        &self.object
    }

    /// SHA-256 of the canonical form, all members included.
    pub fn id(&self) -> KeyId {
        let bytes = json::canonical(&Value::Object(self.object.clone()));
        KeyId(Digest::of(&bytes).to_string())
    }
}

fn read_public(object: &Map) -> Option<PublicKey> {
    let text = |name: &str| object.get(name)?.as_str();
    let public = object.get("keyval")?.member("public")?.as_str()?;
    let key = match (text("keytype")?, text("scheme")?) {
        ("ed25519", "ed25519") => PublicKey::ed25519(&hex::decode_array(public)?).ok()?,
        (
            "ecdsa" | "ecdsa-sha2-nistp256" | "ecdsa-sha2-nistp384",
            "ecdsa-sha2-nistp256" | "ecdsa-sha2-nistp384",
        )
        | ("rsa", "rsassa-pss-sha256") => PublicKey::from_spki_pem(public).ok()?,
        _ => return None,
    };
    // A scheme that does not fit the curve is no key of ours.
    (key.scheme().as_str() == text("scheme")?).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ed25519_object(public: &str) -> Map {
        let bytes = alloc::format!(
            r#"{{"keytype":"ed25519","scheme":"ed25519","keyval":{{"public":"{public}"}},"x":1}}"#
        );
        json::parse(bytes.as_bytes())
            .expect("JSON")
            .as_object()
            .expect("an object")
            .clone()
    }

    /// RFC 8032 section 7.1, test 1.
    const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

    #[test]
    fn one_key_under_two_ids_is_one_key() {
        let plain = Key::from_map(ed25519_object(PUBLIC));
        let shouted = Key::from_map(ed25519_object(&PUBLIC.to_uppercase()));
        assert_ne!(plain.id(), shouted.id());
        assert_eq!(plain.public(), shouted.public());
    }

    #[test]
    fn unknown_and_weak_keys_are_carried_without_trust() {
        let mut unknown = ed25519_object(PUBLIC);
        unknown.insert("scheme".into(), "ml-dsa-65".into());
        assert!(Key::from_map(unknown).public().is_none());
        let zero = "00".repeat(32);
        assert!(Key::from_map(ed25519_object(&zero)).public().is_none());
        assert_eq!(Key::from_map(ed25519_object(&zero)).object().len(), 4);
    }

    #[test]
    fn rfc_8032_vector() {
        let key = Key::from_map(ed25519_object(PUBLIC));
        let signature = hex::decode(
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39\
             701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        )
        .expect("hex");
        let key = key.public().expect("an Ed25519 key");
        assert!(key.verify(b"", &signature));
        assert!(!key.verify(b"x", &signature));
        assert!(!key.verify(b"", &signature[..63]));
    }

    #[test]
    fn spki_comes_back() {
        let key = PublicKey::ed25519(&hex::decode_array(PUBLIC).expect("hex")).expect("a key");
        assert_eq!(
            PublicKey::from_spki_pem(&key.to_spki_pem()),
            Ok(key.clone())
        );
        assert_eq!(PublicKey::from_spki_pem("nonsense"), Err(KeyError));
        assert_eq!(
            Key::from_map(key.to_key().object().clone()).public(),
            Some(&key)
        );
    }
}
