//! Passwords, as argon2id hashes (RFC 9106), and the other secrets, which are random and need only
//! a plain hash.

use ampoule_protocol::digest::Digest;
use argon2::{Algorithm, Argon2, Params, Version};
use data_encoding::{BASE32_NOPAD, HEXLOWER};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::AccountError;
use super::totp::same;

/// Bytes of a password.
const LEN_MIN: usize = 12;
/// Longer ones are refused before they cost anything.
const LEN_MAX: usize = 256;
/// 19 MiB, two passes, one lane: the first of OWASP's equal choices.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;

/// A hash, with all that it takes to make it again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hashed {
    memory_kib: u32,
    passes: u32,
    salt: String,
    hash: String,
}

impl Hashed {
    /// Of a new password.
    ///
    /// # Errors
    /// It is too short or too long, or the system gives no randomness.
    pub fn new(password: &str) -> Result<Self, AccountError> {
        if !(LEN_MIN..=LEN_MAX).contains(&password.len()) {
            return Err(AccountError::Bad("a password has 12 to 256 bytes".into()));
        }
        let mut salt = [0; 16];
        random(&mut salt)?;
        let hash = hash(password, &salt, MEMORY_KIB, PASSES)?;
        Ok(Self {
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            salt: HEXLOWER.encode(&salt),
            hash: HEXLOWER.encode(&*hash),
        })
    }

    /// Whether this is the password. Takes as long where it is not.
    pub fn is(&self, password: &str) -> bool {
        let salt = HEXLOWER.decode(self.salt.as_bytes()).unwrap_or_default();
        if password.len() > LEN_MAX {
            return false;
        }
        hash(password, &salt, self.memory_kib, self.passes)
            .is_ok_and(|found| same(HEXLOWER.encode(&*found).as_bytes(), self.hash.as_bytes()))
    }
}

/// Takes as long as [`Hashed::is`], for names that there are not.
pub fn pretend(password: &str) {
    if password.len() <= LEN_MAX {
        let _ = hash(password, &[0; 16], MEMORY_KIB, PASSES);
    }
}

fn hash(
    password: &str,
    salt: &[u8],
    memory_kib: u32,
    passes: u32,
) -> Result<Zeroizing<[u8; 32]>, AccountError> {
    let fault = |error: argon2::Error| AccountError::Damaged(error.to_string());
    let params = Params::new(memory_kib, passes, 1, Some(32)).map_err(fault)?;
    let mut out = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.as_bytes(), salt, &mut *out)
        .map_err(fault)?;
    Ok(out)
}

/// A random secret, spelled in small letters and digits 2 to 7: 128 bits have 26 of them.
///
/// # Errors
/// The system gives no randomness.
pub fn secret<const LEN: usize>() -> Result<Zeroizing<String>, AccountError> {
    let mut bytes = Zeroizing::new([0; LEN]);
    random(&mut *bytes)?;
    let mut text = Zeroizing::new(BASE32_NOPAD.encode(&*bytes));
    text.make_ascii_lowercase();
    Ok(text)
}

/// The hash of a random secret, for the store.
pub fn digest(secret: &str) -> Digest {
    Digest::of(secret.trim().to_ascii_lowercase().as_bytes())
}

/// Fills `bytes`.
///
/// # Errors
/// The system gives no randomness.
pub fn random(bytes: &mut [u8]) -> Result<(), AccountError> {
    getrandom::fill(bytes)
        .map_err(|error| AccountError::Damaged(format!("no random bytes: {error}")))
}
