//! Where secret keys are, and how they come to sign.
//!
//! A [`KeySource`] is a place: an encrypted file ([`mod@file`]), a token behind PKCS#11 ([`pkcs11`]),
//! a command ([`command`]). Opening it, with a passphrase or PIN where it asks for one, gives a
//! [`Sign`], and whatever that signs is verified with the public key before anyone sees it
//! ([`sign_checked`]): a token or a command may answer nonsense.
//!
//! On the command line a key is always a path. What the file holds decides: an age file or a PEM
//! is a key, a TOML is the description of a token or a command ([`locate`]).

pub mod command;
pub mod file;
pub mod pkcs11;
pub mod public;
pub mod secrets;

use std::path::{Path, PathBuf};

use ampoule_protocol::sign::{Sign, SignError};

use crate::durable;
use crate::error::DiskError;
use crate::toml_doc::{Document, Faults};

pub use secrets::Secrets;

/// Bytes of a key file we read; the largest there is has some hundred.
pub const KEY_FILE_LEN_MAX: u64 = 64 * 1024;

/// A place where a secret key is.
pub trait KeySource {
    /// For people: `"alice.key"`, `token "release"`, ….
    fn describe(&self) -> String;

    /// Makes it ready to sign, asking `secrets` for what it needs.
    fn open(&self, secrets: &mut dyn Secrets) -> Result<Box<dyn Sign>, KeyError>;
}

/// A key that cannot be read or used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The messages are the documentation of these fields.
pub enum KeyError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Faults(#[from] Faults),
    #[error("\"{}\" is not a key file", path.display())]
    NotAKey { path: PathBuf },
    #[error("\"{}\" is not a public key", path.display())]
    NotAPublicKey { path: PathBuf },
    #[error("\"{}\" does not open with this passphrase", path.display())]
    WrongPassphrase { path: PathBuf },
    #[error("\"{}\" asks for a scrypt work factor of {required}, expected at most {max}", path.display())]
    TooMuchWork {
        path: PathBuf,
        required: u8,
        max: u8,
    },
    #[error("failed to ask for the passphrase of {what}")]
    Prompt {
        what: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("failed to {action} the token \"{token}\"")]
    Token {
        action: &'static str,
        token: String,
        #[source]
        source: Box<cryptoki::error::Error>,
    },
    #[error("{what}")]
    NoSuchToken { what: String },
    #[error("{source_name} signed, but its signature does not verify with its public key")]
    WrongSignature { source_name: String },
    #[error("{source_name} failed to sign")]
    Sign {
        source_name: String,
        #[source]
        source: SignError,
    },
    #[error("no randomness from the operating system")]
    NoRandomness,
}

impl KeyError {
    /// The stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Disk(_) => "io",
            Self::Faults(_) => "faults-in-file",
            Self::NotAKey { .. } => "not-a-key",
            Self::NotAPublicKey { .. } => "not-a-public-key",
            Self::WrongPassphrase { .. } => "wrong-passphrase",
            Self::TooMuchWork { .. } => "too-much-work",
            Self::Prompt { .. } => "no-passphrase",
            Self::Token { .. } | Self::NoSuchToken { .. } => "token",
            Self::WrongSignature { .. } => "wrong-signature",
            Self::Sign { .. } => "not-signed",
            Self::NoRandomness => "no-randomness",
        }
    }

    /// The one good next step, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Prompt { .. } => {
                Some("without a terminal, use --passphrase-file FILE".to_owned())
            }
            Self::NotAKey { .. } => {
                Some("a key is an age file or a PEM in PKCS#8, or a TOML that names a token or a command".to_owned())
            }
            _ => None,
        }
    }
}

/// Finds out what kind of source the file at `path` is.
pub fn locate(path: &Path) -> Result<Box<dyn KeySource>, KeyError> {
    let bytes = durable::read(path, KEY_FILE_LEN_MAX)?;
    if file::is_key_file(&bytes) {
        return Ok(Box::new(file::FileKey::new(path, bytes)));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) if text.contains("kind") => described(path, text),
        _ => Err(KeyError::NotAKey {
            path: path.to_owned(),
        }),
    }
}

/// A token or command that a TOML file describes.
fn described(path: &Path, text: &str) -> Result<Box<dyn KeySource>, KeyError> {
    let document = Document::parse(&path.display().to_string(), text)?;
    let root = document.root();
    let source = match root.text("kind", 16) {
        Some(kind) if kind.value == "pkcs11" => {
            pkcs11::TokenKey::read(&root).map(|key| Box::new(key) as Box<dyn KeySource>)
        }
        Some(kind) if kind.value == "command" => {
            command::CommandKey::read(&root, durable::folder_of(path))
                .map(|key| Box::new(key) as Box<dyn KeySource>)
        }
        Some(kind) => {
            let text = format!(
                "kind is \"{}\", expected \"pkcs11\" or \"command\"",
                kind.value
            );
            document.fault(kind.line, text);
            None
        }
        None => None,
    };
    // What a source of an unknown kind needs is not known either.
    if source.is_some() || document.is_clean() {
        root.finish();
    }
    document.check()?;
    source.ok_or_else(|| KeyError::NotAKey {
        path: path.to_owned(),
    })
}

/// Signs, and verifies what came back.
pub fn sign_checked(key: &dyn Sign, name: &str, message: &[u8]) -> Result<Vec<u8>, KeyError> {
    let signature = key.sign(message).map_err(|source| KeyError::Sign {
        source_name: name.to_owned(),
        source,
    })?;
    if !key.public_key().verify(message, &signature) {
        return Err(KeyError::WrongSignature {
            source_name: name.to_owned(),
        });
    }
    Ok(signature)
}
