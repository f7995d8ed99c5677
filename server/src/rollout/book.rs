//! All rollouts of a fleet and what became of each device: the state that the decision works on.
//!
//! The book is what the store holds, in memory. Each change to it is a [`Change`], a whole new
//! row: whoever keeps the book writes the changes down, in order, and acts on them (signs
//! metadata, answers a person) only when they are durable.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ampoule_protocol::device::{Outcome, Receipt};
use ampoule_protocol::digest::Digest;
use ampoule_protocol::director::WITHDRAWN_CODE;
use ampoule_protocol::name::HardwareId;
use ampoule_protocol::time::UtcTime;
use serde::{Deserialize, Serialize};

use super::acts::Refused;
use super::cohort::CohortKey;
use super::deployment::{Deployment, Phase};
use super::lock::Lock;
use super::plan::{Kind, Plan, ReleaseFacts, RolloutId};
use super::status::{Stage, Status, Tally};

/// Rollouts that are kept; ended ones count.
pub const ROLLOUTS_MAX: usize = 1000;

/// All rollouts.
#[derive(Debug, Clone, Default)]
pub struct Book {
    pub(super) rollouts: BTreeMap<RolloutId, Rollout>,
    /// The one open offer of each device that has one.
    open: HashMap<u32, RolloutId>,
    /// The lock of each device that holds one, or held one until a moment ago.
    pub(super) locks: BTreeMap<u32, Lock>,
    /// Devices whose rows changed since somebody asked; some several times.
    touched: Vec<u32>,
    /// One copy of what the rows of many devices name.
    hardware: BTreeSet<Arc<HardwareId>>,
}

/// One rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// What was wanted.
    pub plan: Plan,
    /// What is offered.
    pub release: ReleaseFacts,
    /// Artifacts of the releases that it recalls.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub recalled_artifacts: BTreeSet<Digest>,
    /// Makes the cohorts.
    pub key: CohortKey,
    /// Unix time at which it was made.
    pub created_at: i64,
    /// Where it stands.
    pub status: Status,
    /// By the device's number; kept in rows of their own.
    #[serde(skip)]
    pub(super) deployments: HashMap<u32, Deployment>,
    #[serde(skip)]
    tally: Tally,
}

/// A new row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Of a rollout.
    Rollout(Box<Rollout>),
    /// Of a device's share in one.
    Deployment {
        /// The rollout.
        rollout: RolloutId,
        /// The device's number.
        device: u32,
        /// The row.
        row: Deployment,
    },
    /// Of a device's lock.
    Lock {
        /// The device's number.
        device: u32,
        /// The row; nothing where the lock is held no more.
        lock: Option<Lock>,
    },
}

impl Rollout {
    /// A new one; it waits for approvals where the plan asks for some.
    pub fn new(plan: Plan, release: ReleaseFacts, key: CohortKey, now: UtcTime) -> Self {
        let stage = match plan.approvals {
            0 => Stage::Running,
            _ => Stage::Awaiting,
        };
        let status = Status {
            stage,
            step: 0,
            since: now.unix(),
            baking_since: None,
            forgiven: Tally::default(),
            approvals: BTreeMap::new(),
        };
        Self {
            plan,
            release,
            recalled_artifacts: BTreeSet::new(),
            key,
            created_at: now.unix(),
            status,
            deployments: HashMap::new(),
            tally: Tally::default(),
        }
    }

    /// What is known of its devices.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The deployment of a device.
    pub fn deployment(&self, device: u32) -> Option<&Deployment> {
        self.deployments.get(&device)
    }

    /// All deployments, in no order.
    pub fn deployments(&self) -> impl Iterator<Item = (u32, &Deployment)> {
        self.deployments.iter().map(|(device, row)| (*device, row))
    }

    fn set(&mut self, device: u32, row: Deployment) {
        let old = self.deployments.insert(device, row);
        if let Some(old) = old {
            self.tally.count(&old, u32::wrapping_sub);
        }
        let new = &self.deployments[&device];
        self.tally.count(new, u32::wrapping_add);
    }
}

