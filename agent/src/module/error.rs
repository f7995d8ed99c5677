//! Why an update module did not do what it was asked for.

use std::io;
use std::path::{Path, PathBuf};

use ampoule_protocol::error::{Coded, Guilty};

/// Why an update module did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// It cannot be run.
    #[error("update module \"{program}\" cannot be run")]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It ended with another status than 0.
    #[error("update module \"{module}\" failed in {state} with {how}{}", said(.output))]
    Failed {
        /// Its name.
        module: String,
        /// In which state.
        state: &'static str,
        /// How it ended.
        how: String,
        /// The end of what it printed.
        output: String,
    },
    /// It took too long, and was ended with all its children.
    #[error("update module \"{module}\" did not end {state} in {secs} seconds")]
    TooLate {
        /// Its name.
        module: String,
        /// In which state.
        state: &'static str,
        /// Seconds that it had.
        secs: u64,
    },
    /// It answered a question with something that is no answer.
    #[error("update module answered {question} with \"{found}\"")]
    Answer {
        /// The question.
        question: &'static str,
        /// Its answer.
        found: String,
    },
    /// It does not read its streams as the protocol says.
    #[error("update module \"{module}\" {what}")]
    Streams {
        /// Its name.
        module: String,
        /// What it did.
        what: String,
    },
    /// The payload has a form that no module can be given.
    #[error("the payload \"{path}\" {what}")]
    Payload {
        /// The artifact.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// A module that cannot go back, in an update that is all or nothing.
    #[error("update module of \"{0}\" cannot roll back, and the release has other components")]
    NoRollback(String),
    /// The work folder.
    #[error("failed to {act} \"{path}\"")]
    Io {
        /// What was tried.
        act: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// This agent was not given a way to run modules.
    #[error("this agent runs no update modules")]
    None,
}

fn said(output: &str) -> String {
    match output.trim() {
        "" => String::new(),
        text => format!(": {text}"),
    }
}

impl ModuleError {
    pub(crate) fn answer(question: &'static str, found: &str) -> Self {
        Self::Answer {
            question,
            found: found.chars().take(64).collect(),
        }
    }

    pub(super) fn io(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { act, path, source }
    }
}

impl Coded for ModuleError {
    fn code(&self) -> &'static str {
        match self {
            Self::Start { .. } | Self::None => "module-missing",
            Self::Failed { .. } => "module-failed",
            Self::TooLate { .. } => "module-too-late",
            Self::Answer { .. } => "module-answer",
            Self::Streams { .. } => "module-streams",
            Self::Payload { .. } => "module-payload",
            Self::NoRollback(_) => "module-no-rollback",
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => "no-space",
            Self::Io { .. } => "storage-io",
        }
    }

    fn guilty(&self) -> Guilty {
        match self {
            Self::Start { .. } | Self::None => Guilty::Operator,
            Self::Payload { .. } => Guilty::Repository,
            Self::Failed { .. }
            | Self::TooLate { .. }
            | Self::Answer { .. }
            | Self::Streams { .. }
            | Self::NoRollback(_)
            | Self::Io { .. } => Guilty::Device,
        }
    }
}
