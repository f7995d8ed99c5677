//! Simultaneity permits: how many devices of one ward may be out of service at the same moment.
//!
//! A cap counts by a tag: `ward = 2` lets two devices with the same value of the tag `ward` hold
//! open offers; an exclusion group (two pumps on one patient) is a cap of 1 on a tag of its own.
//! Devices without the tag are not counted.
//!
//! A permit is an open offer ([`super::Deployment::holds_permit`]) or a lock that the device took for
//! itself ([`super::lock`]): durable before it is signed or answered, so it survives the server's
//! death, and ended by the time in it, so it is never lost for ever.

use std::collections::{BTreeMap, HashMap, HashSet};

use ampoule_protocol::name::DeviceId;
use ampoule_protocol::time::UtcTime;
use serde::{Deserialize, Serialize};

use super::book::{Book, Rollout};
use super::deployment::Deployment;
use super::facts::DeviceFacts;
use super::lock::Lock;

/// Caps of one fleet.
pub const CAPS_MAX: usize = 16;

/// At most `max` devices with the same value of `tag`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cap {
    /// The tag.
    pub tag: String,
    /// Devices at once.
    pub max: u32,
}

/// A cap that is used up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{max} devices with {tag} \"{value}\" hold permits, no more may at once")]
pub struct Full {
    /// The tag.
    pub tag: String,
    /// Its value.
    pub value: String,
    /// Devices at once.
    pub max: u32,
}

/// Who holds what just now.
#[derive(Debug)]
pub struct Permits<'a> {
    caps: &'a [Cap],
    /// By the index of the cap and the value of its tag.
    held: HashMap<(usize, &'a str), u32>,
    /// By number: whoever holds several permits is out of service once.
    holders: HashSet<u32>,
}

impl<'a> Permits<'a> {
    /// Those that `holders` hold.
    pub fn held_by(caps: &'a [Cap], holders: impl Iterator<Item = &'a DeviceFacts>) -> Self {
        let mut permits = Self {
            caps,
            held: HashMap::new(),
            holders: HashSet::new(),
        };
        if !caps.is_empty() {
            for holder in holders {
                permits.add(holder);
            }
        }
        permits
    }

    /// Takes a permit of each cap that counts the device, or none. A device that holds one has it.
    ///
    /// # Errors
    /// The first cap that is used up.
    pub fn take(&mut self, device: &'a DeviceFacts) -> Result<(), Full> {
        self.would_take(device)?;
        self.add(device);
        Ok(())
    }

    /// Whether [`Self::take`] would take one.
    ///
    /// # Errors
    /// The first cap that is used up.
    pub fn would_take(&self, device: &DeviceFacts) -> Result<(), Full> {
        if self.holders.contains(&device.number) {
            return Ok(());
        }
        for (index, cap) in self.caps.iter().enumerate() {
            let Some(value) = device.tag(&cap.tag) else {
                continue;
            };
            let held = self.held.get(&(index, value)).copied().unwrap_or(0);
            if held >= cap.max {
                return Err(Full {
                    tag: cap.tag.clone(),
                    value: value.to_owned(),
                    max: cap.max,
                });
            }
        }
        Ok(())
    }

    fn add(&mut self, device: &'a DeviceFacts) {
        if !self.holders.insert(device.number) {
            return;
        }
        for (index, cap) in self.caps.iter().enumerate() {
            if let Some(value) = device.tag(&cap.tag) {
                *self.held.entry((index, value)).or_default() += 1;
            }
        }
    }
}

/// One permit that is held.
#[derive(Debug, Clone, Copy)]
pub(super) enum Held<'a> {
    /// Because of an offer.
    Offer(&'a Rollout, &'a Deployment),
    /// Because the device asked for it.
    Lock(&'a Lock),
}

impl Book {
    /// All permits that are held at `now`, with the numbers of their devices; some hold several.
    pub(super) fn held(&self, now: UtcTime) -> impl Iterator<Item = (u32, Held<'_>)> {
        let now = now.unix();
        let rows = self
            .with_permits()
            .flat_map(|rollout| rollout.deployments().map(move |row| (rollout, row)));
        let offers = rows
            .filter(move |(_, (_, row))| row.holds_permit(now))
            .map(|(rollout, (number, row))| (number, Held::Offer(rollout, row)));
        let locks = self.locks().filter(move |(_, lock)| lock.is_held(now));
        offers.chain(locks.map(|(number, lock)| (number, Held::Lock(lock))))
    }

    /// Whether [`Self::held`] names this device: asked of few, it is told without going through all.
    pub(super) fn holds_permit(&self, device: u32, now: UtcTime) -> bool {
        let now = now.unix();
        let lock = self.locks.get(&device);
        let mut rows = self
            .with_permits()
            .filter_map(|rollout| rollout.deployment(device));
        lock.is_some_and(|lock| lock.is_held(now)) || rows.any(|row| row.holds_permit(now))
    }

    /// The rollouts because of which permits may be held: those that are over are not gone through.
    fn with_permits(&self) -> impl Iterator<Item = &Rollout> {
        self.rollouts().filter(|rollout| {
            let tally = rollout.tally();
            tally.open > 0 || tally.withdrawn > 0 || tally.silent > 0
        })
    }
}

/// A device that may be out of service, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// Who.
    pub device: DeviceId,
    /// The tags by which it is counted, with their values.
    pub counted: BTreeMap<String, String>,
    /// Offers for which it may be; of several, all but one were taken back.
    pub offers: Vec<Offer>,
    /// The lock that it took for itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock: Option<OwnLock>,
}

/// See [`Holder::offers`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Offer {
    /// Of which rollout.
    pub rollout: String,
    /// From then on it holds no permit because of it.
    pub until: UtcTime,
}

/// See [`Holder::lock`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OwnLock {
    /// When it was taken.
    pub since: UtcTime,
    /// When it ends by itself.
    pub until: UtcTime,
    /// What the device calls itself.
    pub id: String,
}

/// All who hold permits at `now`, by number.
pub fn holders(book: &Book, devices: &[DeviceFacts], caps: &[Cap], now: UtcTime) -> Vec<Holder> {
    let mut held: BTreeMap<u32, (Vec<Offer>, Option<OwnLock>)> = BTreeMap::new();
    for (number, permit) in book.held(now) {
        let (offers, own) = held.entry(number).or_default();
        match permit {
            Held::Offer(rollout, row) => offers.push(Offer {
                rollout: rollout.plan.name.to_string(),
                until: UtcTime::from_unix(row.lease_until),
            }),
            Held::Lock(lock) => {
                *own = Some(OwnLock {
                    since: UtcTime::from_unix(lock.since),
                    until: UtcTime::from_unix(lock.until),
                    id: lock.id.clone(),
                });
            }
        }
    }
    let named = held.into_iter().filter_map(|(number, (offers, lock))| {
        let facts = devices.get(number as usize)?;
        let counted = caps.iter().filter_map(|cap| {
            let value = facts.tag(&cap.tag)?;
            Some((cap.tag.clone(), value.to_owned()))
        });
        Some(Holder {
            device: facts.device.clone(),
            counted: counted.collect(),
            offers,
            lock,
        })
    });
    named.collect()
}
