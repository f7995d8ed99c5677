//! Where a rollout stands.

use std::collections::BTreeMap;

use ampoule_protocol::digest::Digest;
use serde::{Deserialize, Serialize};

/// What became of a rollout so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its stage.
    pub stage: Stage,
    /// The open step, from 0.
    pub step: u8,
    /// Unix time of the last change of stage or step.
    pub since: i64,
    /// Unix time at which the open step had met its success threshold; its bake time counts from
    /// there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baking_since: Option<i64>,
    /// What a person has looked at and let pass when resuming; not counted again.
    #[serde(default)]
    pub forgiven: Tally,
    /// Who approved, and which plan (its digest).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub approvals: BTreeMap<String, Digest>,
}

/// The stages of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "kebab-case")]
pub enum Stage {
    /// It waits for approvals.
    Awaiting,
    /// It offers (from its start time on).
    Running,
    /// A person stopped it from spreading; offers that were made stand.
    Paused,
    /// It stopped itself; offers that were not begun are taken back. Only a person resumes it.
    Halted {
        /// Why.
        why: Halt,
    },
    /// A person ended it; offers that were not begun are taken back. For ever.
    Aborted,
    /// Every step was good to the end.
    Done,
}

/// Why a rollout stopped itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum Halt {
    /// More failures than the step bears.
    #[error("{failures} of {settled} devices failed, {silent} of them silent; {max} are borne")]
    Failures {
        /// Failures, silence among them.
        failures: u32,
        /// Those of them that did not answer.
        silent: u32,
        /// Devices whose outcome is known.
        settled: u32,
        /// What the step bears.
        max: u32,
    },
    /// The sequential test says that the failure rate is above what was expected.
    #[error("{failures} failures in {settled} devices are more than the expected rate explains")]
    Test {
        /// Failures, silence among them.
        failures: u32,
        /// Devices whose outcome is known.
        settled: u32,
    },
    /// Its release was recalled.
    #[error("its release was recalled by rollout \"{by}\"")]
    Recalled {
        /// By which rollout.
        by: String,
    },
    /// The store lost its end, and with it perhaps a reason to stop.
    #[error("the store lost its end: {found} of {acknowledged} groups of writes are there")]
    StoreLostItsEnd {
        /// Groups that are there.
        found: u64,
        /// Groups that were acknowledged.
        acknowledged: u64,
    },
}

/// What is known of the devices of a rollout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Devices that were ever offered.
    pub offered: u32,
    /// Those with an open offer now.
    pub open: u32,
    /// Those that committed.
    pub committed: u32,
    /// Attempts that failed, silence among them.
    pub failures: u32,
    /// Attempts that failed by silence.
    pub silent: u32,
    /// Offers taken back.
    pub withdrawn: u32,
}

impl Tally {
    /// Attempts whose outcome is known.
    pub fn settled(&self) -> u32 {
        self.committed.saturating_add(self.failures)
    }

    /// What came since `forgiven`.
    pub fn since(&self, forgiven: &Self) -> Self {
        Self {
            committed: self.committed.saturating_sub(forgiven.committed),
            failures: self.failures.saturating_sub(forgiven.failures),
            silent: self.silent.saturating_sub(forgiven.silent),
            ..*self
        }
    }
}

impl Stage {
    /// The word for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Awaiting => "awaiting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Halted { .. } => "halted",
            Self::Aborted => "aborted",
            Self::Done => "done",
        }
    }

    /// Whether offers that were not begun are taken back.
    pub fn recalls_offers(&self) -> bool {
        match self {
            Self::Halted { .. } | Self::Aborted => true,
            Self::Awaiting | Self::Running | Self::Paused | Self::Done => false,
        }
    }
}
