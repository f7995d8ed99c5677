//! What people do to rollouts: which act each stage allows, and what it changes.

use ampoule_protocol::digest::Digest;
use ampoule_protocol::time::UtcTime;
use serde::{Deserialize, Serialize};

use super::book::{Book, Change, ROLLOUTS_MAX, Rollout};
use super::deployment::{Deployment, Phase};
use super::plan::RolloutId;
use super::status::{Halt, Stage, Status};

/// What a person does to a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Act {
    /// Approves the plan of this digest.
    Approve {
        /// Who.
        by: String,
        /// What they read.
        plan: Digest,
    },
    /// Stops it from spreading.
    Pause,
    /// Lets a paused or halted one go on; failures so far are not counted again.
    Resume,
    /// Ends it.
    Abort,
    /// Gives devices that failed another attempt, beyond what the plan allows.
    Retry,
}

/// Why an act is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such rollout.
    #[error("there is no rollout \"{0}\"")]
    Unknown(RolloutId),
    /// There is one of that name.
    #[error("there is a rollout \"{0}\" already")]
    Exists(RolloutId),
    /// Too many rollouts.
    #[error("there are {ROLLOUTS_MAX} rollouts already")]
    TooMany,
    /// The stage does not allow it.
    #[error("a rollout that is {stage} cannot be {act}")]
    Stage {
        /// Where it stands.
        stage: &'static str,
        /// What was asked for.
        act: &'static str,
    },
    /// Nobody approves their own plan.
    #[error("\"{0}\" made the plan and cannot approve it")]
    OwnPlan(String),
    /// The approval was for another plan.
    #[error("the approval is for plan {found}, this one is {expected}")]
    OtherPlan {
        /// What was approved.
        found: String,
        /// What there is.
        expected: String,
    },
}

impl Book {
    /// Does what a person asks.
    ///
    /// # Errors
    /// Why it is not done.
    pub fn act(
        &mut self,
        name: &RolloutId,
        act: &Act,
        now: UtcTime,
    ) -> Result<Vec<Change>, Refused> {
        let rollout = self
            .rollouts
            .get(name)
            .ok_or_else(|| Refused::Unknown(name.clone()))?;
        if *act == Act::Retry {
            return self.retry(name);
        }
        let status = acted(rollout, act, now)?;
        Ok(vec![self.set_status(name, status)])
    }

    /// Halts every rollout that offers, or could again without a person's word.
    pub fn halt_all(&mut self, why: &Halt, now: UtcTime) -> Vec<Change> {
        let open = self.rollouts.values().filter(|rollout| {
            matches!(
                rollout.status.stage,
                Stage::Running | Stage::Paused | Stage::Done
            )
        });
        let halted = |rollout: &Rollout| Status {
            stage: Stage::Halted { why: why.clone() },
            since: now.unix(),
            baking_since: None,
            ..rollout.status.clone()
        };
        let all: Vec<_> = open
            .map(|rollout| (rollout.plan.name.clone(), halted(rollout)))
            .collect();
        all.into_iter()
            .map(|(name, status)| self.set_status(&name, status))
            .collect()
    }

    /// The devices that failed and hold no permit forget their attempts.
    fn retry(&mut self, name: &RolloutId) -> Result<Vec<Change>, Refused> {
        let rollout = &self.rollouts[name];
        if matches!(rollout.status.stage, Stage::Aborted) {
            return Err(refused(rollout, "retried"));
        }
        let failed = rollout.deployments();
        let failed: Vec<_> = failed
            .filter(|(_, row)| row.phase == Phase::Failed)
            .map(|(device, row)| {
                let phase = Phase::Withdrawn;
                (
                    device,
                    Deployment {
                        phase,
                        attempt: 1,
                        ..row.clone()
                    },
                )
            })
            .collect();
        Ok(failed
            .into_iter()
            .map(|(device, row)| self.set(name, device, row))
            .collect())
    }
}

fn refused(rollout: &Rollout, act: &'static str) -> Refused {
    let stage = rollout.status.stage.as_str();
    Refused::Stage { stage, act }
}

/// The status after an act; stages change here and in `progress`, nowhere else.
fn acted(rollout: &Rollout, act: &Act, now: UtcTime) -> Result<Status, Refused> {
    let mut status = rollout.status.clone();
    let stage = match (act, &status.stage) {
        (Act::Approve { by, plan }, Stage::Awaiting) => {
            let expected = rollout.plan.digest();
            if *by == rollout.plan.author {
                return Err(Refused::OwnPlan(by.clone()));
            }
            if *plan != expected {
                return Err(Refused::OtherPlan {
                    found: plan.short(),
                    expected: expected.short(),
                });
            }
            status.approvals.insert(by.clone(), *plan);
            if status.approvals.len() < rollout.plan.approvals as usize {
                return Ok(status);
            }
            Stage::Running
        }
        (Act::Pause, Stage::Running | Stage::Done) => Stage::Paused,
        (Act::Resume, Stage::Paused | Stage::Halted { .. }) => Stage::Running,
        (Act::Abort, Stage::Aborted) => return Err(refused(rollout, "aborted")),
        (Act::Abort, _) => Stage::Aborted,
        (Act::Approve { .. }, _) => return Err(refused(rollout, "approved")),
        (Act::Pause, _) => return Err(refused(rollout, "paused")),
        (Act::Resume, _) => return Err(refused(rollout, "resumed")),
        (Act::Retry, _) => return Ok(status),
    };
    if let (Act::Resume, Stage::Halted { .. }) = (act, &status.stage) {
        status.forgiven = rollout.tally();
    }
    status.stage = stage;
    status.since = now.unix();
    status.baking_since = None;
    Ok(status)
}
