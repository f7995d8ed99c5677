//! What the director may say to each device, and from when on.
//!
//! Where several servers share a store, a new assignment is served [`HOLD_SECS`] after it was
//! decided: by then each of them knows it, or knows that it is behind and serves none
//! ([`super::others`]). Clocks differ a little, so the old one is served until [`APART_SECS`] before
//! that only, and between the two the device is asked to come again. So no device that asks one
//! server and then another sees a version fall.
//!
//! ```text
//!   decided       deaf servers fall silent     nobody serves the old     all serve the new
//!   |---- LAG (3) ----|                                |---- APART (2) ----|
//!   |------------------------------ HOLD (5) -----------------------------|
//! ```
//!
//! Gap: what a look and its writing take comes out of this time. They are bounded by slices
//! ([`crate::rollout::agenda::SLICE`]): half a second, measured on PostgreSQL.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use ampoule_protocol::director::Terms;
use ampoule_protocol::release::FileRef;
use ampoule_protocol::time::UtcTime;

use crate::director::Assigned;
use crate::store::DeviceRow;

/// From a decision to its being served, where others must hear of it first.
pub const HOLD_SECS: i64 = 5;
/// Two servers' clocks are never further apart; see [`super::others`].
pub const APART_SECS: i64 = 2;

/// By the device's number.
#[derive(Default)]
pub(super) struct Assignments {
    hold_secs: i64,
    devices: RwLock<HashMap<u32, Entry>>,
}

struct Entry {
    /// Served from `changed_at` on: the second of the decision, and the hold.
    assigned: Assigned,
    before: Before,
    /// `before` is served until [`APART_SECS`] before this: from here on another server may serve what
    /// came after it, though that was replaced meanwhile.
    until: i64,
}

/// What is served until the new one is.
#[derive(Clone)]
enum Before {
    /// Nobody knows, so none is.
    Unknown,
    /// The device was assigned nothing.
    Nothing,
    This(Assigned),
}

impl Assignments {
    /// Those of a book as it was read.
    pub(super) fn of_all(all: impl Iterator<Item = (u32, Assigned)>, hold_secs: i64) -> Self {
        let entry = |(device, mut assigned): (u32, Assigned)| {
            assigned.changed_at = assigned.changed_at.saturating_add(hold_secs);
            let (before, until) = (Before::Unknown, assigned.changed_at);
            let entry = Entry {
                assigned,
                before,
                until,
            };
            (device, entry)
        };
        Self {
            hold_secs,
            devices: RwLock::new(all.map(entry).collect()),
        }
    }

    /// What is served to a device at `now`; nothing where it must come again.
    pub(super) fn of(&self, device: &DeviceRow, now: UtcTime) -> Option<Assigned> {
        let nothing = Assigned {
            changed_at: device.enrolled_at,
            offer: None,
        };
        let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = devices.get(&device.number) else {
            return Some(nothing);
        };
        match &entry.before {
            _ if now.unix() >= entry.assigned.changed_at => Some(entry.assigned.clone()),
            _ if self.hold_secs == 0 => Some(entry.assigned.clone()),
            _ if now.unix() >= entry.until - APART_SECS => None,
            Before::Unknown => None,
            Before::Nothing => Some(nothing),
            Before::This(before) => Some(before.clone()),
        }
    }

    /// Whether no other offer was decided since.
    pub(super) fn is_newest(&self, device: u32, assigned: &Assigned) -> bool {
        let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        devices
            .get(&device)
            .is_some_and(|entry| entry.assigned.offer == assigned.offer)
    }

