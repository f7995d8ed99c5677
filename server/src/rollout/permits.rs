//! Simultaneity permits: how many devices of one ward may be out of service at the same moment.
//!
//! A cap counts by a tag: `ward = 2` lets two devices with the same value of the tag `ward` hold
//! open offers; an exclusion group (two pumps on one patient) is a cap of 1 on a tag of its own.
//! Devices without the tag are not counted.
//!
//! A permit is an open offer ([`super::Deployment::holds_permit`]) or a lock that the device took for
//! itself ([`super::lock`]): durable before it is signed or answered, so it survives the server's
//! death, and ended by the time in it, so it is never lost for ever.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ampoule_protocol::name::DeviceId;
use ampoule_protocol::time::UtcTime;
use serde::{Deserialize, Serialize};

use super::book::{Book, Rollout};
use super::deployment::Deployment;
use super::facts::{DeviceFacts, Tags};
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

/// The devices that a cap counts together: its index, and the value of its tag.
pub(super) type Group = (usize, String);

/// Who holds what just now.
#[derive(Debug)]
pub struct Permits {
    caps: Vec<Cap>,
    /// For each cap, by the value of its tag.
    held: Vec<HashMap<String, u32>>,
    /// By number, with the tags by which each is counted: whoever holds several permits is out of
    /// service once.
    holders: HashMap<u32, Arc<Tags>>,
}

impl Permits {
    /// Where nobody holds any.
    pub fn new(caps: Vec<Cap>) -> Self {
        Self {
            held: caps.iter().map(|_| HashMap::new()).collect(),
            caps,
            holders: HashMap::new(),
        }
    }

    /// Those that `holders` hold.
    pub fn held_by<'a>(caps: &[Cap], holders: impl Iterator<Item = &'a DeviceFacts>) -> Self {
        let mut permits = Self::new(caps.into());
        holders.for_each(|holder| permits.add(holder));
        permits
    }

    /// By what is counted.
    pub fn caps(&self) -> &[Cap] {
        &self.caps
    }

    /// Takes a permit of each cap that counts the device, or none. A device that holds one has it.
    ///
    /// # Errors
    /// The index of the first cap that is used up.
    pub fn take(&mut self, device: &DeviceFacts) -> Result<(), usize> {
        if let Some(index) = self.in_the_way(device) {
            return Err(index);
        }
        self.add(device);
        Ok(())
    }

    /// Whether [`Self::take`] would take one.
    ///
    /// # Errors
    /// The first cap that is used up.
    pub fn would_take(&self, device: &DeviceFacts) -> Result<(), Full> {
        let cap = self.in_the_way(device).map(|index| &self.caps[index]);
        cap.map_or(Ok(()), |cap| {
            Err(Full {
                tag: cap.tag.clone(),
                value: device.tag(&cap.tag).unwrap_or_default().to_owned(),
                max: cap.max,
            })
        })
    }

    fn in_the_way(&self, device: &DeviceFacts) -> Option<usize> {
        if self.holders.contains_key(&device.number) {
            return None;
        }
        let mut counted = self.caps.iter().zip(&self.held);
        counted.position(|(cap, held)| {
            let held = device.tag(&cap.tag).map(|value| held.get(value));
            held.is_some_and(|held| held.copied().unwrap_or(0) >= cap.max)
        })
    }

    /// Whether a device holds permits, and its tags, may have changed; the groups that have room now,
    /// where it is no longer counted.
    pub(super) fn update(&mut self, device: &DeviceFacts, holds: bool) -> Vec<Group> {
        let mut freed = Vec::new();
        if let Some(tags) = self.holders.remove(&device.number) {
            for (index, cap) in self.caps.iter().enumerate() {
                if let Some(value) = tags.get(&cap.tag) {
                    subtract(&mut self.held[index], value);
                    freed.push((index, value.clone()));
                }
            }
        }
        if holds {
            self.add(device);
        }
        freed.retain(|(index, value)| {
            let held = self.held[*index].get(value).copied().unwrap_or(0);
            held < self.caps[*index].max
        });
        freed
    }

    fn add(&mut self, device: &DeviceFacts) {
        if self.caps.is_empty() || self.holders.contains_key(&device.number) {
            return;
        }
        self.holders.insert(device.number, device.tags.clone());
        for (cap, held) in self.caps.iter().zip(&mut self.held) {
            let Some(value) = device.tag(&cap.tag) else {
                continue;
            };
            match held.get_mut(value) {
                Some(count) => *count += 1,
                None => drop(held.insert(value.to_owned(), 1)),
            }
        }
    }
}

/// One fewer; what nobody holds is forgotten.
fn subtract(held: &mut HashMap<String, u32>, value: &str) {
    if let Some(count) = held.get_mut(value) {
        *count -= 1;
        if *count == 0 {
            held.remove(value);
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
        self.permit_ends(device, now).is_some()
    }

    /// The Unix time at which the first of a device's permits ends by itself.
    pub(super) fn permit_ends(&self, device: u32, now: UtcTime) -> Option<i64> {
        let now = now.unix();
        let lock = self.locks.get(&device).filter(|lock| lock.is_held(now));
        let rows = self
            .with_permits()
            .filter_map(|rollout| rollout.deployment(device));
        let leases = rows.filter(|row| row.holds_permit(now));
        let ends = leases.map(|row| row.lease_until);
        ends.chain(lock.map(|lock| lock.until)).min()
    }

    /// The Unix time at which something about a device changes by time alone: it is silent, its offer
    /// runs out, a permit of it ends. It is past where the next look has to settle it.
    pub(super) fn next_moment_of(&self, device: u32, now: UtcTime) -> Option<i64> {
        let open = self.offer(device).map(|(rollout, row)| {
            let patience = i64::from(rollout.plan.answer_within_secs);
            let silent = row.taken_at.map(|taken| taken.saturating_add(patience));
            silent.unwrap_or(row.begin_before)
        });
        let lock = self.locks.get(&device).map(|lock| lock.until);
        let permit = self.permit_ends(device, now);
        open.into_iter().chain(lock).chain(permit).min()
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
