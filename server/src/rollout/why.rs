//! Why a device was or was not offered a release: the exact reason, and the same in words.

use ampoule_protocol::time::UtcTime;
use serde::Serialize;

use super::agenda::Agenda;
use super::book::{Book, Rollout};
use super::deployment::{Deployment, Phase};
use super::facts::DeviceFacts;
use super::objection::{Objection, object};
use super::permits::Full;
use super::status::{Halt, Stage};
use super::turn::chosen;

/// See the module's head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum Why {
    /// It is offered now.
    #[error("it is offered since {since}; the device {}", if *.taken { "has taken the offer" } else { "has not asked yet" })]
    Offered {
        /// Since when.
        since: UtcTime,
        /// Whether the device has seen it.
        taken: bool,
    },
    /// It runs there.
    #[error("the device committed it at {at}")]
    Committed {
        /// When we heard.
        at: UtcTime,
    },
    /// It failed there.
    #[error("the device failed at {at} ({code})")]
    Failed {
        /// When we heard, or gave up waiting.
        at: UtcTime,
        /// The device's code; `silent` where it said nothing.
        code: String,
    },
    /// Something about the device or the release speaks against it.
    #[error(transparent)]
    Objection {
        /// What.
        #[serde(flatten)]
        source: Objection,
    },
    /// Approvals are missing.
    #[error("the rollout has {have} of {need} approvals")]
    Awaiting {
        /// Given.
        have: usize,
        /// Needed.
        need: u32,
    },
    /// It has not begun.
    #[error("the rollout begins at {start}")]
    NotBegun {
        /// When it does.
        start: UtcTime,
    },
    /// It makes no new offers.
    #[error("the rollout ended at {end}")]
    Ended {
        /// When it did.
        end: UtcTime,
    },
    /// A person stopped it.
    #[error("the rollout is paused")]
    Paused,
    /// It stopped itself.
    #[error("the rollout halted: {halt}")]
    Halted {
        /// Why.
        halt: Halt,
    },
    /// A person ended it.
    #[error("the rollout was aborted")]
    Aborted,
    /// The device has an open offer of another rollout.
    #[error("the device has an open offer of rollout \"{rollout}\"")]
    Busy {
        /// Of which.
        rollout: String,
    },
    /// Another rollout is before this one for the device.
    #[error("rollout \"{rollout}\" comes first for this device")]
    OtherRollout {
        /// Which.
        rollout: String,
    },
    /// Its turn comes with a later step.
    #[error("{ahead} devices come before it, step {step} has room for {room} more")]
    LaterStep {
        /// Devices not asked yet with lower places.
        ahead: usize,
        /// The open step, from 1.
        step: usize,
        /// Devices that the open step may still ask.
        room: usize,
    },
    /// Too many of its ward are out of service.
    #[error(transparent)]
    Permit {
        /// Which cap.
        #[serde(flatten)]
        source: Full,
    },
    /// Nothing is in the way: the next look offers it.
    #[error("nothing is in the way; the next look offers it")]
    Next,
}

/// Why `device` is or is not offered the release of this rollout, as the book and its agenda stand.
pub fn why(book: &Book, rollout: &Rollout, device: &DeviceFacts, agenda: &Agenda) -> Why {
    let now = agenda.now();
    let before = rollout.deployment(device.number);
    if let Some(told) = before.and_then(|row| of_deployment(rollout, row, now)) {
        return told;
    }
    if let Err(source) = object(rollout, device, now) {
        return Why::Objection { source };
    }
    if let Some(told) = of_stage(rollout, now) {
        return told;
    }
    if let Some((other, _)) = book.offer(device.number) {
        let rollout = other.plan.name.to_string();
        return Why::Busy { rollout };
    }
    of_turn(book, rollout, device, agenda)
}

fn of_deployment(rollout: &Rollout, row: &Deployment, now: UtcTime) -> Option<Why> {
    let settled = UtcTime::from_unix(row.settled_at.unwrap_or(row.offered_at));
    match row.phase {
        Phase::Offered => Some(Why::Offered {
            since: UtcTime::from_unix(row.offered_at),
            taken: row.taken_at.is_some(),
        }),
        Phase::Committed => Some(Why::Committed { at: settled }),
        Phase::Failed if row.may_repeat(&rollout.plan, now.unix()) => None,
        Phase::Failed => Some(Why::Failed {
            at: settled,
            code: row.code.clone().unwrap_or_else(|| "silent".into()),
        }),
        Phase::Withdrawn => None,
    }
}

fn of_stage(rollout: &Rollout, now: UtcTime) -> Option<Why> {
    match &rollout.status.stage {
        Stage::Awaiting => {
            return Some(Why::Awaiting {
                have: rollout.status.approvals.len(),
                need: rollout.plan.approvals,
            });
        }
        Stage::Paused => return Some(Why::Paused),
        Stage::Halted { why } => return Some(Why::Halted { halt: why.clone() }),
        Stage::Aborted => return Some(Why::Aborted),
        Stage::Running | Stage::Done => {}
    }
    match (rollout.plan.start, rollout.plan.end) {
        (Some(start), _) if now < start => Some(Why::NotBegun { start }),
        (_, Some(end)) if now >= end => Some(Why::Ended { end }),
        _ => None,
    }
}

fn of_turn(book: &Book, rollout: &Rollout, device: &DeviceFacts, agenda: &Agenda) -> Why {
    let now = agenda.now();
    let running = book.rollouts().filter(|other| other.offers(now));
    let running: Vec<_> = running.enumerate().collect();
    let first = chosen(&running, device, now).map(|(_, first)| first);
    if let Some(first) = first.filter(|first| first.plan.name != rollout.plan.name) {
        let rollout = first.plan.name.to_string();
        return Why::OtherRollout { rollout };
    }
    let Some(lane) = agenda.lane(&rollout.plan.name) else {
        return Why::Next;
    };
    let place = rollout.key.place(&device.device).0;
    let was_asked = rollout.deployment(device.number).is_some();
    let room = lane.room(rollout);
    if !was_asked && !lane.new.has((place, device.number), room) {
        return Why::LaterStep {
            ahead: lane.new.before(place),
            step: usize::from(rollout.status.step) + 1,
            room,
        };
    }
    match agenda.permits().would_take(device) {
        Ok(()) => Why::Next,
        Err(source) => Why::Permit { source },
    }
}
