//! Keys in files: PKCS#8 in PEM, encrypted as an age file under a passphrase (scrypt).
//!
//! `age -d alice.key` opens one without us, so a holder can recover a key with the tools of their
//! house. A file may hold the PEM bare: that is for the timestamp key, which a server must read
//! with nobody present, and for nothing else.

use std::path::{Path, PathBuf};

use age::secrecy::SecretString;
use ampoule_protocol::sign::{self, Ed25519Key, P256Key, Sign};
use zeroize::Zeroizing;

use super::{KeyError, KeySource, Secrets};
use crate::durable::{self, Access, Disk};

const AGE_MAGIC: &[u8] = b"age-encryption.org/v1\n";
const PEM_MAGIC: &[u8] = b"-----BEGIN PRIVATE KEY-----";

/// The work factor of new files: 2^18 rounds take about a second and 256 MiB.
pub const WORK_FACTOR: u8 = 18;
/// Below this a passphrase is guessed too cheaply; tests go lower on purpose.
pub const WORK_FACTOR_SAFE: u8 = 15;
/// What a file may ask of us; 2^22 rounds take 16 seconds and 4 GiB, and more is an attack.
pub const WORK_FACTOR_MAX: u8 = 22;

/// The kinds of keys that we make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// The default: small, fast, deterministic.
    Ed25519,
    /// ECDSA on P-256, where others in the house cannot read Ed25519.
    P256,
}

/// How a key file is protected.
pub enum Protection {
    /// By a passphrase, at this scrypt work factor.
    Passphrase(SecretString, u8),
    /// By nothing but the rights of the file.
    None,
}

/// A key in a file, not yet opened.
pub struct FileKey {
    path: PathBuf,
    bytes: Zeroizing<Vec<u8>>,
}

impl FileKey {
    /// `bytes` are what [`is_key_file`] recognised at `path`.
    pub fn new(path: &Path, bytes: Vec<u8>) -> Self {
        Self {
            path: path.to_owned(),
            bytes: Zeroizing::new(bytes),
        }
    }
}

/// Whether these are the bytes of a key file, encrypted or bare.
pub fn is_key_file(bytes: &[u8]) -> bool {
    bytes.starts_with(AGE_MAGIC) || bytes.starts_with(PEM_MAGIC)
}

impl KeySource for FileKey {
    fn describe(&self) -> String {
        format!("\"{}\"", self.path.display())
    }

    fn open(&self, secrets: &mut dyn Secrets) -> Result<Box<dyn Sign>, KeyError> {
        let pem = if self.bytes.starts_with(AGE_MAGIC) {
            decrypt(&self.path, &self.bytes, secrets.existing(&self.describe())?)?
        } else {
            self.bytes.clone()
        };
        let not_a_key = || KeyError::NotAKey {
            path: self.path.clone(),
        };
        let pem = std::str::from_utf8(&pem).map_err(|_| not_a_key())?;
        sign::from_pkcs8_pem(pem)
            .map(|key| key as Box<dyn Sign>)
            .map_err(|_| not_a_key())
    }
}

/// Makes a new key; its PEM.
pub fn generate(kind: Kind) -> Result<Zeroizing<String>, KeyError> {
    // A random number is no P-256 scalar with a chance of 2^-32; eight such in a row are no chance.
    for _ in 0..8 {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(|_| KeyError::NoRandomness)?;
        let pem = match kind {
            Kind::Ed25519 => Ed25519Key::from_seed(&seed).map(|key| key.to_pkcs8_pem()),
            Kind::P256 => P256Key::from_scalar(&seed).map(|key| key.to_pkcs8_pem()),
        };
        if let Ok(pem) = pem {
            return Ok(pem);
        }
    }
    Err(KeyError::NoRandomness)
}

/// Writes a key file, readable by its owner alone.
pub fn store(
    disk: &dyn Disk,
    path: &Path,
    pem: &str,
    protection: Protection,
) -> Result<(), KeyError> {
    let bytes = match protection {
        Protection::None => Zeroizing::new(pem.as_bytes().to_vec()),
        Protection::Passphrase(passphrase, work_factor) => {
            let mut recipient = age::scrypt::Recipient::new(passphrase);
            recipient.set_work_factor(work_factor.clamp(1, WORK_FACTOR_MAX));
            let sealed =
                age::encrypt(&recipient, pem.as_bytes()).map_err(|_| KeyError::NotAKey {
                    path: path.to_owned(),
                })?;
            Zeroizing::new(sealed)
        }
    };
    Ok(durable::put(disk, path, &bytes, Access::Private)?)
}

fn decrypt(
    path: &Path,
    sealed: &[u8],
    passphrase: SecretString,
) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    use age::DecryptError as E;
    let mut identity = age::scrypt::Identity::new(passphrase);
    identity.set_max_work_factor(WORK_FACTOR_MAX);
    age::decrypt(&identity, sealed)
        .map(Zeroizing::new)
        .map_err(|e| match e {
            E::DecryptionFailed | E::KeyDecryptionFailed => KeyError::WrongPassphrase {
                path: path.to_owned(),
            },
            E::ExcessiveWork { required, .. } => KeyError::TooMuchWork {
                path: path.to_owned(),
                required,
                max: WORK_FACTOR_MAX,
            },
            // The rest differ in which part of the file is damaged. (Plugins add variants where some
            // other crate of the build turns them on, so this match cannot be closed.)
            _ => KeyError::NotAKey {
                path: path.to_owned(),
            },
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::RealDisk;
    use crate::keys::{locate, secrets::FromFile, sign_checked};

    #[test]
    fn a_key_file_opens_with_its_passphrase_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        let right = dir.path().join("right");
        let wrong = dir.path().join("wrong");
        std::fs::write(&right, "correct horse\n").unwrap();
        std::fs::write(&wrong, "battery staple\n").unwrap();
        for kind in [Kind::Ed25519, Kind::P256] {
            let pem = generate(kind).unwrap();
            let passphrase = SecretString::from("correct horse".to_owned());
            store(
                &RealDisk,
                &path,
                &pem,
                Protection::Passphrase(passphrase, 1),
            )
            .unwrap();
            assert!(
                !std::fs::read(&path)
                    .unwrap()
                    .windows(7)
                    .any(|w| w == b"PRIVATE")
            );
            let source = locate(&path).unwrap();
            let key = source.open(&mut FromFile::new(right.clone())).unwrap();
            sign_checked(key.as_ref(), "it", b"message").unwrap();
            assert!(matches!(
                source.open(&mut FromFile::new(wrong.clone())),
                Err(KeyError::WrongPassphrase { .. })
            ));
        }
    }

    #[test]
    fn a_damaged_key_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        let secret = dir.path().join("secret");
        std::fs::write(&secret, "s\n").unwrap();
        let pem = generate(Kind::Ed25519).unwrap();
        let protection = Protection::Passphrase(SecretString::from("s".to_owned()), 1);
        store(&RealDisk, &path, &pem, protection).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(
            locate(&path)
                .unwrap()
                .open(&mut FromFile::new(secret))
                .is_err()
        );
        std::fs::write(&path, b"nonsense").unwrap();
        assert!(matches!(locate(&path), Err(KeyError::NotAKey { .. })));
    }
}
