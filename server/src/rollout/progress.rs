//! How a rollout moves: halts, bake times, the next step.

use ampoule_protocol::time::UtcTime;

use super::book::Rollout;
use super::plan::{Size, Step};
use super::status::{Halt, Stage, Status};

impl Rollout {
    /// The open step.
    pub fn step(&self) -> &Step {
        let last = self.plan.steps.len() - 1;
        &self.plan.steps[usize::from(self.status.step).min(last)]
    }

    /// How many devices the open step and all before it allow, of a population.
    pub fn limit(&self, population: usize) -> usize {
        let open = usize::from(self.status.step) + 1;
        let sizes = self
            .plan
            .steps
            .iter()
            .take(open)
            .map(|step| match step.size {
                Size::Count(count) => usize::try_from(count).unwrap_or(usize::MAX),
                Size::Share(share) => share.of(population).max(1),
            });
        sizes.max().unwrap_or(0).min(population)
    }

    /// Whether it makes offers at `now`.
    pub fn offers(&self, now: UtcTime) -> bool {
        let stage = match self.status.stage {
            // A device that was in a drawer is asked when it comes back.
            Stage::Running | Stage::Done => true,
            Stage::Awaiting | Stage::Paused | Stage::Halted { .. } | Stage::Aborted => false,
        };
        let begun = self.plan.start.is_none_or(|start| now >= start);
        let ended = self.plan.end.is_some_and(|end| now >= end);
        stage && begun && !ended
    }

    /// Why it must stop, if it must. A rollout that is done is still watched.
    pub(super) fn halt(&self) -> Option<Halt> {
        match self.status.stage {
            Stage::Running | Stage::Paused | Stage::Done => {}
            Stage::Awaiting | Stage::Halted { .. } | Stage::Aborted => return None,
        }
        let tally = self.tally().since(&self.status.forgiven);
        let (failures, settled) = (tally.failures, tally.settled());
        let max = self.step().failures_max;
        if failures > max {
            return Some(Halt::Failures {
                failures,
                silent: tally.silent,
                settled,
                max,
            });
        }
        let test = self.plan.test.as_ref();
        test.is_some_and(|test| test.halts(failures, settled))
            .then_some(Halt::Test { failures, settled })
    }

    /// The status of a running rollout one look later, `waiting` being the devices that the open
    /// step still has to ask; `None` where nothing changes.
    pub(super) fn advanced(&self, waiting: usize, now: UtcTime) -> Option<Status> {
        if self.status.stage != Stage::Running || !self.offers(now) {
            return None;
        }
        let good = waiting == 0 && self.has_success();
        let status = &self.status;
        match (good, status.baking_since) {
            (false, None) => None,
            (false, Some(_)) => Some(Status {
                baking_since: None,
                ..status.clone()
            }),
            (true, None) => Some(Status {
                baking_since: Some(now.unix()),
                ..status.clone()
            }),
            (true, Some(_)) => {
                let is_baked = self.baked_at().is_some_and(|baked| now.unix() >= baked);
                is_baked.then(|| self.next_step(now))
            }
        }
    }

    /// How many of the devices that were asked must have committed; never none.
    pub(super) fn commits_needed(&self) -> usize {
        let offered = self.tally().offered as usize;
        self.step().success_min.of(offered).max(1)
    }

    /// Whether the open step's threshold of success is met.
    pub(super) fn has_success(&self) -> bool {
        self.tally().committed as usize >= self.commits_needed()
    }

    /// Unix time at which the bake time ends that has begun.
    pub(super) fn baked_at(&self) -> Option<i64> {
        let since = self.status.baking_since?;
        Some(since.saturating_add(self.step().bake_secs.into()))
    }

    fn next_step(&self, now: UtcTime) -> Status {
        let next = usize::from(self.status.step) + 1;
        let (stage, step) = if next < self.plan.steps.len() {
            (Stage::Running, self.status.step + 1)
        } else {
            (Stage::Done, self.status.step)
        };
        Status {
            stage,
            step,
            since: now.unix(),
            baking_since: None,
            ..self.status.clone()
        }
    }

    /// When something will happen by time alone, if nothing else does: a start, the end of a bake
    /// time. Silence is looked for separately.
    pub(super) fn next_moment(&self) -> Option<i64> {
        let start = self.plan.start.map(UtcTime::unix);
        match self.status.stage {
            Stage::Running => start.into_iter().chain(self.baked_at()).max(),
            Stage::Awaiting
            | Stage::Paused
            | Stage::Halted { .. }
            | Stage::Aborted
            | Stage::Done => None,
        }
    }
}
