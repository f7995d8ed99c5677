//! Why something is not believed. All of these are the repository's doing.

use alloc::string::{String, ToString};

use crate::error::{Coded, Guilty};
use crate::limits::{DELEGATED_ROLES_MAX, ROOT_STEPS_MAX};
use crate::metadata::{EnvelopeError, FormatError};
use crate::name::{RoleName, TargetPath};
use crate::time::UtcTime;
use crate::version::MetaVersion;

/// Metadata that is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Bytes that are no metadata of this kind.
    #[error("{role} is not well-formed metadata")]
    Malformed {
        /// The role that the file was read as.
        role: String,
        /// What is wrong with it.
        source: EnvelopeError,
    },
    /// Too few keys signed (arbitrary software).
    #[error("{role} is signed by {signed} of {needed} required keys")]
    Unsigned {
        /// The role.
        role: String,
        /// Keys whose signatures verify, counted by material.
        signed: u64,
        /// The threshold.
        needed: u64,
    },
    /// A version other than the one asked for.
    #[error("{role} has version {found}, expected {expected}")]
    Version {
        /// The role.
        role: String,
        /// Found.
        found: MetaVersion,
        /// Named by the delegator, or the next in the chain.
        expected: MetaVersion,
    },
    /// A version below the trusted one (rollback).
    #[error("{role} version {found} is older than the trusted {trusted}")]
    Rollback {
        /// The role.
        role: String,
        /// Found.
        found: MetaVersion,
        /// Trusted before.
        trusted: MetaVersion,
    },
    /// A role that the trusted snapshot has and the new one lacks (rollback).
    #[error("snapshot no longer has \"{file}\", which the trusted one has")]
    Removed {
        /// Its name in `meta`.
        file: String,
    },
    /// Expired (freeze).
    #[error("{role} expired at {expires}, before this update started ({start})")]
    Expired {
        /// The role.
        role: String,
        /// Since when.
        expires: UtcTime,
        /// The time of the update.
        start: UtcTime,
    },
    /// Length or digests differ from what the delegator says (mix-and-match).
    #[error("{role} has another length or digest than its delegator says")]
    Mismatch {
        /// The role.
        role: String,
    },
    /// A delegated role that the snapshot does not list (mix-and-match).
    #[error("snapshot does not list {role}")]
    NotInSnapshot {
        /// The role.
        role: String,
    },
    /// A role that nobody delegates to.
    #[error("{delegator} does not delegate to {role}")]
    NotDelegated {
        /// Who was thought to delegate.
        delegator: RoleName,
        /// The role.
        role: RoleName,
    },
    /// The repository does not have a file that it must have (freeze).
    #[error("the repository has no \"{file}\"")]
    Missing {
        /// The file.
        file: String,
    },
    /// More new roots than one refresh follows.
    #[error("there are more than {ROOT_STEPS_MAX} new root versions; the next refresh goes on")]
    TooManyRoots,
    /// A lookup that visits too many roles.
    #[error("more than {DELEGATED_ROLES_MAX} delegated roles were asked for \"{path}\"")]
    TooManyRoles {
        /// What was looked up.
        path: TargetPath,
    },
    /// An answer that was not asked for: a bug in the caller.
    #[error("an answer came that was not asked for")]
    OutOfTurn,
}

impl TrustError {
    pub(crate) fn format(role: &str, source: FormatError) -> Self {
        Self::Malformed {
            role: role.to_string(),
            source: EnvelopeError::Format(source),
        }
    }

    pub(crate) fn envelope(role: &str, source: EnvelopeError) -> Self {
        Self::Malformed {
            role: role.to_string(),
            source,
        }
    }
}

impl Coded for TrustError {
    fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "metadata-malformed",
            Self::Unsigned { .. } => "metadata-unsigned",
            Self::Version { .. } => "metadata-version",
            Self::Rollback { .. } => "metadata-rollback",
            Self::Removed { .. } => "metadata-role-removed",
            Self::Expired { .. } => "metadata-expired",
            Self::Mismatch { .. } => "metadata-mismatch",
            Self::NotInSnapshot { .. } => "metadata-not-in-snapshot",
            Self::NotDelegated { .. } => "metadata-not-delegated",
            Self::Missing { .. } => "metadata-missing",
            Self::TooManyRoots => "root-chain-too-long",
            Self::TooManyRoles { .. } => "too-many-roles",
            Self::OutOfTurn => "answer-out-of-turn",
        }
    }

    fn guilty(&self) -> Guilty {
        match self {
            Self::OutOfTurn => Guilty::Ourselves,
            _ => Guilty::Repository,
        }
    }
}
