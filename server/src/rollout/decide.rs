//! One look at the whole fleet: what changes now.
//!
//! ```text
//!   settle   silence, offers nobody took, devices that run the release already, locks
//!   halt     thresholds, the sequential test, recalls
//!   withdraw open offers of rollouts that halted or were aborted
//!   offer    the lowest places of each running rollout, up to its step, within the permits
//!   advance  bake times and steps
//! ```
//!
//! Deterministic: the same book, devices, caps and time give the same changes. Called again at the
//! same time it goes on where it was (the next step opens) until it changes nothing.

use std::collections::BTreeMap;

use ampoule_protocol::time::UtcTime;

use super::book::{Book, Change, Rollout};
use super::cohort::Place;
use super::deployment::{Deployment, Phase};
use super::facts::DeviceFacts;
use super::objection::{Objection, object};
use super::permits::{Cap, Permits};
use super::plan::{Kind, RolloutId};
use super::status::{Halt, Stage, Status};

/// Decides at `now`, and applies the decision to the book. `devices[n].number` is `n`.
pub fn decide(book: &mut Book, devices: &[DeviceFacts], caps: &[Cap], now: UtcTime) -> Vec<Change> {
    let mut changes = Vec::new();
    settle(book, devices, now, &mut changes);
    halt(book, now, &mut changes);
    withdraw(book, now, &mut changes);
    let waiting = offer(book, devices, caps, now, &mut changes);
    for (name, waiting) in waiting {
        let rollout = book.rollout(&name);
        if let Some(status) = rollout.and_then(|rollout| rollout.advanced(waiting, now)) {
            changes.push(book.set_status(&name, status));
        }
    }
    changes
}

fn settle(book: &mut Book, devices: &[DeviceFacts], now: UtcTime, changes: &mut Vec<Change>) {
    let mut settled = Vec::new();
    for rollout in book.rollouts().filter(|rollout| rollout.tally().open > 0) {
        for (number, row) in rollout.deployments() {
            if row.phase != Phase::Offered {
                continue;
            }
            let device = devices.get(number as usize);
            let runs =
                device.is_some_and(|device| object(rollout, device, now) == Err(Objection::Runs));
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
    }
    apply(book, settled, changes);
    let over = book.locks().filter(|(_, lock)| !lock.is_held(now.unix()));
    for device in over.map(|(device, _)| device).collect::<Vec<_>>() {
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

fn withdraw(book: &mut Book, now: UtcTime, changes: &mut Vec<Change>) {
    let mut withdrawn = Vec::new();
    for rollout in book.rollouts() {
        if !rollout.status.stage.recalls_offers() || rollout.tally().open == 0 {
            continue;
        }
        for (number, row) in rollout.deployments() {
            if row.phase == Phase::Offered {
                let name = rollout.plan.name.clone();
                withdrawn.push((name, number, row.withdrawn(now.unix())));
            }
        }
    }
    apply(book, withdrawn, changes);
}

/// Devices that a rollout may ask, in the order of asking.
pub(super) struct Queue {
    /// Those that were asked before, and may be again; they have their place already.
    pub(super) again: Vec<(Place, u32)>,
    /// Those that did not even take an offer in time, with the Unix time of that offer.
    pub(super) unclaimed: Vec<(i64, u32)>,
    /// Those that were not, as many as the step allows, lowest place first.
    pub(super) new: Vec<(Place, u32)>,
    /// How many were not asked, of whom `new` are the first.
    pub(super) candidates: usize,
}

/// Makes offers; says how many devices of its open step each rollout still has to ask.
fn offer(
    book: &mut Book,
    devices: &[DeviceFacts],
    caps: &[Cap],
    now: UtcTime,
    changes: &mut Vec<Change>,
) -> BTreeMap<RolloutId, usize> {
    let queues = queues(book, devices, now);
    let mut permits = Permits::held_by(caps, holders(book, devices, now));
    let mut waiting: BTreeMap<_, _> = queues.keys().map(|name| (name.clone(), 0)).collect();
    let mut offers = Vec::new();
    for (name, number) in in_turn(book, &queues) {
        let rollout = book.rollout(name).expect("it has a queue");
        let before = rollout.deployment(number);
        if permits.take(&devices[number as usize]).is_ok() {
            let row = Deployment::offer(&rollout.plan, &rollout.release, before, now.unix());
            offers.push((name.clone(), number, row));
        } else if !before.is_some_and(Deployment::was_unclaimed) {
            // A step waits for nobody who was asked and was not there.
            *waiting.get_mut(name).expect("it has a queue") += 1;
        }
    }
    apply(book, offers, changes);
    waiting
}

/// All that may be asked now, in the order in which they take permits: the higher priority first, and
/// after all rollouts those who did not take an offer, whoever waits longest first. A device that is
/// dead would else hold the one permit of its ward for ever, offer after offer, and its neighbours
/// would wait.
fn in_turn<'a>(book: &Book, queues: &'a BTreeMap<RolloutId, Queue>) -> Vec<(&'a RolloutId, u32)> {
    let mut order: Vec<_> = queues.iter().collect();
    order.sort_by_key(|(name, _)| std::cmp::Reverse(book.rollout(name).map(|r| r.plan.priority)));
    let first = order.iter().flat_map(|(name, queue)| {
        let mine = queue.again.iter().chain(&queue.new);
        mine.map(|(_, number)| (*name, *number))
    });
    let mut last: Vec<_> = order
        .iter()
        .flat_map(|(name, queue)| queue.unclaimed.iter().map(|entry| (*entry, *name)))
        .collect();
    last.sort_by_key(|(entry, _)| *entry);
    first
        .chain(last.into_iter().map(|((_, number), name)| (name, number)))
        .collect()
}

/// Whose permits count just now.
pub(super) fn holders<'a>(
    book: &'a Book,
    devices: &'a [DeviceFacts],
    now: UtcTime,
) -> impl Iterator<Item = &'a DeviceFacts> {
    book.held(now)
        .map(|(number, _)| number)
        .filter_map(|number| devices.get(number as usize))
}

