//! Locks: permits that devices take for themselves, for restarts of their own.
//!
//! An offer is a permit that the server hands out ([`super::permits`]); a lock is one that a device
//! asks for, in the words of FleetLock ([`crate::http`]). Both are counted by the same caps, and a
//! device that holds both is out of service once. A lock is durable before the device is told, ends
//! when the device gives it back, and ends by itself: a device that dies with it blocks its ward for
//! [`Lock::until`] at most.

use std::collections::BTreeSet;

use ampoule_protocol::time::UtcTime;
use serde::{Deserialize, Serialize};

use super::book::{Book, Change};
use super::facts::DeviceFacts;
use super::neighbours::Neighbours;
use super::permits::{Cap, Full, Permits};

/// The group of a device that names none (Zincati's default).
pub const DEFAULT_GROUP: &str = "default";
/// Values that [`NotLocked::Group`] names.
const NAMED_MAX: usize = 8;

/// One that is held; the store has it by the device's number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Unix time since when.
    pub since: i64,
    /// Unix time from which on it is held no more, whatever became of the device.
    pub until: i64,
    /// What the device calls itself; it is who its certificate says, so nothing depends on this.
    pub id: String,
}

/// What a device asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockAsk {
    /// What it calls itself.
    pub id: String,
    /// [`DEFAULT_GROUP`], or the value of a tag by which it is counted.
    pub group: String,
    /// For how many seconds it may be away.
    pub secs: u32,
}

/// Why a device holds no lock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotLocked {
    /// Too many of its ward are out of service.
    #[error("{0}; ask again")]
    Full(Full),
    /// It counts itself to others than we do.
    #[error("the device is in no group \"{group}\"; {}", groups(.counted))]
    Group {
        /// What it said.
        group: String,
        /// The values of its tags that are counted, some of them.
        counted: Vec<String>,
    },
    /// It was enrolled a moment ago.
    #[error("the device is not known yet; ask again")]
    Unknown,
}

fn groups(counted: &[String]) -> String {
    match counted {
        [] => "no tag of it is counted, so it asks as \"default\"".into(),
        some => format!("it asks as \"default\" or one of: {}", some.join(", ")),
    }
}

impl Lock {
    /// Whether it is held at a Unix time.
    pub fn is_held(&self, now: i64) -> bool {
        now < self.until
    }
}

impl Book {
    /// Takes a lock for a device, or prolongs the one that it holds: it asks again, so it has yet to
    /// go away.
    ///
    /// # Errors
    /// Why not; nothing changed then.
    pub fn lock(
        &mut self,
        device: u32,
        ask: &LockAsk,
        (devices, neighbours): (&[DeviceFacts], &Neighbours),
        now: UtcTime,
    ) -> Result<Change, NotLocked> {
        let facts = devices.get(device as usize).ok_or(NotLocked::Unknown)?;
        let caps = neighbours.caps();
        is_in(facts, &ask.group, caps)?;
        let beside = neighbours.beside(facts);
        let away = beside.filter(|device| self.holds_permit(*device, now));
        let holders = away.filter_map(|device| devices.get(device as usize));
        let permits = Permits::held_by(caps, holders);
        permits.would_take(facts).map_err(NotLocked::Full)?;
        let held = self
            .locks
            .get(&device)
            .filter(|lock| lock.is_held(now.unix()));
        let until = now.unix().saturating_add(ask.secs.into());
        let lock = Lock {
            since: held.map_or(now.unix(), |held| held.since),
            until: held.map_or(until, |held| held.until.max(until)),
            id: ask.id.clone(),
        };
        Ok(self.set_lock(device, Some(lock)))
    }

    /// Gives the lock of a device back; `None` where it holds none.
    pub fn unlock(&mut self, device: u32) -> Option<Change> {
        self.locks
            .contains_key(&device)
            .then(|| self.set_lock(device, None))
    }

    /// All locks, by the device's number.
    pub fn locks(&self) -> impl Iterator<Item = (u32, &Lock)> {
        self.locks.iter().map(|(device, lock)| (*device, lock))
    }

    pub(super) fn set_lock(&mut self, device: u32, lock: Option<Lock>) -> Change {
        self.touch(device);
        match &lock {
            Some(lock) => drop(self.locks.insert(device, lock.clone())),
            None => drop(self.locks.remove(&device)),
        }
        Change::Lock { device, lock }
    }
}

/// A device that believes itself in another ward than we do would be counted where nobody looks.
fn is_in(device: &DeviceFacts, group: &str, caps: &[Cap]) -> Result<(), NotLocked> {
    let counted = caps.iter().filter_map(|cap| device.tag(&cap.tag));
    let counted: BTreeSet<&str> = counted.collect();
    if group == DEFAULT_GROUP || counted.contains(group) {
        return Ok(());
    }
    Err(NotLocked::Group {
        group: group.to_owned(),
        counted: counted
            .into_iter()
            .take(NAMED_MAX)
            .map(str::to_owned)
            .collect(),
    })
}
