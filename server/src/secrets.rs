//! Seals what must stay secret though others see the disk: second-factor seeds, tokens, keys.
//!
//! ```text
//!   sealed = 1 | key id (4) | salt (32) | AES-256-GCM ciphertext and tag
//!   key    = HKDF-SHA256(secret of the key file, salt), used once, so the nonce is zero
//!   bound to a context: what it is and whose, so that it cannot be moved to another place
//! ```
//!
//! The key file lies outside the store's folder and outside every backup, or comes as a systemd
//! credential. Each line `ampoule-key-1 HEX` is a key: the first seals, all of them unseal, so a
//! key is replaced by putting a new line above the old one.
//!
//! Invariants:
//! - Equal plain bytes do not look equal when sealed, and nothing sealed opens in another context.
//! - Keys and what was unsealed are zeroed when dropped and have no `Debug`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ampoule_protocol::digest::Digest;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use data_encoding::HEXLOWER;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use zeroize::Zeroizing;

use crate::config::Config;
use crate::file;

/// Keys of one file: the newest, and old ones until everything was sealed anew.
const KEYS_MAX: usize = 8;
/// Bytes of a key file.
const FILE_LEN_MAX: u64 = 4096;
/// Bytes of a context.
const CONTEXT_LEN_MAX: usize = 512;
const LINE_HEAD: &str = "ampoule-key-1 ";
const FORMAT: u8 = 1;
const ID_LEN: usize = 4;
const SALT_LEN: usize = 32;
const HEAD_LEN: usize = 1 + ID_LEN + SALT_LEN;
const INFO: &[u8] = b"ampoule sealed 1";

/// Why something is not sealed or unsealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key file cannot be used.
    #[error("the key file {path:?} {fault}")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What was found.
        fault: String,
    },
    /// The system gives no randomness.
    #[error("no randomness: {0}")]
    Randomness(String),
    /// What should be unsealed was made by something else.
    #[error("what should be unsealed was never sealed by this program")]
    NotSealed,
    /// It was sealed with a key that the file does not have.
    #[error("it was sealed with key {0}, which is not in the key file")]
    UnknownKey(String),
    /// It was altered, or belongs to another place.
    #[error("what was sealed as {0:?} was altered, or belongs to another place")]
    Altered(String),
    /// A context that is empty or too long.
    #[error("a context has 1 to 512 bytes")]
    Context,
}

/// The keys that seal.
pub struct Sealer {
    /// The first seals.
    keys: Vec<([u8; ID_LEN], Zeroizing<[u8; 32]>)>,
}

