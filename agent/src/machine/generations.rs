//! Which configured state belongs to which version: part of what is journalled, so that a commit
//! or a revert of the software and of its state is one write.

use ampoule_protocol::release::ReleaseVersion;
use serde::{Deserialize, Serialize};

use super::Fault;

/// The state of a version.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Generation {
    /// Its folder.
    pub name: String,
    /// The version; `None` where nobody told (as it left the factory).
    pub version: Option<ReleaseVersion>,
}

/// The state of a version on trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialGeneration {
    /// Its folder.
    pub name: String,
    /// The version.
    pub version: ReleaseVersion,
    /// Why it could not be made: a bad verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Fault>,
}

/// The states of a device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Generations {
    /// Of what is committed.
    pub committed: Generation,
    /// Of what is on trial.
    pub trial: Option<TrialGeneration>,
}

impl Generations {
    /// The trial was good.
    pub(super) fn commit(&mut self) {
        if let Some(trial) = self.trial.take() {
            self.committed = Generation {
                name: trial.name,
                version: Some(trial.version),
            };
        }
    }
}