    /// Takes over the offer of a device of whom something was decided at the second `decided_at`. The
    /// version follows the rows alone, also where they changed and the offer did not: a server that
    /// reads them all when it starts says the same.
    pub(super) fn set(&self, device: u32, offer: Option<(FileRef, Terms)>, decided_at: i64) {
        let mut devices = self.devices.write().unwrap_or_else(PoisonError::into_inner);
        let old = devices.get(&device);
        let known_at = old.map_or(i64::MIN, |old| old.assigned.changed_at);
        let changed_at = known_at.max(decided_at.saturating_add(self.hold_secs));
        let same = |old: &Entry| old.assigned.offer.as_deref() == offer.as_ref();
        if changed_at == known_at && old.is_some_and(same) {
            return;
        }
        let (before, until) = match old {
            None => (Before::Nothing, changed_at),
            // We never served it; a server that hears of this later does, perhaps.
            Some(old) if decided_at < old.assigned.changed_at => (old.before.clone(), old.until),
            Some(old) => (Before::This(old.assigned.clone()), changed_at),
        };
        let assigned = Assigned {
            changed_at,
            offer: offer.map(Arc::new),
        };
        let entry = Entry {
            assigned,
            before,
            until,
        };
        devices.insert(device, entry);
    }

    /// Takes over all of what was read anew.
    pub(super) fn replace(&self, with: Self) {
        let new = with.devices.into_inner();
        let mut devices = self.devices.write().unwrap_or_else(PoisonError::into_inner);
        *devices = new.unwrap_or_else(PoisonError::into_inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Standing;
    use ampoule_protocol::digest::Digest;
    use ampoule_protocol::name::{DeviceId, HardwareId, TargetPath};

    fn offer(name: &str) -> (FileRef, Terms) {
        let device = DeviceId::parse("pump-1").unwrap();
        let file = FileRef {
            path: TargetPath::parse(name).unwrap(),
            length: 1,
            sha256: Digest::of(name.as_bytes()),
        };
        let terms = Terms {
            format: 1,
            device,
            hardware: HardwareId::parse("pump-mk3").unwrap(),
            rollback_index: None,
            rollout: None,
            begin_before: None,
        };
        (file, terms)
    }

    fn row() -> DeviceRow {
        DeviceRow {
            number: 0,
            device: DeviceId::parse("pump-1").unwrap(),
            standing: Standing::Enrolled,
            certificate: Digest::of(b""),
            not_after: 0,
            enrolled_at: 50,
            revoked_at: None,
            seen_at: None,
            inventory: None,
            inventory_seq: 0,
            inventory_time: 0,
            receipts: 0,
            events: 0,
        }
    }

    /// Catches: a decision served before others heard of it, one that is served though it was
    /// replaced before its time, a version below one that was served.
    #[test]
    fn what_was_decided_is_served_after_the_hold_and_never_out_of_order() {
        let all = Assignments::of_all(std::iter::empty(), HOLD_SECS);
        let at = |now| {
            let served = all.of(&row(), UtcTime::from_unix(now))?;
            let name = served.offer.map(|offer| offer.0.path.to_string());
            Some((served.changed_at, name))
        };
        all.set(0, Some(offer("one")), 100);
        all.set(0, Some(offer("two")), 101);
        assert_eq!(at(102), Some((50, None)));
        assert_eq!(at(103), None, "another server may not know of \"two\" yet");
        assert_eq!(at(105), None, "\"one\" was replaced before its time");
        assert_eq!(at(106), Some((106, Some("two".into()))));
        all.set(0, None, 200);
        assert_eq!(at(202), Some((106, Some("two".into()))));
        assert_eq!(at(204), None);
        assert_eq!(at(205), Some((205, None)));
        let alone = Assignments::of_all(std::iter::empty(), 0);
        alone.set(0, Some(offer("one")), 100);
        let served = alone.of(&row(), UtcTime::from_unix(100)).unwrap();
        assert_eq!((served.changed_at, served.offer.is_some()), (100, true));
    }

    /// Goal: a device that takes an offer is heard, also where its version rose while it asked (a late
    /// outcome of an offer before it). Catches: versions that are compared instead of offers: one that
    /// was taken would pass for never taken, and be taken back without its silence being counted. And
    /// a device that took what was replaced meanwhile.
    #[test]
    fn an_offer_counts_as_taken_though_its_version_rose() {
        let all = Assignments::of_all(std::iter::empty(), HOLD_SECS);
        all.set(0, Some(offer("one")), 100);
        let served = all.of(&row(), UtcTime::from_unix(105)).unwrap();
        all.set(0, Some(offer("one")), 106);
        assert!(all.is_newest(0, &served));
        all.set(0, Some(offer("two")), 107);
        assert!(!all.is_newest(0, &served));
    }
}
