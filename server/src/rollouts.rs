//! The rollouts of a running server: the pure decision, joined with store and director.
//!
//! ```text
//!   requests --(heard)--> inbox --+
//!   operator --(act)-------------+--> book --decide--> changes --writer--> durable --> published
//!   once a second, if anything came or ten seconds passed                              assignments
//! ```
//!
//! Invariants:
//! - The director is told of a change when the store has it, never before.
//! - Changes are written in the order in which they were made: one turn at a time.
//! - Two assignments of one device never carry the same second: versions are seconds.
//! - Where several servers share a store ([`others`]), one at a time has the turn: it knows all that
//!   the others decided before it decides, and what it decides is written within the turn.

mod assignments;
mod load;
pub mod locks;
mod others;
mod recorded;
mod state;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use ampoule_protocol::director::Terms;
use ampoule_protocol::release::FileRef;
use ampoule_protocol::time::UtcTime;

use crate::audit::{Audit, AuditError};
use crate::director::Assigned;
use crate::rollout::{
    Act, Agenda, Book, Change, Deployment, DeviceFacts, Halt, Refused, Rollout, RolloutId,
};
use crate::store::writer::Writer;
use crate::store::{DeviceRow, StoreError, Write};
use assignments::Assignments;
pub use assignments::{APART_SECS, HOLD_SECS};
pub use others::Behind;
use others::{Held, Others};
pub use state::{Heard, State};

/// Each decision has a second of its own, so where many are made in one second they run ahead of the
/// clock, by this many seconds at most: the next one waits.
pub const AHEAD_MAX_SECS: i64 = 2;
/// A clock that is further behind what was decided was set back; nobody waits for that.
const SET_BACK_SECS: i64 = 60;

/// See the module's head.
pub struct Rollouts {
    audit: OnceLock<Audit>,
    inbox: Mutex<Vec<Heard>>,
    state: Mutex<State>,
    assigned: Assignments,
    /// Who changes the book also writes it down before anybody else does.
    turn: tokio::sync::Mutex<()>,
    /// Other servers on the same store.
    others: Option<Others>,
}

impl Rollouts {
    /// Writes what is decided down in this log from now on.
    pub fn record_in(&self, audit: Audit) {
        // It is set once, when a server starts; tests decide without a log.
        let _ = self.audit.set(audit);
    }

    /// Tells of something; nobody waits. What the store tells all its servers comes from there.
    pub fn hear(&self, heard: Heard) {
        if self.others.is_none() {
            self.push(heard);
        }
    }

    /// Tells that a device has this assignment.
    pub fn hear_taken(&self, device: u32, assigned: &Assigned) {
        if assigned.offer.is_some() && self.assigned.is_newest(device, assigned) {
            self.push(Heard::Taken(device));
        }
    }

    fn push(&self, heard: Heard) {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        inbox.push(heard);
    }

    /// What is known, for looking.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer from all that happened up to `now`. It blocks; others have the state between two slices.
    pub fn told<T>(
        &self,
        now: UtcTime,
        answer: impl FnOnce(&Book, &[DeviceFacts], &Agenda) -> T,
    ) -> T {
        loop {
            if let Some((book, devices, agenda)) = self.state().told(now) {
                return answer(book, devices, agenda);
            }
            std::thread::yield_now();
        }
    }

    /// What the director may say to a device at `now`; nothing where another server may say
    /// something else at this moment, and the device must come again.
    pub fn assigned(&self, device: &DeviceRow, now: UtcTime) -> Option<Assigned> {
        self.assigned.of(device, now)
    }

    /// One look, if there is reason for one: decides, writes down, and then publishes.
    ///
    /// Where there is much to think about it decides nothing until that is done, a slice at a time, and
    /// whoever waits for the turn has it in between.
    ///
    /// # Errors
    /// The store or the audit log failed; nothing is published then.
    pub async fn tick(&self, writer: &Writer, now: UtcTime) -> Result<usize, TickError> {
        loop {
            let (count, is_behind) = self.look(writer, now).await?;
            // Each decision has a second of its own, so what is left after one waits for the next.
            if count > 0 || !is_behind {
                return Ok(count);
            }
            tokio::task::yield_now().await;
        }
    }

