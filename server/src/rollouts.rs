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

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ampoule_protocol::device::{Inventory, Receipt};
use ampoule_protocol::director::Terms;
use ampoule_protocol::release::FileRef;
use ampoule_protocol::time::UtcTime;

use crate::audit::{Audit, AuditError};
use crate::director::Assigned;
use crate::rollout::permits::Cap;
use crate::rollout::{
    Act, Book, Change, DeviceFacts, Halt, Neighbours, Profile, Refused, Rollout, RolloutId, decide,
};
use crate::store::writer::Writer;
use crate::store::{DeviceRow, Standing, StoreError, Write};
use assignments::Assignments;
pub use assignments::{APART_SECS, HOLD_SECS};
pub use others::Behind;
use others::{Held, Others};

/// Looks at one moment after which the book must have come to rest.
const LOOKS_MAX: usize = 64;
/// Without news the fleet is looked at this often: bake times and silence go by the clock.
const IDLE_SECS: i64 = 10;

/// What requests tell; taken up by the next look.
#[derive(Debug)]
pub enum Heard {
    /// A device was enrolled, revoked or seen.
    Row(DeviceRow),
    /// What a device runs.
    Inventory(u32, Box<Inventory>),
    /// What operators say of a device.
    Tags(u32, BTreeMap<String, String>),
    /// How an update ended; where another server took the receipt, with the Unix time of that.
    Receipt(u32, Box<Receipt>, Option<i64>),
    /// A device has its offer.
    Taken(u32),
}

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

/// The book and what it is about.
pub struct State {
    book: Book,
    devices: Vec<DeviceFacts>,
    profiles: HashSet<Arc<Profile>>,
    /// By the caps of this fleet.
    neighbours: Neighbours,
    /// The last second that something was published for.
    published_at: i64,
    looked_at: i64,
}

impl State {
    /// The book.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// The devices and the caps, as the decision takes them.
    pub fn world(&self) -> (&[DeviceFacts], &[Cap]) {
        (&self.devices, self.neighbours.caps())
    }

    /// What changed in the book; `true` where the fleet should be looked at because of it.
    fn hear(&mut self, heard: Heard, now: UtcTime) -> (Option<Change>, bool) {
        match heard {
            Heard::Row(row) => {
                self.follow(&row);
                (None, true)
            }
            Heard::Inventory(number, inventory) => {
                let profile = Some(self.shared(Profile::of(&inventory)));
                let Some(device) = self.devices.get_mut(number as usize) else {
                    return (None, false);
                };
                device.seen_at = Some(now.unix());
                let new = device.profile != profile;
                device.profile = profile;
                (None, new)
            }
            Heard::Tags(number, tags) => {
                self.set_tags(number, tags);
                (None, true)
            }
            // It came before the last offer and was heard before that was made.
            Heard::Receipt(number, _, Some(at)) if self.book.offered_at(number) >= Some(at) => {
                (None, false)
            }
            Heard::Receipt(number, receipt, _) => {
                let change = self.book.heard(number, &receipt, now);
                let counts = change.is_some();
                (change, counts)
            }
            Heard::Taken(number) => (self.book.taken(number, now), false),
        }
    }

    fn follow(&mut self, row: &DeviceRow) {
        let number = row.number as usize;
        while self.devices.len() <= number {
            let missing = u32::try_from(self.devices.len()).unwrap_or(u32::MAX);
            self.devices.push(nobody(missing, row));
        }
        let device = &mut self.devices[number];
        device.device = row.device.clone();
        device.enrolled = row.standing == Standing::Enrolled;
        device.enrolled_at = row.enrolled_at;
        device.seen_at = row.seen_at.or(device.seen_at);
    }

    fn set_tags(&mut self, number: u32, tags: BTreeMap<String, String>) {
        if let Some(device) = self.devices.get_mut(number as usize) {
            self.neighbours.moved(number, &device.tags, &tags);
            device.tags = Arc::new(tags);
        }
    }

    /// One copy of what many devices report alike.
    fn shared(&mut self, profile: Profile) -> Arc<Profile> {
        if let Some(known) = self.profiles.get(&profile) {
            return known.clone();
        }
        // What nobody reports any more is forgotten when the map has grown.
        if self.profiles.len() > 1024 {
            self.profiles
                .retain(|profile| Arc::strong_count(profile) > 1);
        }
        let profile = Arc::new(profile);
        self.profiles.insert(profile.clone());
        profile
    }
}

/// A number whose row has not been followed yet.
fn nobody(number: u32, row: &DeviceRow) -> DeviceFacts {
    DeviceFacts {
        number,
        device: row.device.clone(),
        enrolled: false,
        enrolled_at: 0,
        seen_at: None,
        profile: None,
        tags: Arc::default(),
    }
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

    /// What the director may say to a device at `now`; nothing where another server may say
    /// something else at this moment, and the device must come again.
    pub fn assigned(&self, device: &DeviceRow, now: UtcTime) -> Option<Assigned> {
        self.assigned.of(device, now)
    }

    /// One look, if there is reason for one: decides, writes down, and then publishes.
    ///
    /// # Errors
    /// The store or the audit log failed; nothing is published then.
    pub async fn tick(&self, writer: &Writer, now: UtcTime) -> Result<usize, TickError> {
        let _turn = self.turn.lock().await;
        self.catch_up().await?;
        if !self.has_reason(now) {
            return Ok(0);
        }
        let turn = self.begin().await?;
        let (changes, now) = {
            let heard = {
                let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *inbox)
            };
            let mut state = self.state();
            // Each look has a second of its own, also where the clock was set back.
            let now = now.max(UtcTime::from_unix(state.published_at + 1));
            (state.look(heard, now), now)
        };
        let count = changes.len();
        self.write(turn, writer, &changes).await?;
        if count > 0 {
            self.record(&changes, now).await?;
            self.publish(&changes, now);
        }
        Ok(count)
    }

    /// Where a turn costs something, it is taken for news or when the clock asks for it.
    fn has_reason(&self, now: UtcTime) -> bool {
        let inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        self.others.is_none()
            || !inbox.is_empty()
            || now.unix() >= self.state().looked_at.saturating_add(IDLE_SECS)
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
    fn publish(&self, changes: &[Change], now: UtcTime) {
        let mut state = self.state();
        state.published_at = now.unix();
        for change in changes {
            if let Change::Deployment { device, .. } = change {
                let offer = offer_of(&state, *device);
                self.assigned.set(*device, offer, now.unix());
            }
        }
    }
}

impl State {
    fn look(&mut self, heard: Vec<Heard>, now: UtcTime) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut counts = now.unix() >= self.looked_at.saturating_add(IDLE_SECS);
        for heard in heard {
            let (change, news) = self.hear(heard, now);
            changes.extend(change);
            counts |= news;
        }
        if !counts {
            return changes;
        }
        self.looked_at = now.unix();
        for _ in 0..LOOKS_MAX {
            let more = decide(&mut self.book, &self.devices, self.neighbours.caps(), now);
            if more.is_empty() {
                break;
            }
            changes.extend(more);
        }
        changes
    }
}

/// The offer of a device, in the words of the director.
fn offer_of(state: &State, device: u32) -> Option<(FileRef, Terms)> {
    let (rollout, row) = state.book.offer(device)?;
    let facts = state.devices.get(device as usize)?;
    let terms = Terms {
        format: 1,
        device: facts.device.clone(),
        hardware: facts.profile.as_ref()?.hardware.clone(),
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
