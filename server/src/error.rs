//! What can go wrong in the server, grouped by the party whose doing it is.
//!
//! Answers to devices are not errors of ours: they are [`crate::http::problem::Problem`]. What is
//! here stops a command or the server, or is said in its log.

use std::io;
use std::path::{Path, PathBuf};

use ampoule_protocol::error::{Coded, Guilty};
use ampoule_protocol::fault::Faults;

use crate::secrets::SealError;

/// Why a command of the server failed.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    // The operator: configuration, certificates, command line.
    /// The configuration has faults; all of them are named.
    #[error(transparent)]
    Config(Faults),
    /// A certificate, key or revocation list cannot be used.
    #[error("{what} {path:?} {fault}")]
    Pki {
        /// What the file should be.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What was found.
        fault: String,
    },
    /// The certificates do not make a TLS configuration.
    #[error("the certificates do not make a server: {0}")]
    Tls(String),
    /// Making a key or certificate failed.
    #[error("failed to make {what}")]
    Issue {
        /// The thing that was to be made.
        what: &'static str,
        /// Why not.
        source: rcgen::Error,
    },
    /// A file stands where a new one should be written.
    #[error("{0:?} exists already and is left as it is")]
    Exists(PathBuf),
    /// A file of receipts that is not what a device wrote.
    #[error("\"{}\" is not taken, nothing of it is kept: {what}", path.display())]
    Receipts {
        /// The file.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// The key that seals secrets cannot be used, or what it sealed was altered.
    #[error(transparent)]
    Secrets(#[from] crate::secrets::SealError),
    /// A device that the server does not know.
    #[error("device {0:?} is not enrolled")]
    UnknownDevice(String),
    /// What the running server answered to an administrative request.
    #[error("the running server refused: {0}")]
    Refused(String),
    /// Somebody else holds the store, and no running server answers.
    #[error("the store {path:?} is in use, and no server answers on {socket:?}")]
    StoreBusy {
        /// The store.
        path: PathBuf,
        /// Where a running server would listen.
        socket: PathBuf,
    },

    // The machine: disk, sockets.
    /// A file operation failed.
    #[error("failed to {act} {path:?}")]
    File {
        /// The verb.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The listener could not be opened.
    #[error("failed to listen on {address}")]
    Listen {
        /// The address or path.
        address: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// The audit log cannot be opened or written.
    #[error(transparent)]
    Audit(#[from] crate::audit::AuditError),
    /// The blob store failed, or holds no tree.
    #[error(transparent)]
    Blob(#[from] crate::blob::BlobError),
    /// A fleet was not moved.
    #[error(transparent)]
    Transfer(#[from] crate::store::transfer::TransferError),
    /// Something the runtime needs was refused by the system.
    #[error("failed to {act}")]
    System {
        /// The verb.
        act: &'static str,
        /// The system's answer.
        source: io::Error,
    },

    // The repository: what was published.
    /// The published tree does not verify.
    #[error("the published tree {path:?} does not verify: {fault}")]
    Tree {
        /// The tree.
        path: PathBuf,
        /// What was found.
        fault: String,
    },
    /// The timestamp cannot be signed again.
    #[error("the timestamp cannot be signed: {0}")]
    Timestamp(String),
    /// The director cannot sign or serve.
    #[error("the director's metadata cannot be made: {0}")]
    Director(String),
}

impl ServerError {
    /// A failed file operation, for `map_err`.
    pub fn file(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File {
            act,
            path: path.to_path_buf(),
            source,
        }
    }

    /// An unusable certificate, key or list.
    pub fn pki(what: &'static str, path: &Path, fault: impl std::fmt::Display) -> Self {
        Self::Pki {
            what,
            path: path.to_path_buf(),
            fault: fault.to_string(),
        }
    }
}

impl Coded for ServerError {
    fn code(&self) -> &'static str {
        match self {
            Self::Config(_) => "bad-configuration",
            Self::Pki { .. } => "bad-certificate-file",
            Self::Tls(_) => "bad-tls-configuration",
            Self::Issue { .. } => "certificate-not-made",
            Self::Exists(_) => "file-exists",
            Self::Receipts { .. } => "receipts-refused",
            Self::Secrets(_) => "secrets-not-opened",
            Self::UnknownDevice(_) => "unknown-device",
            Self::Refused(_) => "refused-by-server",
            Self::StoreBusy { .. } => "store-busy",
            Self::File { .. } => "file-failed",
            Self::Listen { .. } => "listen-failed",
            Self::Store(_) => "store-failed",
            Self::Audit(_) => "audit-log-failed",
            Self::Blob(_) => "blob-store-failed",
            Self::Transfer(_) => "fleet-not-moved",
            Self::System { .. } => "system-failed",
            Self::Tree { .. } => "bad-published-tree",
            Self::Timestamp(_) => "timestamp-not-signed",
            Self::Director(_) => "director-not-signed",
        }
    }

    fn guilty(&self) -> Guilty {
        match self {
            Self::Config(_)
            | Self::Pki { .. }
            | Self::Tls(_)
            | Self::Issue { .. }
            | Self::Exists(_)
            | Self::Receipts { .. }
            | Self::Secrets(_)
            | Self::Transfer(_)
            | Self::UnknownDevice(_)
            | Self::Refused(_)
            | Self::StoreBusy { .. } => Guilty::Operator,
            Self::File { .. }
            | Self::Listen { .. }
            | Self::Store(_)
            | Self::Audit(_)
            | Self::Blob(_)
            | Self::System { .. } => Guilty::Device,
            Self::Tree { .. } | Self::Timestamp(_) | Self::Director(_) => Guilty::Repository,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownDevice(_) => Some("enrol it with \"ampoule-server enroll\"".into()),
            Self::Secrets(SealError::KeyFile { .. }) => {
                Some("make one with \"ampoule-server secret-key FILE\"".into())
            }
            Self::StoreBusy { .. } => {
                Some("point [admin] socket at the running server's socket".into())
            }
            Self::Exists(_) => Some("choose another folder, or move the file away".into()),
            Self::Timestamp(_) => {
                Some("the timestamp key must be one that the root names for that role".into())
            }
            _ => None,
        }
    }
}
