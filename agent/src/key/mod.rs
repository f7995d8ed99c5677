//! The device's own key: a file here, or elsewhere behind a command ([`hook`]).
//!
//! The key signs requests for certificates, TLS handshakes and receipts. Which public key it has is read
//! from the certificate, so that a device whose TPM or token does not answer yet still starts, ends its
//! trial and goes back.

pub mod hook;
#[cfg(feature = "pkcs11")]
pub mod pkcs11;

use std::path::Path;
use std::sync::Arc;

use ampoule_protocol::key::PublicKey;
use ampoule_protocol::sign::{self, Sign};

use crate::config;
use hook::{Hook, HookKey};

/// A key that signs.
pub type DeviceKey = Arc<dyn Sign + Send + Sync>;

/// What every PEM has.
const PEM: &[u8] = b"-----BEGIN ";

/// Whether what is in a key file is a key, and not the description of a command.
pub fn is_pem(file: &[u8]) -> bool {
    file.windows(PEM.len()).any(|window| window == PEM)
}

/// Whether the key of `path` is behind a command.
pub fn is_hook(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|file| !is_pem(&file))
}

/// The command that the file describes.
///
/// # Errors
/// All that is wrong with the file, in one line.
pub fn described(path: &Path) -> Result<Hook, String> {
    config::hook(path).map_err(|error| {
        let faults: Vec<String> = error.0.iter().map(ToString::to_string).collect();
        format!("{error}: {}", faults.join("; "))
    })
}

/// The key that `file`, found at `path`, holds or describes, which is the one of `public`.
///
/// # Errors
/// In words, of the file: it is neither, or holds another key.
pub fn open(path: &Path, file: &[u8], public: &PublicKey) -> Result<DeviceKey, String> {
    if !is_pem(file) {
        return Ok(Arc::new(HookKey::new(described(path)?, public.clone())));
    }
    let text = std::str::from_utf8(file).map_err(|_| "is not PEM".to_owned())?;
    let key = sign::from_pkcs8_pem(text).map_err(|error| format!("is {error}"))?;
    if key.public_key() != public {
        return Err("is not the key of the device's certificate".to_owned());
    }
    Ok(Arc::from(key))
}
