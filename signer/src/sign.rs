//! Signing a request, merging copies of one, and taking in signatures made elsewhere.
//!
//! Each works on a file, needs no workspace, and ends in one atomic replacement of that file: a
//! crash leaves the request with or without the new signature, and never without an old one.

use std::path::Path;

use ampoule_protocol::key::KeyId;
use ampoule_protocol::sign::Sign;

use crate::durable::{self, Disk};
use crate::error::{OperatorError, SignerError};
use crate::keys::sign_checked;
use crate::layout::SETTINGS_FILE;
use crate::lock::Lock;
use crate::request::Request;

/// A key that is ready to sign.
pub struct OpenKey {
    /// For people.
    pub name: String,
    /// It.
    pub key: Box<dyn Sign>,
}

/// Takes the lock that guards the request at `path`: its workspace's, or its folder's.
pub fn lock_of(path: &Path) -> Result<Lock, SignerError> {
    let folder = durable::folder_of(path);
    let above = folder.join("..");
    let workspace = above.join(SETTINGS_FILE).is_file();
    Lock::of(if workspace { &above } else { folder })
}

/// Signs a request in memory with every key that it asks for; the ids signed under.
///
/// # Errors
/// [`OperatorError::KeyNotAsked`] where it asks for none of them.
pub fn sign(request: &mut Request, keys: &[OpenKey]) -> Result<Vec<KeyId>, SignerError> {
    require_asked(request, keys)?;
    let message = request.envelope.signed_bytes();
    let mut signed = Vec::new();
    for OpenKey { name, key } in keys {
        let ids = request.ids_of(key.public_key())?;
        if ids.is_empty() {
            continue;
        }
        let signature = sign_checked(key.as_ref(), name, &message)?;
        for id in ids {
            request.attach(&id, &signature)?;
            signed.push(id);
        }
    }
    Ok(signed)
}

/// Refuses keys of which none is asked for.
pub fn require_asked(request: &Request, keys: &[OpenKey]) -> Result<(), SignerError> {
    for key in keys {
        if !request.ids_of(key.key.public_key())?.is_empty() {
            return Ok(());
        }
    }
    let Some(first) = keys.first() else {
        return Ok(());
    };
    let key = first.key.public_key().to_key().id().short();
    Err(OperatorError::KeyNotAsked {
        key,
        role: request.title(),
    }
    .into())
}

/// Merges `copies` into the request at `path`; how many signatures were new.
pub fn merge(disk: &dyn Disk, path: &Path, copies: &[&Path]) -> Result<usize, SignerError> {
    let _lock = lock_of(path)?;
    let mut request = Request::load(path)?;
    let mut added = 0;
    for copy in copies {
        added += request.merge(path, &Request::load(copy)?, copy)?;
    }
    if added > 0 {
        request.store(disk, path)?;
    }
    Ok(added)
}

/// Attaches a signature that was made elsewhere to the request at `path`.
pub fn attach(
    disk: &dyn Disk,
    path: &Path,
    id: &KeyId,
    signature: &[u8],
) -> Result<Request, SignerError> {
    let _lock = lock_of(path)?;
    let mut request = Request::load(path)?;
    request.attach(id, signature)?;
    request.store(disk, path)?;
    Ok(request)
}