impl Sealer {
    /// The one that the configuration names, if it names one.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn configured(config: &Config) -> Result<Option<Self>, SealError> {
        let secrets = config.secrets.as_ref();
        secrets
            .map(|secrets| Self::open(&secrets.key_file))
            .transpose()
    }

    /// Reads the key file, which nobody but its owner may read.
    ///
    /// # Errors
    /// It cannot be read, others may read it, or a line is no key.
    pub fn open(path: &Path) -> Result<Self, SealError> {
        let fault = |fault: String| SealError::KeyFile {
            path: path.to_path_buf(),
            fault,
        };
        let said = |error: std::io::Error| fault(format!("cannot be read: {error}"));
        let mode = std::fs::metadata(path).map_err(said)?.permissions().mode();
        if mode & 0o077 != 0 {
            let mode = mode & 0o777;
            return Err(fault(format!(
                "may be read by others (mode {mode:o}, expected 600)"
            )));
        }
        let text = file::read_text(path, FILE_LEN_MAX);
        let text = Zeroizing::new(text.map_err(|error| {
            let cause = std::error::Error::source(&error);
            fault(format!(
                "cannot be read: {}",
                cause.map_or_else(|| error.to_string(), ToString::to_string)
            ))
        })?);
        Self::parse(&text).map_err(fault)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut keys = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let key = line
                .strip_prefix(LINE_HEAD)
                .and_then(|hex| unhex(hex.trim()));
            let key = key.ok_or_else(|| {
                format!("has a line {number} that is not \"ampoule-key-1\" and 64 hex digits")
            })?;
            keys.push((id_of(&key), key));
        }
        if keys.is_empty() || keys.len() > KEYS_MAX {
            return Err(format!("has {} keys, expected 1 to {KEYS_MAX}", keys.len()));
        }
        Ok(Self { keys })
    }

    /// A line for a key file, of a new key.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn new_line() -> Result<Zeroizing<String>, SealError> {
        let mut key = Zeroizing::new([0; 32]);
        random(&mut *key)?;
        // As long as it becomes at once: growing would leave copies behind.
        let mut line = Zeroizing::new(String::with_capacity(LINE_HEAD.len() + 65));
        line.push_str(LINE_HEAD);
        for byte in key.iter() {
            for digit in [byte >> 4, byte & 15] {
                line.push(char::from_digit(u32::from(digit), 16).expect("below 16"));
            }
        }
        line.push('\n');
        Ok(line)
    }

    /// Seals `plain` as what `context` names: `totp/anna`.
    ///
    /// # Errors
    /// The system gives no randomness, or the context is out of bounds.
    pub fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        check(context)?;
        let (id, key) = &self.keys[0];
        let mut salt = [0; SALT_LEN];
        random(&mut salt)?;
        let mut body = plain.to_vec();
        once(key, &salt)
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key([0; 12]),
                Aad::from(context.as_bytes()),
                &mut body,
            )
            .map_err(|_| SealError::Altered(context.to_owned()))?;
        Ok([&[FORMAT][..], id, &salt, &body].concat())
    }

    /// What was sealed as `context`.
    ///
    /// # Errors
    /// It was not sealed by us, or with a key that we have not, or was altered or moved.
    pub fn unseal(&self, context: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        check(context)?;
        let (head, body) = sealed
            .split_first_chunk::<HEAD_LEN>()
            .filter(|(head, _)| head[0] == FORMAT)
            .ok_or(SealError::NotSealed)?;
        let (id, salt) = head[1..].split_at(ID_LEN);
        let found = self.keys.iter().find(|(known, _)| known == id);
        let (_, key) = found.ok_or_else(|| SealError::UnknownKey(HEXLOWER.encode(id)))?;
        let mut body = Zeroizing::new(body.to_vec());
        let plain_len = once(key, salt)
            .open_in_place(
                Nonce::assume_unique_for_key([0; 12]),
                Aad::from(context.as_bytes()),
                &mut body,
            )
            .map_err(|_| SealError::Altered(context.to_owned()))?
            .len();
        body.truncate(plain_len);
        Ok(body)
    }

    /// Whether the newest key sealed it; otherwise it should be sealed anew.
    pub fn is_newest(&self, sealed: &[u8]) -> bool {
        sealed.get(1..=ID_LEN) == Some(&self.keys[0].0)
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

/// This process leaves no core file, and others of its user cannot read its memory.
///
/// # Errors
/// The system refused.
pub fn forbid_core_dumps() -> std::io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

fn check(context: &str) -> Result<(), SealError> {
    if (1..=CONTEXT_LEN_MAX).contains(&context.len()) {
        Ok(())
    } else {
        Err(SealError::Context)
    }
}

/// The key of one sealing.
fn once(secret: &[u8; 32], salt: &[u8]) -> LessSafeKey {
    let prk = Salt::new(HKDF_SHA256, salt).extract(secret);
    let key = prk.expand(&[INFO], &AES_256_GCM);
    let key = key.expect("32 bytes can be expanded from SHA-256");
    LessSafeKey::new(UnboundKey::from(key))
}

fn id_of(key: &[u8; 32]) -> [u8; ID_LEN] {
    let named = Zeroizing::new([&b"ampoule key id 1"[..], key].concat());
    let digest = Digest::of(&named);
    digest.as_bytes()[..ID_LEN]
        .try_into()
        .expect("a digest is longer")
}

fn random(bytes: &mut [u8]) -> Result<(), SealError> {
    getrandom::fill(bytes).map_err(|error| SealError::Randomness(error.to_string()))
}

fn unhex(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str =
        "ampoule-key-1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    /// Catches: a context that is not bound, a tag that is not checked, a salt used twice.
    #[test]
    fn what_is_sealed_opens_in_its_place_only() {
        let sealer = Sealer::parse(OLD).unwrap();
        let sealed = sealer.seal("totp/anna", b"seed").unwrap();
        assert_eq!(&**sealer.unseal("totp/anna", &sealed).unwrap(), b"seed");
        assert_ne!(sealed, sealer.seal("totp/anna", b"seed").unwrap());
        assert!(!sealed.windows(4).any(|part| part == b"seed"));
        let moved = sealer.unseal("totp/bert", &sealed);
        assert!(matches!(moved, Err(SealError::Altered(_))));
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert!(sealer.unseal("totp/anna", &bad).is_err(), "byte {at}");
            assert!(
                sealer.unseal("totp/anna", &sealed[..at]).is_err(),
                "cut {at}"
            );
        }
        assert!(sealer.seal("", b"seed").is_err());
    }

    #[test]
    fn a_new_key_seals_and_the_old_one_still_opens() {
        let old = Sealer::parse(OLD).unwrap();
        let sealed = old.seal("token", b"secret").unwrap();
        let line = Sealer::new_line().unwrap();
        let both = Sealer::parse(&format!("# two\n{}{OLD}\n", &*line)).unwrap();
        assert_eq!(&**both.unseal("token", &sealed).unwrap(), b"secret");
        assert!(!both.is_newest(&sealed));
        let anew = both.seal("token", b"secret").unwrap();
        assert!(both.is_newest(&anew));
        assert!(matches!(
            old.unseal("token", &anew),
            Err(SealError::UnknownKey(_))
        ));
    }

    #[test]
    fn a_key_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        std::fs::write(&path, OLD).unwrap();
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode));
        mode(0o640).unwrap();
        let refused = Sealer::open(&path).unwrap_err().to_string();
        assert!(refused.ends_with("may be read by others (mode 640, expected 600)"));
        mode(0o400).unwrap();
        assert!(Sealer::open(&path).is_ok());
        for bad in ["", "ampoule-key-1 00", "ampoule-key-2 11", "# nothing"] {
            assert!(Sealer::parse(bad).is_err(), "{bad:?}");
        }
    }
}
