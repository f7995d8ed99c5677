//! What a server knows of its fleet: the book, the devices, and what happened to them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use ampoule_protocol::device::{Inventory, Receipt};
use ampoule_protocol::time::UtcTime;

use crate::rollout::agenda::SLICE;
use crate::rollout::lock::{LockAsk, NotLocked};
use crate::rollout::permits::Cap;
use crate::rollout::{Agenda, Book, Change, DeviceFacts, Neighbours, Profile};
use crate::store::{DeviceRow, Standing};

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

/// The book and what it is about.
pub struct State {
    pub(super) book: Book,
    /// To be changed through [`Self::change`] alone.
    devices: Vec<DeviceFacts>,
    profiles: HashSet<Arc<Profile>>,
    /// By the caps of this fleet.
    pub(super) neighbours: Neighbours,
    /// What the next look has to think about.
    pub(super) agenda: Agenda,
    /// The last second that something was published for.
    pub(super) published_at: i64,
    pub(super) looked_at: i64,
}

impl State {
    /// Of a book, and of a fleet of this size that nothing is known of.
    pub(super) fn new(book: Book, caps: Vec<Cap>, devices: usize, published_at: i64) -> Self {
        Self {
            book,
            devices: Vec::with_capacity(devices),
            profiles: HashSet::new(),
            agenda: Agenda::new(caps.clone(), SLICE),
            neighbours: Neighbours::new(caps),
            published_at,
            looked_at: 0,
        }
    }

    /// The book.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// The devices and the caps, as the decision takes them.
    pub fn world(&self) -> (&[DeviceFacts], &[Cap]) {
        (&self.devices, self.neighbours.caps())
    }

    /// What is known of a device.
    pub(super) fn device(&self, number: u32) -> Option<&DeviceFacts> {
        self.devices.get(number as usize)
    }

    /// Takes a lock for a device, or prolongs its own.
    pub(super) fn lock(
        &mut self,
        number: u32,
        ask: &LockAsk,
        now: UtcTime,
    ) -> Result<Change, NotLocked> {
        let world = (self.devices.as_slice(), &self.neighbours);
        self.book.lock(number, ask, world, now)
    }

    /// Book, devices and the agenda that knows what happened to them up to `now`, for an answer; nothing
    /// where it has a slice more to think about.
    pub(super) fn told(&mut self, now: UtcTime) -> Option<(&Book, &[DeviceFacts], &Agenda)> {
        let is_all = self.agenda.follow(&mut self.book, &self.devices, now);
        is_all.then_some((&self.book, &self.devices, &self.agenda))
    }

    /// What changed in the book; `true` where the fleet should be looked at because of it.
    pub(super) fn hear(&mut self, heard: Heard, now: UtcTime) -> (Option<Change>, bool) {
        match heard {
            Heard::Row(row) => {
                self.follow(&row);
                (None, true)
            }
            Heard::Inventory(number, inventory) => {
                let new = self.set_profile(number, &inventory);
                if let Some(device) = self.change(number) {
                    device.seen_at = Some(now.unix());
                }
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

    pub(super) fn follow(&mut self, row: &DeviceRow) {
        let number = row.number as usize;
        while self.devices.len() <= number {
            let missing = u32::try_from(self.devices.len()).unwrap_or(u32::MAX);
            self.devices.push(nobody(missing, row));
        }
        if let Some(device) = self.change(row.number) {
            device.device = row.device.clone();
            device.enrolled = row.standing == Standing::Enrolled;
            device.enrolled_at = row.enrolled_at;
            device.seen_at = row.seen_at.or(device.seen_at);
        }
    }

    /// Takes over what a device runs; whether that is news.
    pub(super) fn set_profile(&mut self, number: u32, inventory: &Inventory) -> bool {
        let profile = Some(self.shared(Profile::of(inventory)));
        let Some(device) = self.change(number) else {
            return false;
        };
        let new = device.profile != profile;
        device.profile = profile;
        new
    }

    pub(super) fn set_tags(&mut self, number: u32, tags: BTreeMap<String, String>) {
        let tags = Arc::new(tags);
        if let Some(device) = self.change(number) {
            let before = std::mem::replace(&mut device.tags, tags.clone());
            self.neighbours.moved(number, &before, &tags);
        }
    }

    /// A device, to be changed: the next look thinks about it.
    pub(super) fn change(&mut self, number: u32) -> Option<&mut DeviceFacts> {
        let device = self.devices.get_mut(number as usize)?;
        self.agenda.touch(number);
        Some(device)
    }

    /// One copy of what many devices report alike.
    pub(super) fn shared(&mut self, profile: Profile) -> Arc<Profile> {
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

impl State {
    /// Whether to look though there is no news.
    pub(super) fn is_time(&self, now: UtcTime) -> bool {
        self.agenda.is_behind() || now.unix() >= self.looked_at.saturating_add(IDLE_SECS)
    }

    pub(super) fn look(&mut self, heard: Vec<Heard>, now: UtcTime) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut counts = self.is_time(now);
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
            let more = self.agenda.decide(&mut self.book, &self.devices, now);
            let at_rest = more.is_empty();
            changes.extend(more);
            if at_rest || self.agenda.is_behind() {
                break;
            }
            if changes.len() >= SLICE {
                self.looked_at = 0;
                break;
            }
        }
        changes
    }
}