    /// The first slice of [`Self::tick`]: what was told before is known after it, or
    /// [`AHEAD_MAX_SECS`] later where too much is decided at this moment. How many changes there were,
    /// and whether something is left to do at once.
    ///
    /// # Errors
    /// As for [`Self::tick`].
    pub async fn look(&self, writer: &Writer, now: UtcTime) -> Result<(usize, bool), TickError> {
        let _turn = self.turn.lock().await;
        self.catch_up().await?;
        if !self.has_reason(now) || self.is_ahead(now) {
            return Ok((0, false));
        }
        let turn = self.begin().await?;
        // Whoever had the turn before has decided meanwhile.
        if turn.is_some() && self.is_ahead(now) {
            self.write(turn, writer, &[]).await?;
            return Ok((0, false));
        }
        let (changes, now, is_behind) = {
            let heard = {
                let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *inbox)
            };
            let mut state = self.state();
            // Each look has a second of its own, also where the clock was set back.
            let now = now.max(UtcTime::from_unix(state.published_at + 1));
            (state.look(heard, now), now, state.agenda.is_behind())
        };
        let count = changes.len();
        self.write(turn, writer, &changes).await?;
        if count > 0 {
            self.record(&changes, now).await?;
            let mut state = self.state();
            state.published_at = now.unix();
            self.publish(&state, &decided(&changes));
        }
        Ok((count, is_behind))
    }

    /// Where a turn costs something, it is taken for news or when the clock asks for it.
    fn has_reason(&self, now: UtcTime) -> bool {
        let inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        self.others.is_none() || !inbox.is_empty() || self.state().is_time(now)
    }

    /// Whether what was decided is so far ahead of the clock that nothing more is decided now.
    fn is_ahead(&self, now: UtcTime) -> bool {
        let ahead = self.state().published_at.saturating_sub(now.unix());
        (AHEAD_MAX_SECS..SET_BACK_SECS).contains(&ahead)
    }

    /// Adds a rollout, durably.
    ///
    /// # Errors
    /// The book does not take it, or the store failed.
    pub async fn add(&self, writer: &Writer, rollout: Rollout) -> Result<(), ActError> {
        let _turn = self.turn.lock().await;
        let turn = self.begin().await?;
        let change = {
            let mut state = self.state();
            state.looked_at = 0;
            state.book.add(rollout)?
        };
        Ok(self.write(turn, writer, &[change]).await?)
    }

    /// Does what a person asks, durably; the next look carries it out.
    ///
    /// # Errors
    /// It is not done, or the store failed.
    pub async fn act(
        &self,
        writer: &Writer,
        name: &RolloutId,
        act: &Act,
        now: UtcTime,
    ) -> Result<(), ActError> {
        let _turn = self.turn.lock().await;
        let turn = self.begin().await?;
        let changes = {
            let mut state = self.state();
            state.looked_at = 0;
            let now = now.max(UtcTime::from_unix(state.published_at));
            state.book.act(name, act, now)?
        };
        Ok(self.write(turn, writer, &changes).await?)
    }

    /// Writes down; within the turn, where it was taken.
    async fn write(
        &self,
        turn: Option<Held>,
        writer: &Writer,
        changes: &[Change],
    ) -> Result<(), StoreError> {
        let writes = changes.iter().map(row_of).collect();
        match turn {
            Some(turn) => self.finish(turn, writes).await,
            None => writer.write_all(writes).await.map(drop),
        }
    }

    /// Halts every rollout, durably; the names of those that were not halted before.
    ///
    /// # Errors
    /// The store failed.
    pub async fn halt_all(
        &self,
        writer: &Writer,
        why: &Halt,
        now: UtcTime,
    ) -> Result<Vec<RolloutId>, StoreError> {
        let _turn = self.turn.lock().await;
        let turn = self.begin().await?;
        let changes = {
            let mut state = self.state();
            state.looked_at = 0;
            state.book.halt_all(why, now)
        };
        self.write(turn, writer, &changes).await?;
        let names = changes.iter().filter_map(|change| match change {
            Change::Rollout(rollout) => Some(rollout.plan.name.clone()),
            Change::Deployment { .. } | Change::Lock { .. } => None,
        });
        Ok(names.collect())
    }

    /// Lets the director speak of what is durable now.
    fn publish(&self, state: &State, decided: &HashMap<u32, i64>) {
        for (device, at) in decided {
            let offer = offer_of(state, *device);
            self.assigned.set(*device, offer, *at);
        }
    }
}

/// The devices of whom something was decided, each with the latest second of that.
fn decided(changes: &[Change]) -> HashMap<u32, i64> {
    latest(changes.iter().filter_map(|change| match change {
        Change::Deployment { device, row, .. } => Some((*device, row)),
        Change::Rollout(_) | Change::Lock { .. } => None,
    }))
}

/// The latest second at which one of each device's rows changed.
fn latest<'a>(rows: impl Iterator<Item = (u32, &'a Deployment)>) -> HashMap<u32, i64> {
    let mut latest = HashMap::new();
    for (device, row) in rows {
        let at = latest.entry(device).or_insert(i64::MIN);
        *at = row.changed_at().max(*at);
    }
    latest
}

/// The offer of a device, in the words of the director.
fn offer_of(state: &State, device: u32) -> Option<(FileRef, Terms)> {
    let (rollout, row) = state.book.offer(device)?;
    let facts = state.device(device)?;
    let terms = Terms {
        format: 1,
        device: facts.device.clone(),
        hardware: (*row.hardware).clone(),
        rollback_index: Some(rollout.release.rollback_index),
        rollout: Some(rollout.plan.name.to_string()),
        begin_before: Some(UtcTime::from_unix(row.begin_before)),
    };
    Some((rollout.release.target.clone(), terms))
}

fn row_of(change: &Change) -> Write {
    let json = |bytes: serde_json::Result<Vec<u8>>| bytes.expect("rows are plain data");
    match change {
        Change::Rollout(rollout) => Write::Rollout {
            name: rollout.plan.name.clone(),
            bytes: json(serde_json::to_vec(rollout)),
        },
        Change::Deployment {
            rollout,
            device,
            row,
        } => Write::Deployment {
            rollout: rollout.clone(),
            device: *device,
            bytes: json(serde_json::to_vec(row)),
        },
        Change::Lock { device, lock } => locks::write_of(*device, lock.as_ref()),
    }
}

/// Why rollouts stand still.
#[derive(Debug, thiserror::Error)]
pub enum TickError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was decided cannot be written down.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// Why an act was not done.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The book says no.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