/// The devices that each rollout may ask now.
pub(super) fn queues(
    book: &Book,
    devices: &[DeviceFacts],
    now: UtcTime,
) -> BTreeMap<RolloutId, Queue> {
    let running: Vec<&Rollout> = book
        .rollouts()
        .filter(|rollout| rollout.offers(now))
        .collect();
    let mut queues: Vec<Queue> = running
        .iter()
        .map(|_| Queue {
            again: Vec::new(),
            unclaimed: Vec::new(),
            new: Vec::new(),
            candidates: 0,
        })
        .collect();
    if running.is_empty() {
        return BTreeMap::new();
    }
    for device in devices.iter().filter(|device| book.is_free(device.number)) {
        let Some(index) = chosen(&running, device, now) else {
            continue;
        };
        let (rollout, queue) = (running[index], &mut queues[index]);
        let entry = (rollout.key.place(&device.device), device.number);
        match rollout.deployment(device.number) {
            Some(row) if row.was_unclaimed() => {
                queue.unclaimed.push((row.offered_at, device.number));
            }
            Some(_) => queue.again.push(entry),
            None => queue.new.push(entry),
        }
    }
    let named = running.into_iter().zip(queues).map(|(rollout, mut queue)| {
        queue.cut(rollout);
        (rollout.plan.name.clone(), queue)
    });
    named.collect()
}

impl Queue {
    /// Leaves the lowest places that the step has room for, in order.
    fn cut(&mut self, rollout: &Rollout) {
        self.candidates = self.new.len();
        let asked = rollout.deployments.len();
        let room = rollout.limit(asked + self.candidates).saturating_sub(asked);
        if room == 0 {
            self.new.clear();
        } else if room < self.new.len() {
            self.new.select_nth_unstable(room - 1);
            self.new.truncate(room);
        }
        self.new.sort_unstable();
        self.again.sort_unstable();
    }
}

/// Of the rollouts that could ask this device, the one whose turn it is.
pub(super) fn chosen(running: &[&Rollout], device: &DeviceFacts, now: UtcTime) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (index, rollout) in running.iter().enumerate() {
        if !may_ask(rollout, device, now) {
            continue;
        }
        best = Some(match best {
            Some(other) if !is_before(rollout, running[other], device) => other,
            _ => index,
        });
    }
    best
}

fn may_ask(rollout: &Rollout, device: &DeviceFacts, now: UtcTime) -> bool {
    let before = rollout.deployment(device.number);
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
