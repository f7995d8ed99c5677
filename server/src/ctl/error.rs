//! Why a command of `ampoule-ctl` failed, grouped by the party whose doing it is.

use std::io;
use std::path::{Path, PathBuf};

use ampoule_protocol::error::{Coded, Guilty};

use crate::audit::AuditError;

/// See the module's head.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// An audit log that cannot be believed or read.
    #[error("the audit log in {path:?} does not verify")]
    Log {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: AuditError,
    },
    /// A key or checkpoint that cannot be used.
    #[error("{path:?} cannot be used")]
    Note {
        /// The file.
        path: PathBuf,
        /// Why.
        source: AuditError,
    },
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
    /// The server says no.
    #[error("the server refused: {detail} ({code})")]
    Refused {
        /// Stable.
        code: String,
        /// For people.
        detail: String,
    },
    /// The server cannot be reached.
    #[error("{server} cannot be asked")]
    Network {
        /// Its address.
        server: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// The server's answer is not one.
    #[error("{server} answered something else: {fault}")]
    Answer {
        /// Its address.
        server: String,
        /// What was found.
        fault: String,
    },
    /// What was asked for does not go together.
    #[error("{0}")]
    Usage(String),
}

impl CtlError {
    /// A failed file operation, for `map_err`.
    pub fn file(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File {
            act,
            path: path.to_path_buf(),
            source,
        }
    }
}

impl Coded for CtlError {
    fn code(&self) -> &'static str {
        match self {
            Self::Log { .. } => "bad-audit-log",
            Self::Note { .. } => "bad-note",
            Self::File { .. } => "file-failed",
            Self::Refused { .. } => "refused-by-server",
            Self::Network { .. } => "server-not-reached",
            Self::Answer { .. } => "bad-answer",
            Self::Usage(_) => "bad-usage",
        }
    }

    fn guilty(&self) -> Guilty {
        match self {
            Self::Log { .. } => Guilty::Repository,
            Self::Note { .. } | Self::Usage(_) | Self::Refused { .. } => Guilty::Operator,
            Self::Network { .. } | Self::Answer { .. } => Guilty::Network,
            Self::File { .. } => Guilty::Device,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Log {
                source: AuditError::Unsigned(_) | AuditError::Signature(_),
                ..
            } => {
                Some("is it the right key? The log's owner has it as \"key\" in the folder".into())
            }
            Self::Log {
                source: AuditError::Found(_),
                ..
            } => Some("keep the folder as it is: it is evidence".into()),
            Self::Refused { code, .. } if code == "no-session" || code == "nobody" => {
                Some("log in with \"ampoule-ctl login ACCOUNT\"".into())
            }
            Self::Refused { code, .. } if code == "code-refused" => {
                Some("each code is good once: wait for the next one".into())
            }
            Self::Network { .. } => {
                Some("is the address right, and --ca that of its certificate?".into())
            }
            _ => None,
        }
    }
}