impl Tally {
    /// Adds or takes away one deployment; what is taken away was added before.
    fn count(&mut self, row: &Deployment, op: fn(u32, u32) -> u32) {
        let one = |yes: bool| u32::from(yes);
        self.offered = op(self.offered, 1);
        self.open = op(self.open, one(row.phase == Phase::Offered));
        self.committed = op(self.committed, one(row.phase == Phase::Committed));
        self.withdrawn = op(self.withdrawn, one(row.phase == Phase::Withdrawn));
        self.failures = op(self.failures, row.failures.into());
        self.silent = op(self.silent, row.silent.into());
    }
}

impl Book {
    /// Of rows as the store has them.
    pub fn of(
        rollouts: impl IntoIterator<Item = Rollout>,
        deployments: impl IntoIterator<Item = (RolloutId, u32, Deployment)>,
        locks: impl IntoIterator<Item = (u32, Lock)>,
    ) -> Self {
        let mut book = Self {
            locks: locks.into_iter().collect(),
            ..Self::default()
        };
        for rollout in rollouts {
            book.rollouts.insert(rollout.plan.name.clone(), rollout);
        }
        for (rollout, device, row) in deployments {
            book.set(&rollout, device, row);
        }
        book
    }

    /// Follows what another server decided. A deployment of a rollout that is not known yet waits
    /// for nothing: the rollout's row is written before it.
    pub fn follow(&mut self, change: Change) {
        match change {
            Change::Rollout(new) => match self.rollouts.get_mut(&new.plan.name) {
                Some(rollout) => rollout.status = new.status,
                None => {
                    self.rollouts.insert(new.plan.name.clone(), *new);
                }
            },
            Change::Deployment {
                rollout,
                device,
                row,
            } => {
                self.set(&rollout, device, row);
            }
            Change::Lock { device, lock } => drop(self.set_lock(device, lock)),
        }
    }

    /// Unix time of the last offer to a device, whatever became of it.
    pub fn offered_at(&self, device: u32) -> Option<i64> {
        let rows = self.rollouts.values();
        rows.filter_map(|rollout| Some(rollout.deployment(device)?.offered_at))
            .max()
    }

    /// All rollouts, by name.
    pub fn rollouts(&self) -> impl Iterator<Item = &Rollout> {
        self.rollouts.values()
    }

    /// One.
    pub fn rollout(&self, name: &RolloutId) -> Option<&Rollout> {
        self.rollouts.get(name)
    }

    /// The open offer of a device.
    pub fn offer(&self, device: u32) -> Option<(&Rollout, &Deployment)> {
        let rollout = self.rollouts.get(self.open.get(&device)?)?;
        Some((rollout, rollout.deployment(device)?))
    }

    /// Adds a rollout.
    ///
    /// # Errors
    /// There is one of that name, or there are too many.
    pub fn add(&mut self, mut rollout: Rollout) -> Result<Change, Refused> {
        let name = rollout.plan.name.clone();
        if self.rollouts.contains_key(&name) {
            return Err(Refused::Exists(name));
        }
        if self.rollouts.len() >= ROLLOUTS_MAX {
            return Err(Refused::TooMany);
        }
        if rollout.plan.kind == Kind::Recall {
            let recalled = self.rollouts.values();
            let recalled = recalled
                .filter(|other| rollout.plan.recalls.contains(&other.release.target.sha256))
                .flat_map(|other| &other.release.components);
            let artifacts: Vec<_> = recalled.map(|component| component.sha256).collect();
            rollout.recalled_artifacts.extend(artifacts);
        }
        self.rollouts.insert(name, rollout.clone());
        Ok(Change::Rollout(Box::new(rollout)))
    }

