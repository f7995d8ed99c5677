//! One look at a fleet: what changes now.
//!
//! ```text
//!   gather   who changed since the last look, whose time has come
//!   settle   silence, offers nobody took, devices that run the release already, locks
//!   halt     thresholds, the sequential test, recalls
//!   withdraw open offers of rollouts that halted or were aborted
//!   offer    the lowest places of each running rollout, up to its step, within the permits
//!   advance  bake times and steps
//! ```
//!
//! It costs what changed, not what there is ([`super::agenda`]); [`decide`] is the same for a fleet of
//! which nothing is known yet. Deterministic: the same book, devices, caps and time give the same
//! changes. Called again at the same time it goes on where it was (the next step opens) until it
//! changes nothing.

use std::collections::BTreeMap;

use ampoule_protocol::time::UtcTime;

use super::agenda::{Agenda, runs_what_it_is_offered};
use super::book::{Book, Change, Rollout};
use super::deployment::{Deployment, Phase};
use super::facts::DeviceFacts;
use super::permits::Cap;
use super::plan::{Kind, RolloutId};
use super::status::{Halt, Stage, Status};

/// Decides at `now`, and applies the decision to the book, of which nothing is known yet.
/// `devices[n].number` is `n`.
pub fn decide(book: &mut Book, devices: &[DeviceFacts], caps: &[Cap], now: UtcTime) -> Vec<Change> {
    Agenda::new(caps.into(), usize::MAX).decide(book, devices, now)
}

impl Agenda {
    /// Decides at `now`, and applies the decision to the book, thinking only about what happened since the
    /// last time. Where that is too much for once ([`Self::is_behind`]), rollouts are halted and
    /// offers taken back, and none are made.
    pub fn decide(
        &mut self,
        book: &mut Book,
        devices: &[DeviceFacts],
        now: UtcTime,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        self.gather(book, devices, now);
        settle(book, devices, &self.next(), now, &mut changes);
        halt(book, now, &mut changes);
        self.has_more = withdraw(book, self.slice, now, &mut changes);
        self.gather(book, devices, now);
        self.seat_some(book, devices);
        if self.is_behind() {
            return changes;
        }
        let waiting = self.offer(book, devices, &mut changes);
        if self.has_more {
            // Whoever has a turn in this step has it before the next one opens.
            return changes;
        }
        for (name, waiting) in waiting {
            let rollout = book.rollout(&name);
            if let Some(status) = rollout.and_then(|rollout| rollout.advanced(waiting, now)) {
                changes.push(book.set_status(&name, status));
            }
        }
        changes
    }

    /// Makes offers; says how many devices of its open step each rollout still has to ask.
    fn offer(
        &mut self,
        book: &mut Book,
        devices: &[DeviceFacts],
        changes: &mut Vec<Change>,
    ) -> BTreeMap<RolloutId, usize> {
        let (turns, mut waiting) = self.in_turn(book);
        let now = self.now().unix();
        let mut offers = Vec::new();
        for turn in turns {
            let device = &devices[turn.device as usize];
            if !self.take_permit(device) {
                continue;
            }
            let rollout = book.rollout(&turn.rollout).expect("it has its turn");
            let before = rollout.deployment(turn.device);
            let what = (&rollout.plan, &rollout.release);
            let profile = device.profile.as_ref().expect("it has reported");
            let row = Deployment::offer(what, &profile.hardware, before, now);
            // A step waits for nobody who was asked and was not there.
            if let Some(waiting) = waiting.get_mut(&turn.rollout).filter(|_| !turn.in_vain) {
                *waiting -= 1;
            }
            offers.push((turn.rollout, turn.device, row));
        }
        apply(book, offers, changes);
        waiting
    }
}

/// Of these devices, and of those whose lock is over.
fn settle(
    book: &mut Book,
    devices: &[DeviceFacts],
    touched: &[u32],
    now: UtcTime,
    changes: &mut Vec<Change>,
) {
    let (mut settled, mut unlocked) = (Vec::new(), Vec::new());
    for number in touched.iter().copied() {
        if book
            .locks
            .get(&number)
            .is_some_and(|lock| !lock.is_held(now.unix()))
        {
            unlocked.push(number);
        }
        let Some((rollout, row)) = book.offer(number) else {
            continue;
        };
        let device = devices.get(number as usize);
        let runs = device.is_some_and(|device| runs_what_it_is_offered(book, device, now));
        let row = if runs {
            row.committed(now.unix())
        } else if row.is_silent(&rollout.plan, now.unix()) {
            row.failed(None, now.unix())
        } else if row.is_unclaimed(now.unix()) {
            row.withdrawn(now.unix())
        } else {
            continue;
        };
        settled.push((rollout.plan.name.clone(), number, row));
    }
    apply(book, settled, changes);
    unlocked.sort_unstable();
    for device in unlocked {
        changes.push(book.set_lock(device, None));
    }
}

fn apply(book: &mut Book, mut rows: Vec<(RolloutId, u32, Deployment)>, changes: &mut Vec<Change>) {
    rows.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    for (name, device, row) in rows {
        changes.push(book.set(&name, device, row));
    }
}

fn halt(book: &mut Book, now: UtcTime, changes: &mut Vec<Change>) {
    let halts: Vec<_> = book
        .rollouts()
        .filter_map(|rollout| {
            let why = recalled(book, rollout).or_else(|| rollout.halt())?;
            let status = Status {
                stage: Stage::Halted { why },
                since: now.unix(),
                baking_since: None,
                ..rollout.status.clone()
            };
            Some((rollout.plan.name.clone(), status))
        })
        .collect();
    for (name, status) in halts {
        changes.push(book.set_status(&name, status));
    }
}

/// A recall that runs, or ran, takes its releases away from every other rollout.
fn recalled(book: &Book, rollout: &Rollout) -> Option<Halt> {
    if !matches!(
        rollout.status.stage,
        Stage::Running | Stage::Paused | Stage::Done
    ) {
        return None;
    }
    let digest = &rollout.release.target.sha256;
    let by = recall_of(book, digest)?;
    Some(Halt::Recalled { by })
}

/// The rollout that recalls this release, if one does.
fn recall_of(book: &Book, digest: &ampoule_protocol::digest::Digest) -> Option<String> {
    let mut rollouts = book.rollouts();
    let by = rollouts.find(|other| {
        let stands = !matches!(other.status.stage, Stage::Awaiting | Stage::Aborted);
        other.plan.kind == Kind::Recall && stands && other.plan.recalls.contains(digest)
    })?;
    Some(by.plan.name.to_string())
}

/// Takes back offers of rollouts that were halted or aborted, a slice of them; says whether some are
/// left.
fn withdraw(book: &mut Book, slice: usize, now: UtcTime, changes: &mut Vec<Change>) -> bool {
    let mut open = Vec::new();
    for rollout in book.rollouts() {
        if !rollout.status.stage.recalls_offers() || rollout.tally().open == 0 {
            continue;
        }
        let rows = rollout.deployments();
        let rows = rows.filter(|(_, row)| row.phase == Phase::Offered);
        open.extend(rows.map(|(number, _)| (rollout.plan.name.clone(), number)));
    }
    let is_more = open.len() > slice;
    if is_more {
        open.select_nth_unstable(slice);
        open.truncate(slice);
    }
    let row = |(name, number): (RolloutId, u32)| {
        let row = book.rollout(&name)?.deployment(number)?;
        let row = row.withdrawn(now.unix());
        Some((name, number, row))
    };
    let withdrawn = open.into_iter().filter_map(row).collect();
    apply(book, withdrawn, changes);
    is_more
}
