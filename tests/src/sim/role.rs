//! One role of the simulator: its payload, its number, its signers.

use std::ops::{Deref, DerefMut};

use ampoule_protocol::hex;
use ampoule_protocol::json::{self, Map, Value};
use ampoule_protocol::metadata::Payload;
use ampoule_protocol::time::UtcTime;

use super::keys::TestKey;

/// A payload under construction. Number and expiry stand apart as plain values, so that a test
/// bends them in one line and nothing checks them before the device does.
#[derive(Clone)]
pub struct Role<T> {
    /// The version it will be published as; 0 is possible here.
    pub version: u64,
    /// When it will expire.
    pub expires: UtcTime,
    /// Who signs at the next publication, whatever root or delegator say.
    pub signers: Vec<TestKey>,
    payload: T,
}

impl<T> Deref for Role<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.payload
    }
}

impl<T> DerefMut for Role<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.payload
    }
}

impl<T: Payload> Role<T> {
    /// Version 1 of `payload`.
    pub fn new(payload: T, signers: Vec<TestKey>) -> Self {
        Self {
            version: 1,
            expires: payload.expires(),
            signers,
            payload,
        }
    }

    /// The `signed` member.
    pub fn to_signed(&self) -> Value {
        let mut signed = self.payload.to_signed();
        if let Value::Object(members) = &mut signed {
            members.insert("version".into(), self.version.into());
            members.insert("expires".into(), self.expires.to_string().into());
        }
        signed
    }

    /// The file: signed by all signers.
    pub fn to_file(&self) -> Vec<u8> {
        sign(&self.to_signed(), &self.signers)
    }
}

/// An envelope around `signed`, with a signature by each of `signers`.
pub fn sign(signed: &Value, signers: &[TestKey]) -> Vec<u8> {
    let message = json::canonical(signed);
    let signatures = signers
        .iter()
        .map(|key| signature(key.id.as_str(), &key.sign(&message)));
    envelope(signatures.collect(), signed.clone())
}

/// One entry of `signatures`.
pub fn signature(keyid: &str, bytes: &[u8]) -> Value {
    Value::Object(Map::from([
        ("keyid".into(), keyid.into()),
        ("sig".into(), hex::encode(bytes).into()),
    ]))
}

/// A metadata file of these parts, sound or not.
pub fn envelope(signatures: Vec<Value>, signed: Value) -> Vec<u8> {
    let file = Map::from([
        ("signatures".into(), signatures.into()),
        ("signed".into(), signed),
    ]);
    json::compact(&Value::Object(file))
}