    /// Takes note of a device's receipt; `None` where it is about nothing that we offered.
    pub fn heard(&mut self, device: u32, receipt: &Receipt, now: UtcTime) -> Option<Change> {
        let version = receipt.release.as_ref()?.to_string();
        let about = |rollout: &&Rollout| {
            rollout.release.product == receipt.product
                && rollout.release.version == version
                && rollout.deployments.contains_key(&device)
        };
        // The newest offer of that release, where several rollouts made one.
        let rollout = self
            .rollouts
            .values()
            .filter(about)
            .max_by_key(|rollout| rollout.deployments[&device].offered_at)?;
        let row = &rollout.deployments[&device];
        let name = rollout.plan.name.clone();
        let row = match receipt.outcome {
            Outcome::Committed if row.phase == Phase::Committed => return None,
            Outcome::Committed => row.committed(now.unix()),
            // It heard that the offer was taken back, and did not begin: its permit is free.
            Outcome::Refused if receipt.code.as_deref() == Some(WITHDRAWN_CODE) => {
                let row = match row.phase {
                    Phase::Offered => row.withdrawn(now.unix()),
                    Phase::Withdrawn if row.taken_at.is_some() => row.clone(),
                    Phase::Withdrawn | Phase::Committed | Phase::Failed => return None,
                };
                Deployment {
                    taken_at: None,
                    ..row
                }
            }
            Outcome::Reverted | Outcome::Refused | Outcome::Failed => match row.phase {
                Phase::Offered | Phase::Withdrawn => {
                    let code = receipt.code.as_deref().unwrap_or("failed");
                    row.failed(Some(code), now.unix())
                }
                Phase::Committed | Phase::Failed => return None,
            },
        };
        Some(self.set(&name, device, row))
    }

    /// Takes note that a device has its offer; `None` where that was known.
    pub fn taken(&mut self, device: u32, now: UtcTime) -> Option<Change> {
        let name = self.open.get(&device)?.clone();
        let row = self.rollouts.get(&name)?.deployment(device)?;
        if row.taken_at.is_some() {
            return None;
        }
        let row = Deployment {
            taken_at: Some(now.unix()),
            ..row.clone()
        };
        Some(self.set(&name, device, row))
    }

    /// The devices of whom something changed since this was asked last.
    pub(super) fn take_touched(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.touched)
    }

    /// A device's row changes.
    pub(super) fn touch(&mut self, device: u32) {
        // In a row it is mostly one device: an offer is taken, and a receipt comes.
        if self.touched.last() != Some(&device) {
            self.touched.push(device);
        }
    }

    /// The devices that have an open offer, in no order.
    pub(super) fn with_offers(&self) -> impl Iterator<Item = u32> {
        self.open.keys().copied()
    }

    pub(super) fn set(&mut self, name: &RolloutId, device: u32, mut row: Deployment) -> Change {
        match self.hardware.get(&row.hardware) {
            Some(known) => row.hardware = known.clone(),
            None => drop(self.hardware.insert(row.hardware.clone())),
        }
        self.touch(device);
        if row.phase == Phase::Offered {
            self.open.insert(device, name.clone());
        } else if self.open.get(&device) == Some(name) {
            self.open.remove(&device);
        }
        if let Some(rollout) = self.rollouts.get_mut(name) {
            rollout.set(device, row.clone());
        }
        Change::Deployment {
            rollout: name.clone(),
            device,
            row,
        }
    }

    pub(super) fn set_status(&mut self, name: &RolloutId, status: Status) -> Change {
        let rollout = self.rollouts.get_mut(name).expect("it was just looked up");
        rollout.status = status;
        Change::Rollout(Box::new(rollout.without_deployments()))
    }

    pub(super) fn is_free(&self, device: u32) -> bool {
        !self.open.contains_key(&device)
    }
}

impl Rollout {
    /// The row of the rollout alone.
    fn without_deployments(&self) -> Self {
        Self {
            plan: self.plan.clone(),
            release: self.release.clone(),
            recalled_artifacts: self.recalled_artifacts.clone(),
            key: self.key,
            created_at: self.created_at,
            status: self.status.clone(),
            deployments: HashMap::new(),
            tally: Tally::default(),
        }
    }
}
