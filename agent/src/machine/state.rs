//! What the machine knows: the facts that outlast updates, and the phase of the present one.

use std::collections::BTreeMap;

use ampoule_protocol::device::{Check, Outcome, Via};
use ampoule_protocol::digest::Digest;
use ampoule_protocol::error::{Coded, Guilty, chain};
use ampoule_protocol::name::ComponentName;
use ampoule_protocol::release::ReleaseVersion;
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::version::RollbackIndex;
use serde::{Deserialize, Serialize};

use super::{Generations, Plan, Track};

/// All that the machine knows; one file on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct State {
    /// What outlasts updates.
    pub facts: Facts,
    /// Where the present update is.
    pub phase: Phase,
}

/// What outlasts updates.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Facts {
    /// The lowest rollback index that is accepted; raised on commit. It falls in the commit of an
    /// update that a signed downgrade record asked for, and never else.
    pub floor: RollbackIndex,
    /// The highest serial of a downgrade record that was used; never falls.
    #[serde(default)]
    pub downgrades: u64,
    /// Updates that are not tried again, newest last.
    pub refused: Vec<Refused>,
    /// How often an update fell back without a verdict.
    pub fallbacks: BTreeMap<Digest, u32>,
    /// The whole images that the slots are known to hold.
    pub slots: BTreeMap<ComponentName, BTreeMap<Slot, Installed>>,
    /// Reports that the server has not acknowledged, oldest first.
    pub outbox: Vec<Report>,
    /// The number of the last report.
    pub report_seq: u64,
    /// Counts checks, and with them inventories.
    pub inventory_seq: u64,
    /// Checks that failed one after the other.
    pub failed_checks: u32,
    /// The last fault, for people; cleared by the next success.
    pub last_fault: Option<Fault>,
    /// Releases that the last look passed over, newest first, for people.
    #[serde(default)]
    pub passed: Vec<PassedOver>,
    /// Patches that failed where the whole artifact is too long for the link: they are not fetched
    /// again, newest last.
    #[serde(default)]
    pub bad_patches: Vec<Digest>,
    /// Which configured state belongs to which version, on a device that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generations: Option<Generations>,
    /// Update modules that are under way, or owed their `Cleanup`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modules: BTreeMap<ComponentName, Track>,
}

/// A release that this device does not take, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedOver {
    /// Which.
    pub version: ReleaseVersion,
    /// The stable code.
    pub code: String,
    /// The sentence.
    pub why: String,
}

/// An update that is not tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// [`Plan::digest`].
    pub digest: Digest,
    /// Its version, for people.
    pub version: ReleaseVersion,
    /// Why.
    pub code: String,
    /// Until when; for ever where it was a verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<UtcTime>,
}

/// One of the two places of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// `a` or `b`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

impl std::fmt::Display for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A whole image in a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// The release that it came with; `None` where nobody told (as it left the factory).
    pub version: Option<ReleaseVersion>,
    /// The rollback index of that release.
    pub rollback_index: RollbackIndex,
    /// Its digest.
    pub sha256: Digest,
    /// Its length in bytes.
    pub length: u64,
}

/// What the boot loader's settings say of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootView {
    /// The slot in use.
    pub running: Slot,
    /// The slot chosen when nothing is armed.
    pub default: Slot,
    /// The slot chosen for a counted number of boots, with the boots that are left.
    pub armed: Option<(Slot, u32)>,
}

/// Where the present update is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// No update.
    #[default]
    Idle,
    /// Asking the repository.
    Checking,
    /// Writing slots.
    Filling(Filling),
    /// Reading them back.
    Verifying(Pending),
    /// Filled and verified; what has to be unpacked is unpacked.
    Staged(Pending),
    /// Until every gate is open.
    Waiting(Pending),
    /// Choosing the new slots and restarting.
    Arming(Arming),
    /// What needs no restart, or comes before it, is under way: modules install, files and trees
    /// become visible.
    Activating(Activating),
    /// Running, uncommitted.
    Trial(Pending),
    /// Making the new slots the default.
    Committing(Pending),
    /// Going back to the old slots.
    Reverting(Reverting),
}

impl Phase {
    /// The word for it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Checking => "checking",
            Self::Filling(_) => "filling",
            Self::Verifying(_) => "verifying",
            Self::Staged(_) => "staged",
            Self::Waiting(_) => "waiting",
            Self::Arming(_) => "arming",
            Self::Activating(_) => "activating",
            Self::Trial(_) => "trial",
            Self::Committing(_) => "committing",
            Self::Reverting(_) => "reverting",
        }
    }

    /// Whether an update stands ready and the gates are asked.
    pub const fn is_waiting(&self) -> bool {
        matches!(self, Self::Waiting(_))
    }

    /// The update that it is about.
    pub const fn plan(&self) -> Option<&Plan> {
        match self {
            Self::Idle | Self::Checking => None,
            Self::Filling(filling) => Some(&filling.pending.plan),
            Self::Arming(arming) => Some(&arming.pending.plan),
            Self::Activating(activating) => Some(&activating.pending.plan),
            Self::Reverting(reverting) => Some(&reverting.pending.plan),
            Self::Verifying(pending)
            | Self::Staged(pending)
            | Self::Waiting(pending)
            | Self::Trial(pending)
            | Self::Committing(pending) => Some(&pending.plan),
        }
    }

    /// The update under way, to note what was asked about it.
    pub(super) const fn pending_mut(&mut self) -> Option<&mut Pending> {
        match self {
            Self::Idle | Self::Checking => None,
            Self::Filling(filling) => Some(&mut filling.pending),
            Self::Arming(arming) => Some(&mut arming.pending),
            Self::Activating(activating) => Some(&mut activating.pending),
            Self::Reverting(reverting) => Some(&mut reverting.pending),
            Self::Verifying(pending)
            | Self::Staged(pending)
            | Self::Waiting(pending)
            | Self::Trial(pending)
            | Self::Committing(pending) => Some(pending),
        }
    }
}

