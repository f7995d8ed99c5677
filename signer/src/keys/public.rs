//! Public key files, which travel freely.
//!
//! We write the key object of TUF metadata as JSON (`NAME.pub`); we read that, and
//! SubjectPublicKeyInfo in PEM, which every other tool writes.

use std::path::Path;

use ampoule_protocol::json::{self, Value};
use ampoule_protocol::key::{Key, PublicKey};

use super::{KEY_FILE_LEN_MAX, KeyError};
use crate::durable::{self, Access, Disk};

/// Reads a public key that we can verify with.
pub fn read_usable(path: &Path) -> Result<PublicKey, KeyError> {
    read(path)?
        .public()
        .cloned()
        .ok_or_else(|| KeyError::NotAPublicKey {
            path: path.to_owned(),
        })
}

/// Reads a public key together with all members of its object.
///
/// # Errors
/// Keys of kinds that we do not verify: a role must not ask for what nobody can check.
pub fn read(path: &Path) -> Result<Key, KeyError> {
    let bytes = durable::read(path, KEY_FILE_LEN_MAX)?;
    let not_public = || KeyError::NotAPublicKey {
        path: path.to_owned(),
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| not_public())?;
    let key = if text.trim_start().starts_with('{') {
        match json::parse(&bytes) {
            Ok(Value::Object(object)) => Key::from_map(object),
            _ => return Err(not_public()),
        }
    } else {
        PublicKey::from_spki_pem(text)
            .map_err(|_| not_public())?
            .to_key()
    };
    if key.public().is_none() {
        return Err(not_public());
    }
    Ok(key)
}

/// Writes `NAME.pub`.
pub fn store(disk: &dyn Disk, path: &Path, key: &PublicKey) -> Result<(), KeyError> {
    Ok(durable::put(disk, path, &to_bytes(key), Access::Shared)?)
}

/// The bytes of `NAME.pub`.
pub fn to_bytes(key: &PublicKey) -> Vec<u8> {
    let mut bytes = json::compact(&Value::Object(key.to_key().object().clone()));
    bytes.push(b'\n');
    bytes
}
