//! What a rollout would do to the recorded fleet: who gets what when.
//!
//! The real decision, run over a copy of the book against a clock that jumps from event to event.
//! The one thing assumed is how devices answer: each takes its offer and commits after
//! [`Assumed::answer_secs`], unless it is among the silent ones (not heard of for
//! [`Assumed::silent_days`]), which never ask.

use std::collections::BTreeMap;

use ampoule_protocol::time::UtcTime;
use serde::{Deserialize, Serialize};

use super::acts::Refused;
use super::agenda::Agenda;
use super::book::{Book, Change, Rollout};
use super::deployment::Phase;
use super::facts::{DeviceFacts, SECS_PER_DAY};
use super::objection::object;
use super::permits::Cap;
use super::statistics::excluded_rate;
use super::status::Stage;

/// Jumps of the clock; a plan has few steps, and each device answers once.
const EVENTS_MAX: usize = 100_000;
/// The longest time that is looked ahead: two years.
const HORIZON_SECS: i64 = 2 * 365 * 86_400;

/// How devices are assumed to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assumed {
    /// From offer to commit.
    pub answer_secs: u32,
    /// Devices silent for longer than this stay silent.
    pub silent_days: u32,
}

impl Default for Assumed {
    fn default() -> Self {
        Self {
            answer_secs: 6 * 3600,
            silent_days: 30,
        }
    }
}

/// Who gets what when.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Schedule {
    /// The steps that open, in order.
    pub steps: Vec<Opened>,
    /// When the last step was good to the end; absent where it never is.
    pub done_at: Option<UtcTime>,
    /// Devices that are never offered, by reason in words.
    pub left_out: BTreeMap<String, usize>,
    /// Why it stopped by itself, where it did.
    pub halted: Option<String>,
}

/// A step that opens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Opened {
    /// From 1.
    pub step: usize,
    /// The first offer of it.
    pub at: UtcTime,
    /// The last offer of it; permits spread a step over time.
    pub until: UtcTime,
    /// Devices asked up to here.
    pub devices: Vec<String>,
    /// If all of them are good: rates above this are excluded with 95 % confidence.
    pub excludes_above: f64,
}

/// Adds `rollout` to a copy of the book and lets it run.
///
/// # Errors
/// The book does not take the rollout.
pub fn dry_run(
    book: &Book,
    rollout: Rollout,
    (devices, caps): (&[DeviceFacts], &[Cap]),
    assumed: Assumed,
    now: UtcTime,
) -> Result<Schedule, Refused> {
    let name = rollout.plan.name.clone();
    let mut book = book.clone();
    let mut rollout = rollout;
    rollout.status.stage = Stage::Running;
    if book.rollout(&name).is_none() {
        book.add(rollout)?;
    }
    let mut run = Run {
        steps: Vec::new(),
        answers: BTreeMap::new(),
        asked: 0,
    };
    let mut agenda = Agenda::new(caps.into(), usize::MAX);
    let mut at = now;
    for _ in 0..EVENTS_MAX {
        let changes = agenda.decide(&mut book, devices, at);
        run.note(&name, &book, devices, &changes, assumed, at);
        if !changes.is_empty() {
            continue;
        }
        let Some(next) = run.next(&book, &name, at) else {
            break;
        };
        if next > now.unix().saturating_add(HORIZON_SECS) {
            break;
        }
        at = UtcTime::from_unix(next);
        run.answer(&mut book, at);
    }
    Ok(run.finish(&book, &name, devices, at))
}

struct Run {
    steps: Vec<Opened>,
    /// Who answers when, over all rollouts.
    answers: BTreeMap<i64, Vec<(super::plan::RolloutId, u32)>>,
    asked: u32,
}

impl Run {
    fn note(
        &mut self,
        name: &super::plan::RolloutId,
        book: &Book,
        devices: &[DeviceFacts],
        changes: &[Change],
        assumed: Assumed,
        now: UtcTime,
    ) {
        for change in changes {
            let Change::Deployment {
                rollout,
                device,
                row,
            } = change
            else {
                continue;
            };
            if row.phase != Phase::Offered {
                continue;
            }
            let facts = &devices[*device as usize];
            let alive = i64::from(assumed.silent_days) * SECS_PER_DAY;
            if facts.seen_at.is_some_and(|seen| now.unix() - seen <= alive) {
                let at = now.unix().saturating_add(assumed.answer_secs.into());
                let answers = self.answers.entry(at).or_default();
                answers.push((rollout.clone(), *device));
            }
            if rollout == name {
                let step = book.rollout(name).map_or(0, |rollout| rollout.status.step);
                self.asked += 1;
                self.offered(usize::from(step) + 1, facts, now);
            }
        }
    }

    fn offered(&mut self, step: usize, device: &DeviceFacts, at: UtcTime) {
        if self.steps.last().is_none_or(|open| open.step != step) {
            self.steps.push(Opened {
                step,
                at,
                until: at,
                devices: Vec::new(),
                excludes_above: 1.0,
            });
        }
        let open = self.steps.last_mut().expect("one was just added");
        open.until = at;
        open.devices.push(device.device.to_string());
        open.excludes_above = excluded_rate(self.asked);
    }

    /// The next time at which something happens.
    fn next(&self, book: &Book, name: &super::plan::RolloutId, at: UtcTime) -> Option<i64> {
        let answer = self.answers.keys().next().copied();
        let moments = book.rollouts().filter_map(Rollout::next_moment);
        // Offers that nobody takes run out; permits end with their leases.
        let rows = book
            .rollout(name)
            .into_iter()
            .flat_map(Rollout::deployments);
        let ends = rows.flat_map(|(_, row)| [row.begin_before, row.lease_until]);
        let locks = book.locks().map(|(_, lock)| lock.until);
        let times = answer.into_iter().chain(moments).chain(ends).chain(locks);
        let done = book.rollout(name)?.status.stage != Stage::Running;
        times.filter(|time| *time > at.unix() && !done).min()
    }

    fn answer(&mut self, book: &mut Book, now: UtcTime) {
        while let Some(entry) = self.answers.first_entry() {
            if *entry.key() > now.unix() {
                return;
            }
            for (rollout, device) in entry.remove() {
                let row = book.rollout(&rollout).and_then(|r| r.deployment(device));
                let open = row.filter(|row| row.phase == Phase::Offered);
                if let Some(row) = open.map(|row| row.committed(now.unix())) {
                    book.set(&rollout, device, row);
                }
            }
        }
    }

    fn finish(
        self,
        book: &Book,
        name: &super::plan::RolloutId,
        devices: &[DeviceFacts],
        at: UtcTime,
    ) -> Schedule {
        let mut left_out = BTreeMap::new();
        let (mut done_at, mut halted) = (None, None);
        if let Some(rollout) = book.rollout(name) {
            match &rollout.status.stage {
                Stage::Done => done_at = Some(UtcTime::from_unix(rollout.status.since)),
                Stage::Halted { why } => halted = Some(why.to_string()),
                Stage::Awaiting | Stage::Running | Stage::Paused | Stage::Aborted => {}
            }
            let never = devices
                .iter()
                .filter(|device| rollout.deployment(device.number).is_none());
            for device in never {
                let reason = match object(rollout, device, at) {
                    Err(objection) => objection.to_string(),
                    Ok(()) => "its turn does not come".to_owned(),
                };
                *left_out.entry(reason).or_default() += 1;
            }
        }
        Schedule {
            steps: self.steps,
            done_at,
            left_out,
            halted,
        }
    }
}