/// An update under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The update.
    pub plan: Plan,
    /// When it was offered.
    pub since: UtcTime,
    /// Bytes that came over the wire for it.
    pub fetched: u64,
    /// How often its slots were filled from the beginning.
    pub fills: u32,
    /// How its last part was filled.
    pub via: Option<Via>,
    /// Boots into the trial, as far as this agent saw them.
    pub boots: u32,
    /// The attempts that were left at the last of them.
    pub attempts_left: Option<u32>,
    /// What was asked, and what the answers were.
    #[serde(default)]
    pub answers: Answers,
}

/// What was asked about an update, and what the answers were; goes into the receipt.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Answers {
    /// Each gate, as it answered last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Check>,
    /// Each health command, as it answered last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub health: Vec<Check>,
    /// How long good had to last, in seconds.
    #[serde(default)]
    pub bake_secs: u64,
}

/// How a slot is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// From the whole artifact.
    Full,
    /// From the running slot and a patch.
    Delta,
}

/// A fill under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filling {
    /// The update.
    pub pending: Pending,
    /// Which part is filled; those before it are whole.
    pub part: usize,
    /// How.
    pub method: Method,
    /// What of the slot is durable.
    pub mark: Mark,
    /// Network faults without progress between them.
    pub tries: u32,
}

/// What of a slot is durable: a place from which a fill goes on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mark {
    /// Bytes, whole blocks.
    pub done: u64,
    /// The patcher's own checkpoint, in hex, where a patch is applied.
    pub patcher: Option<String>,
}

/// An arming under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arming {
    /// The update.
    pub pending: Pending,
    /// Whether all slots are armed; the gates are asked once more, then the device restarts.
    pub armed: bool,
}

/// An activation under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activating {
    /// The update.
    pub pending: Pending,
    /// Whether all is done but the restart.
    pub restart_due: bool,
}

/// A revert under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reverting {
    /// The update.
    pub pending: Pending,
    /// Why.
    pub fault: Fault,
    /// How it will be reported.
    pub outcome: Outcome,
}

/// What went wrong, as it is kept and reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Whose fault it is: the machine decides by this.
    pub guilty: Party,
    /// The stable code.
    pub code: String,
    /// The sentence with its causes.
    pub text: String,
    /// Seconds that the server asked to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_secs: Option<u64>,
}

/// [`Guilty`], as it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Party {
    /// See [`Guilty::Repository`].
    Repository,
    /// See [`Guilty::Network`].
    Network,
    /// See [`Guilty::Device`].
    Device,
    /// See [`Guilty::Operator`].
    Operator,
    /// See [`Guilty::Ourselves`].
    Ourselves,
}

impl From<Guilty> for Party {
    fn from(guilty: Guilty) -> Self {
        match guilty {
            Guilty::Repository => Self::Repository,
            Guilty::Network => Self::Network,
            Guilty::Device => Self::Device,
            Guilty::Operator => Self::Operator,
            Guilty::Ourselves => Self::Ourselves,
        }
    }
}

impl Party {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Repository => Guilty::Repository.as_str(),
            Self::Network => Guilty::Network.as_str(),
            Self::Device => Guilty::Device.as_str(),
            Self::Operator => Guilty::Operator.as_str(),
            Self::Ourselves => Guilty::Ourselves.as_str(),
        }
    }
}

/// Bytes of a fault's text; errors may quote what came over the wire.
const FAULT_TEXT_MAX: usize = 1024;

impl Fault {
    /// From an error of any part.
    pub fn of(error: &dyn CodedError) -> Self {
        let text = chain(error.as_error(), None);
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        let text: String = text
            .replace('\n', ", ")
            .chars()
            .take(FAULT_TEXT_MAX)
            .collect();
        Self {
            guilty: error.guilty().into(),
            code: error.code().to_owned(),
            text,
            retry_after_secs: None,
        }
    }

    /// A fault of the device itself.
    pub fn device(code: &str, text: &str) -> Self {
        Self {
            guilty: Party::Device,
            code: code.to_owned(),
            text: text.to_owned(),
            retry_after_secs: None,
        }
    }
}

/// [`Coded`] that can be looked at as an [`Error`](std::error::Error).
pub trait CodedError: Coded {
    /// Itself.
    fn as_error(&self) -> &dyn std::error::Error;
}

impl<E: Coded> CodedError for E {
    fn as_error(&self) -> &dyn std::error::Error {
        self
    }
}

/// What is told of one update that ended, or of a check that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Counts up from 1, without gaps.
    pub seq: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// The release, where one was known.
    pub version: Option<ReleaseVersion>,
    /// What ran before.
    pub before: Vec<(ComponentName, Option<Installed>)>,
    /// What runs now.
    pub after: Vec<(ComponentName, Option<Installed>)>,
    /// The floor now.
    pub floor: RollbackIndex,
    /// How the bytes came.
    pub via: Option<Via>,
    /// Why it did not end well.
    pub fault: Option<Fault>,
    /// When it was offered.
    pub started: UtcTime,
    /// When it ended.
    pub ended: UtcTime,
    /// Bytes that came over the wire for it.
    pub fetched: u64,
    /// Boots into the trial, as far as this agent saw them.
    pub boots: u32,
    /// What was asked, and what the answers were.
    #[serde(default)]
    pub answers: Answers,
}

/// A verdict on a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It works, and has for the whole bake time.
    Good,
    /// It does not work.
    Bad(Fault),
    /// Not known yet.
    Undecided,
}
