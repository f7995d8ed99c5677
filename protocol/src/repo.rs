//! The repository side of the model: draft, sign partially, merge.
//!
//! A metadata file travels to each key holder; whoever has it adds a signature, in any order, and
//! two copies that were signed apart are merged. Signing changes no byte of the payload.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::error::{Coded, Guilty};
use crate::json::{self, Value};
use crate::key::{Key, KeyId};
use crate::metadata::{Envelope, EnvelopeError, Payload, Signature};
use crate::sign::{Sign, SignError};
use crate::trust::KeyRing;

/// A payload with the signatures that it has so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    signed: Value,
    signatures: BTreeMap<KeyId, Signature>,
}

/// Who has signed a draft, and who has to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignStatus {
    /// Signatures needed.
    pub threshold: u64,
    /// Ids whose signatures verify, one per key material.
    pub signed: Vec<KeyId>,
    /// Ids of the ring that have not signed.
    pub missing: Vec<KeyId>,
}

impl SignStatus {
    /// Whether the threshold is met.
    pub fn is_met(&self) -> bool {
        self.signed.len() as u64 >= self.threshold
    }
}

/// Why a draft could not be signed or merged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RepoError {
    /// Bytes that are no metadata.
    #[error("the draft is not well-formed metadata")]
    Malformed(#[from] EnvelopeError),
    /// The key failed.
    #[error("key {keyid} could not sign")]
    Sign {
        /// Which one, shortened.
        keyid: String,
        /// Why.
        source: SignError,
    },
    /// Copies of different payloads.
    #[error("the two files do not carry the same payload, so their signatures cannot be merged")]
    OtherPayload,
    /// A signature that does not verify.
    #[error("the signature said to be by key {keyid} does not verify")]
    BadSignature {
        /// Which key, shortened.
        keyid: String,
    },
}

impl Coded for RepoError {
    fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "draft-malformed",
            Self::Sign { .. } => "draft-key-failed",
            Self::OtherPayload => "draft-other-payload",
            Self::BadSignature { .. } => "draft-bad-signature",
        }
    }

    fn guilty(&self) -> Guilty {
        Guilty::Operator
    }
}

impl Draft {
    /// Of this payload, signed by nobody.
    pub fn new(payload: &impl Payload) -> Self {
        Self::of_value(payload.to_signed())
    }

    /// Of any object that is signed the way metadata is (receipts are).
    pub fn of_value(signed: Value) -> Self {
        Self {
            signed,
            signatures: BTreeMap::new(),
        }
    }

    /// Reads a file with the signatures that it has, none of them believed.
    pub fn parse(bytes: &[u8]) -> Result<Self, RepoError> {
        Ok(Self::from_envelope(&Envelope::parse(bytes)?))
    }

    /// From an envelope.
    pub fn from_envelope(envelope: &Envelope) -> Self {
        let signatures = envelope.signatures().iter();
        Self {
            signed: envelope.unverified().clone(),
            signatures: signatures
                .map(|one| (one.keyid.clone(), one.clone()))
                .collect(),
        }
    }

    /// The payload.
    pub fn payload(&self) -> &Value {
        &self.signed
    }

    /// The bytes that signatures cover.
    pub fn signed_bytes(&self) -> Vec<u8> {
        json::canonical(&self.signed)
    }

    /// Adds this key's signature, replacing an older one of the same id.
    pub fn sign(&mut self, key: &dyn Sign) -> Result<KeyId, RepoError> {
        let keyid = key.public_key().to_key().id();
        self.sign_as(key, keyid)
    }

    /// Adds this key's signature under an id that is not its own: other people's repositories
    /// name keys freely (TAP 12).
    pub fn sign_as(&mut self, key: &dyn Sign, keyid: KeyId) -> Result<KeyId, RepoError> {
        let bytes = key
            .sign(&self.signed_bytes())
            .map_err(|source| RepoError::Sign {
                keyid: keyid.short(),
                source,
            })?;
        self.signatures
            .insert(keyid.clone(), Signature::new(keyid.clone(), &bytes));
        Ok(keyid)
    }

    /// Adds a signature that was made elsewhere, if it verifies.
    pub fn import(&mut self, key: &Key, bytes: &[u8]) -> Result<KeyId, RepoError> {
        let keyid = key.id();
        let verifies = key
            .public()
            .is_some_and(|key| key.verify(&self.signed_bytes(), bytes));
        if !verifies {
            return Err(RepoError::BadSignature {
                keyid: keyid.short(),
            });
        }
        self.signatures
            .insert(keyid.clone(), Signature::new(keyid.clone(), bytes));
        Ok(keyid)
    }

    /// Takes over the signatures of another copy. Where both have one of the same id and they
    /// differ, ours stays.
    pub fn merge(&mut self, other: &Self) -> Result<(), RepoError> {
        if self.signed_bytes() != other.signed_bytes() {
            return Err(RepoError::OtherPayload);
        }
        for (keyid, signature) in &other.signatures {
            self.signatures
                .entry(keyid.clone())
                .or_insert_with(|| signature.clone());
        }
        Ok(())
    }

    /// Drops every signature that no key of these rings made, or that does not verify.
    pub fn retain_verified(&mut self, rings: &[&KeyRing<'_>]) {
        let envelope = self.envelope();
        let good: Vec<KeyId> = rings
            .iter()
            .flat_map(|ring| ring.signers(&envelope))
            .collect();
        self.signatures.retain(|keyid, _| good.contains(keyid));
    }

    /// Who has signed, and who has to.
    pub fn status(&self, ring: &KeyRing<'_>) -> SignStatus {
        let signed = ring.signers(&self.envelope());
        let missing = ring
            .keys()
            .map(|(id, _)| id.clone())
            .filter(|id| !signed.contains(id));
        SignStatus {
            threshold: ring.threshold(),
            missing: missing.collect(),
            signed,
        }
    }

    /// The draft as an envelope.
    pub fn envelope(&self) -> Envelope {
        Envelope::from_parts(
            self.signatures.values().cloned().collect(),
            self.signed.clone(),
        )
    }

    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.envelope().to_bytes()
    }
}

/// The name of a role's file while it is a draft, for people and for folders.
pub fn draft_name(role: &str, version: crate::version::MetaVersion) -> String {
    let stem = crate::name::percent_encode(role);
    [version.to_string().as_str(), ".", &stem, ".json"].concat()
}
