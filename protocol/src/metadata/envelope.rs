//! The envelope: a payload with the signatures over its canonical form.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::FormatError;
use super::fields::Fields;
use crate::hex;
use crate::json::{self, JsonError, Map, Value};
use crate::key::KeyId;
use crate::limits::SIGNATURES_MAX;

/// One signature, as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The key that is said to have made it.
    pub keyid: KeyId,
    /// Its hex digits as they were found; an empty one marks a place that is not signed yet.
    pub sig: String,
    /// Members that we do not know, kept.
    pub extra: Map,
}

impl Signature {
    /// Of these bytes.
    pub fn new(keyid: KeyId, bytes: &[u8]) -> Self {
        Self {
            keyid,
            sig: hex::encode(bytes),
            extra: Map::new(),
        }
    }

    /// The bytes; `None` where `sig` is not hex.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        hex::decode(&self.sig)
    }
}

/// A metadata file, well-formed and not yet believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    signatures: Vec<Signature>,
    signed: Value,
}

impl Envelope {
    /// Reads a file.
    ///
    /// # Errors
    /// JSON with two readings, missing members, one key id with two signatures (TUF 1.0.34
    /// section 4.2.1: key ids must be unique), more than [`SIGNATURES_MAX`] signatures.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let value = json::parse(bytes)?;
        let mut fields = Fields::of("metadata", &value)?;
        let listed = fields.array("signatures")?;
        if listed.len() > SIGNATURES_MAX {
            return Err(fields.error("signatures", "too many").into());
        }
        let signatures = listed
            .iter()
            .map(read_signature)
            .collect::<Result<Vec<_>, FormatError>>()?;
        let unique: BTreeSet<&KeyId> = signatures.iter().map(|one| &one.keyid).collect();
        if unique.len() != signatures.len() {
            return Err(fields.error("signatures", "a key id stands twice").into());
        }
        fields.object("signed")?;
        let signed = match value {
            Value::Object(mut members) => members.remove("signed"),
            _ => None,
        };
        Ok(Self {
            signatures,
            signed: signed.expect("an object with this member"),
        })
    }

    pub(crate) fn from_parts(signatures: Vec<Signature>, signed: Value) -> Self {
        Self { signatures, signed }
    }

    /// The signatures as listed; none of them is believed.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// The payload. Whoever reads it here reads it unverified.
    pub fn unverified(&self) -> &Value {
        &self.signed
    }

    /// The bytes that signatures cover.
    pub fn signed_bytes(&self) -> Vec<u8> {
        json::canonical(&self.signed)
    }

    /// The file as we write it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let signatures = self.signatures.iter().map(|signature| {
            let mut members = signature.extra.clone();
            members.insert("keyid".into(), signature.keyid.as_str().into());
            members.insert("sig".into(), signature.sig.as_str().into());
            Value::Object(members)
        });
        let file = Map::from([
            ("signatures".to_string(), Value::Array(signatures.collect())),
            ("signed".to_string(), self.signed.clone()),
        ]);
        json::compact(&Value::Object(file))
    }
}

fn read_signature(value: &Value) -> Result<Signature, FormatError> {
    let mut fields = Fields::of("metadata.signatures", value)?;
    let keyid = KeyId::new(fields.string("keyid")?);
    let sig = fields.string("sig")?.to_string();
    Ok(Signature {
        keyid,
        sig,
        extra: fields.rest(),
    })
}

/// Bytes that are no envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not JSON in our sense.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// JSON, but not the format.
    #[error(transparent)]
    Format(#[from] FormatError),
}
