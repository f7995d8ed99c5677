//! Whose turn it is: which rollout asks a device, and in which order a rollout asks.

use ampoule_protocol::time::UtcTime;

use super::book::Rollout;
use super::deployment::Deployment;
use super::facts::DeviceFacts;
use super::line::Line;
use super::objection::object;
use super::plan::RolloutId;

/// Of a rollout that makes offers; never used twice.
pub(super) type LaneId = u32;

/// Whom a rollout may ask now.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Those that were asked before, and may be again; they have their place already.
    pub(super) again: Line,
    /// Those that did not even take an offer in time, by the Unix time of that offer.
    pub(super) unclaimed: Line,
    /// Those that were not; the step lets the first of them be asked.
    pub(super) new: Line,
}

/// In which of the three lines of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Again,
    Unclaimed,
    New,
}

impl Lane {
    pub(super) fn line(&mut self, kind: Kind) -> &mut Line {
        match kind {
            Kind::Again => &mut self.again,
            Kind::Unclaimed => &mut self.unclaimed,
            Kind::New => &mut self.new,
        }
    }

    /// How many of `new` the open step of its rollout lets be asked.
    pub(super) fn room(&self, rollout: &Rollout) -> usize {
        let asked = rollout.deployments.len();
        let limit = rollout.limit(asked + self.new.len());
        limit.saturating_sub(asked).min(self.new.len())
    }

    pub(super) fn devices(&self) -> impl Iterator<Item = u32> {
        let lines = [&self.again, &self.unclaimed, &self.new];
        lines.into_iter().flat_map(Line::iter).map(|entry| entry.1)
    }
}

/// A device that a rollout asks.
pub(super) struct Turn {
    pub(super) rollout: RolloutId,
    pub(super) device: u32,
    /// It was asked before, and did not take the offer.
    pub(super) in_vain: bool,
}

/// The line of its rollout that a device waits in, and by what it is ordered there.
pub(super) fn place(rollout: &Rollout, device: &DeviceFacts) -> (Kind, u64) {
    let place = || rollout.key.place(&device.device).0;
    match rollout.deployment(device.number) {
        Some(row) if row.was_unclaimed() => {
            (Kind::Unclaimed, row.offered_at.max(0).cast_unsigned())
        }
        Some(_) => (Kind::Again, place()),
        None => (Kind::New, place()),
    }
}

/// Of the rollouts that could ask this device, the one whose turn it is.
pub(super) fn chosen<'a, I: Copy>(
    running: &[(I, &'a Rollout)],
    device: &DeviceFacts,
    now: UtcTime,
) -> Option<(I, &'a Rollout)> {
    let mut best: Option<(I, &Rollout)> = None;
    for (id, rollout) in running.iter().copied() {
        if !may_ask(rollout, device, now) {
            continue;
        }
        best = Some(match best {
            Some(other) if !is_before(rollout, other.1, device) => other,
            _ => (id, rollout),
        });
    }
    best
}

fn may_ask(rollout: &Rollout, device: &DeviceFacts, now: UtcTime) -> bool {
    let before: Option<&Deployment> = rollout.deployment(device.number);
    before.is_none_or(|row| row.may_repeat(&rollout.plan, now.unix()))
        && object(rollout, device, now).is_ok()
}

fn is_before(one: &Rollout, other: &Rollout, device: &DeviceFacts) -> bool {
    if one.plan.priority != other.plan.priority {
        return one.plan.priority > other.plan.priority;
    }
    let lot = |rollout: &Rollout| rollout.key.lot(&device.device, rollout.plan.weight);
    lot(one) > lot(other)
}
