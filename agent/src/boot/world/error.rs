//! What can be wrong with a boot loader's settings.

use std::io;
use std::path::{Path, PathBuf};

use ampoule_protocol::error::{Coded, Guilty};

/// A boot loader's settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// They cannot be read or written.
    #[error("failed to {act} boot settings \"{path}\"")]
    Io {
        /// `read`, `write` or `lock`.
        act: &'static str,
        /// Where they are.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// They are not in their world's form.
    #[error("boot settings \"{path}\" {what}")]
    Malformed {
        /// Where they are.
        path: PathBuf,
        /// What was found, and what was expected.
        what: String,
    },
    /// What has to be written does not fit.
    #[error("boot settings \"{path}\" need {needed} bytes, and there are {room}")]
    Full {
        /// Where they are.
        path: PathBuf,
        /// Bytes.
        needed: usize,
        /// Bytes.
        room: usize,
    },
    /// The boot loader was not prepared for what is asked of it.
    #[error("boot settings \"{path}\" {what}")]
    Unprepared {
        /// Where they are.
        path: PathBuf,
        /// What is missing.
        what: String,
    },
    /// Nobody says which slot runs.
    #[error("\"{path}\" does not say which slot runs: {what}")]
    RunningUnknown {
        /// Who was asked.
        path: PathBuf,
        /// What was looked for.
        what: String,
    },
    /// The boot control program did not do as it was asked.
    #[error("boot control command \"{command}\" {what}")]
    Command {
        /// The program and its arguments.
        command: String,
        /// What it did.
        what: String,
    },
}

impl WorldError {
    pub(super) fn io(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { act, path, source }
    }

    pub(super) fn malformed(path: &Path, what: impl Into<String>) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            what: what.into(),
        }
    }

    pub(super) fn unprepared(path: &Path, what: impl Into<String>) -> Self {
        Self::Unprepared {
            path: path.to_owned(),
            what: what.into(),
        }
    }
}

impl Coded for WorldError {
    fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "boot-control-io",
            Self::Malformed { .. } => "boot-control-malformed",
            Self::Full { .. } => "boot-control-full",
            Self::Unprepared { .. } => "boot-control-unprepared",
            Self::RunningUnknown { .. } => "boot-control-running-unknown",
            Self::Command { .. } => "boot-control-command",
        }
    }

    fn guilty(&self) -> Guilty {
        match self {
            Self::Io { .. } | Self::Malformed { .. } | Self::Full { .. } | Self::Command { .. } => {
                Guilty::Device
            }
            Self::Unprepared { .. } | Self::RunningUnknown { .. } => Guilty::Operator,
        }
    }
}
