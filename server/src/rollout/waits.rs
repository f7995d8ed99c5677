//! What a rollout waits for: the answer to "why does it stand?".

use ampoule_protocol::name::DeviceId;
use ampoule_protocol::time::UtcTime;
use serde::Serialize;

use super::agenda::Agenda;
use super::book::{Book, Rollout};
use super::facts::DeviceFacts;
use super::status::Stage;
use super::why::{Why, why};

/// One thing that must come before the next step, or the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "for", rename_all = "kebab-case")]
pub enum Wait {
    /// People.
    #[error("{need} approvals, of which {have} were given")]
    Approvals {
        /// Given.
        have: usize,
        /// Needed.
        need: u32,
    },
    /// Its start time.
    #[error("its start at {start}")]
    Start {
        /// When.
        start: UtcTime,
    },
    /// Nothing that will come: it makes no more offers, and no step opens any more.
    #[error("nothing that will come: its end, {end}, is past")]
    Ended {
        /// When.
        end: UtcTime,
    },
    /// Offers that cannot be made yet.
    #[error("{devices} of the step's devices are not asked yet; {first}: {why}")]
    Offers {
        /// How many.
        devices: usize,
        /// The one whose turn is next.
        first: DeviceId,
        /// What is in its way.
        why: Box<Why>,
    },
    /// A device to ask.
    #[error("a device that it may ask; \"why DEVICE\" tells what is in the way of one")]
    Devices,
    /// Success.
    #[error("success: {committed} of {offered} devices committed, {needed} must")]
    Commits {
        /// Devices that committed.
        committed: u32,
        /// Devices that were asked.
        offered: u32,
        /// What the step asks for.
        needed: usize,
    },
    /// The bake time.
    #[error("its bake time, until {until}")]
    Bake {
        /// Its end.
        until: UtcTime,
    },
}

/// What `rollout` waits for after a look; nothing where it is over, or stands by somebody's word.
pub fn waits(
    rollout: &Rollout,
    (book, devices): (&Book, &[DeviceFacts]),
    agenda: &Agenda,
) -> Vec<Wait> {
    let now = agenda.now();
    match rollout.status.stage {
        Stage::Awaiting => {
            return vec![Wait::Approvals {
                have: rollout.status.approvals.len(),
                need: rollout.plan.approvals,
            }];
        }
        Stage::Running => {}
        Stage::Paused | Stage::Halted { .. } | Stage::Aborted | Stage::Done => return Vec::new(),
    }
    if let Some(start) = rollout.plan.start.filter(|start| now < *start) {
        return vec![Wait::Start { start }];
    }
    if let Some(end) = rollout.plan.end.filter(|end| now >= *end) {
        return vec![Wait::Ended { end }];
    }
    let mut waits = Vec::new();
    if let Some(lane) = agenda.lane(&rollout.plan.name) {
        let room = lane.room(rollout);
        let mut unasked = lane.again.iter().chain(lane.new.iter().take(room));
        if let Some((_, number)) = unasked.next() {
            let first = &devices[number as usize];
            waits.push(Wait::Offers {
                devices: lane.again.len() + room,
                first: first.device.clone(),
                why: Box::new(why(book, rollout, first, agenda)),
            });
        }
    }
    waits.extend(rollout.step_waits());
    waits
}

impl Rollout {
    fn step_waits(&self) -> Option<Wait> {
        let tally = self.tally();
        if tally.offered == 0 {
            return Some(Wait::Devices);
        }
        if !self.has_success() {
            return Some(Wait::Commits {
                committed: tally.committed,
                offered: tally.offered,
                needed: self.commits_needed(),
            });
        }
        let until = self.baked_at().map(UtcTime::from_unix)?;
        Some(Wait::Bake { until })
    }
}
