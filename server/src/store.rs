//! What the server must not lose: who is enrolled, what runs where, what devices reported.
//!
//! [`Store`] is the seam: groups of writes go in and are durable when [`Store::commit`] returns;
//! each group is there whole or not at all. [`writer::Writer`] gathers what waits into groups and
//! stands above any engine. The embedded default is [`sled::SledStore`].
//!
//! Invariants:
//! - Nothing is acknowledged before the disk has it.
//! - A receipt is kept until [`Capacity::receipts_max`] newer ones of its device came.
//! - A damaged store is renamed aside, never deleted.

mod apply;
mod error;
pub mod high_water;
pub mod open;
mod pieces;
pub mod postgres;
pub mod records;
pub mod roster;
mod rows;
mod shared;
pub mod sled;
pub mod transfer;
pub mod writer;

use std::collections::HashMap;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::DeviceId;
use serde::{Deserialize, Serialize};

use crate::audit::medium::Medium;
use crate::rollout::RolloutId;
pub use error::StoreError;
use records::{Key, Kind, Record, RecordWrite};
pub use shared::{Mark, News, Share, Turn};

/// How much is kept of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Receipts; the oldest give way.
    pub receipts_max: u32,
    /// Events; the oldest give way.
    pub events_max: u32,
}

/// Whether a device may speak to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It may.
    Enrolled,
    /// It may no more.
    Revoked,
}

/// What the store knows of one device, without its inventory and receipts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRow {
    /// Its place in the store.
    pub number: u32,
    /// Who it is.
    pub device: DeviceId,
    /// Whether it may speak to us.
    pub standing: Standing,
    /// SHA-256 of the one certificate that it may use.
    pub certificate: Digest,
    /// Unix time at which that certificate ends.
    pub not_after: i64,
    /// Unix time of its (last) enrolment.
    pub enrolled_at: i64,
    /// Unix time of its revocation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revoked_at: Option<i64>,
    /// Unix time of its last inventory or receipt.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seen_at: Option<i64>,
    /// The digest of its current inventory, without what changes from poll to poll.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub inventory: Option<Digest>,
    /// The device's own number of its last inventory.
    #[serde(default)]
    pub inventory_seq: u64,
    /// Unix time of its last inventory, by the device's own clock.
    #[serde(default)]
    pub inventory_time: i64,
    /// Receipts taken so far.
    #[serde(default)]
    pub receipts: u64,
    /// Events so far.
    #[serde(default)]
    pub events: u64,
}

/// One write.
#[derive(Debug, Clone)]
pub enum Write {
    /// Enrols a device, or gives an enrolled or revoked one a new certificate.
    Enroll {
        /// Who.
        device: DeviceId,
        /// SHA-256 of its certificate.
        certificate: Digest,
        /// Unix time at which that ends.
        not_after: i64,
        /// Now.
        at: i64,
    },
    /// Ends a device's right to speak to us.
    Revoke {
        /// Who.
        device: DeviceId,
        /// Now.
        at: i64,
    },
    /// Replaces a device's inventory.
    Inventory {
        /// Whose.
        device: DeviceId,
        /// Now.
        at: i64,
        /// The device's own number of it.
        seq: u64,
        /// Unix time by the device's clock.
        time: i64,
        /// The digest of what does not change from poll to poll.
        digest: Digest,
        /// The inventory as it came.
        bytes: Vec<u8>,
    },
    /// Adds a receipt; one that is there already is not added again.
    Receipt {
        /// Whose.
        device: DeviceId,
        /// Now.
        at: i64,
        /// SHA-256 of `bytes`.
        digest: Digest,
        /// The receipt, signatures and all.
        bytes: Vec<u8>,
    },
    /// Replaces what operators say of a device.
    Tags {
        /// Of whom.
        device: DeviceId,
        /// All of its tags, JSON.
        bytes: Vec<u8>,
    },
    /// Replaces a rollout.
    Rollout {
        /// Its name.
        name: RolloutId,
        /// The rollout without its deployments, JSON.
        bytes: Vec<u8>,
    },
    /// Replaces a device's share in a rollout.
    Deployment {
        /// The rollout.
        rollout: RolloutId,
        /// The device's number.
        device: u32,
        /// The deployment, JSON.
        bytes: Vec<u8>,
    },
    /// Replaces or removes named records, where each of them is as expected; all or none. At most
    /// [`records::TOGETHER_MAX`], each of them named once.
    Records(Vec<RecordWrite>),
    /// Puts a device into an empty store, as another store had it.
    Restore(Box<WholeDevice>),
}

/// All that a store holds of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholeDevice {
    /// Its row.
    pub row: DeviceRow,
    /// Its inventory.
    pub inventory: Option<Vec<u8>>,
    /// What operators say of it.
    pub tags: Option<Vec<u8>>,
    /// Its receipts, oldest first.
    pub receipts: Vec<StoredReceipt>,
    /// Its events, oldest first.
    pub events: Vec<Event>,
}

impl Write {
    /// Whom it is about, where it is about one device by name.
    pub fn device(&self) -> Option<&DeviceId> {
        match self {
            Self::Enroll { device, .. }
            | Self::Revoke { device, .. }
            | Self::Inventory { device, .. }
            | Self::Receipt { device, .. }
            | Self::Tags { device, .. } => Some(device),
            Self::Restore(whole) => Some(&whole.row.device),
            Self::Rollout { .. } | Self::Deployment { .. } | Self::Records(_) => None,
        }
    }

    /// Whether it keeps to the bounds; asked before it joins a group, which it would spoil.
    ///
    /// # Errors
    /// What is too long.
    pub fn check(&self) -> Result<(), StoreError> {
        let Self::Records(records) = self else {
            return Ok(());
        };
        let too_long = |what, len, len_max| Err(StoreError::TooLong { what, len, len_max });
        if records.len() > records::TOGETHER_MAX {
            return too_long("a list of records", records.len(), records::TOGETHER_MAX);
        }
        for record in records {
            let len = record.bytes.as_ref().map_or(0, Vec::len);
            if len > records::RECORD_LEN_MAX {
                return too_long("a record", len, records::RECORD_LEN_MAX);
            }
        }
        Ok(())
    }
}

/// What became of one [`Write`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It is durable; this is the device now.
    Done(DeviceRow),
    /// It was durable already.
    Repeated(DeviceRow),
    /// The device is not enrolled; nothing was written.
    UnknownDevice,
    /// It is durable, and about no device's row.
    Kept,
    /// The records are durable, each with this version, or durably removed.
    Recorded(Vec<Option<u64>>),
    /// A record is not as expected; nothing was written.
    Conflict {
        /// Which of those written, from 0.
        at: usize,
        /// The version that is there.
        version: Option<u64>,
    },
}

/// A receipt as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredReceipt {
    /// Its place among the device's receipts, from 0.
    pub seq: u64,
    /// Unix time of its arrival.
    pub at: i64,
    /// SHA-256 of `bytes`.
    pub digest: Digest,
    /// The receipt, signatures and all.
    pub bytes: Vec<u8>,
}

/// Something that happened to a device, as the server saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its place among the device's events, from 0.
    pub seq: u64,
    /// Unix time.
    pub at: i64,
    /// What happened.
    pub what: EventKind,
    /// The digest that it is about, if any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub digest: Option<Digest>,
}

/// Kinds of [`Event`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// Enrolled, or given a new certificate.
    Enrolled,
    /// Revoked.
    Revoked,
    /// Reports other software than before.
    InventoryChanged,
    /// Numbered its inventory lower than one before: its memory was lost, or a report replayed.
    SequenceFell,
    /// Sent a receipt.
    Receipt,
}

/// The embedded store or a database.
pub trait Store: Send + Sync {
    /// Applies `group` as one, in order, and returns when it would survive a power cut.
    ///
    /// # Errors
    /// Nothing of the group may be relied on; after [`StoreError::Sync`] the store must be opened
    /// again before it is used.
    fn commit(&self, group: &[Write]) -> Result<Vec<Written>, StoreError>;

    /// Every device, for building the table in memory.
    ///
    /// # Errors
    /// The store is damaged or cannot be read.
    fn devices(&self) -> Result<Vec<DeviceRow>, StoreError>;

    /// The current inventory of a device.
    ///
    /// # Errors
    /// The store is damaged or cannot be read.
    fn inventory(&self, device: &DeviceRow) -> Result<Option<Vec<u8>>, StoreError>;

    /// The kept receipts of a device, oldest first.
    ///
    /// # Errors
    /// The store is damaged or cannot be read.
    fn receipts(&self, device: &DeviceRow) -> Result<Vec<StoredReceipt>, StoreError>;

    /// The kept events of a device, oldest first.
    ///
    /// # Errors
    /// The store is damaged or cannot be read.
    fn events(&self, device: &DeviceRow) -> Result<Vec<Event>, StoreError>;

    /// What operators say of a device, as it was written.
    ///
    /// # Errors
    /// The store is damaged or cannot be read.
    fn tags(&self, device: &DeviceRow) -> Result<Option<Vec<u8>>, StoreError>;

    /// Every rollout, as it was written, in no order.
    ///
    /// # Errors
    /// The store is damaged or cannot be read.
    fn rollouts(&self) -> Result<Vec<Vec<u8>>, StoreError>;

    /// The deployments of a rollout, as they were written, by the device's number.
    ///
    /// # Errors
    /// The store is damaged or cannot be read.
    fn deployments(&self, rollout: &RolloutId) -> Result<Vec<(u32, Vec<u8>)>, StoreError>;

    /// A named record.
    ///
    /// # Errors
    /// The store is damaged or cannot be read.
    fn record(&self, kind: &Kind, key: &Key) -> Result<Option<Record>, StoreError>;

    /// At most `max` records of a kind by the bytes of their keys, from behind `after`.
    ///
    /// # Errors
    /// The store is damaged or cannot be read.
    fn records(
        &self,
        kind: &Kind,
        after: Option<&Key>,
        max: usize,
    ) -> Result<Vec<Record>, StoreError>;

    /// The kinds of which there are records, by name.
    ///
    /// # Errors
    /// The store is damaged or cannot be read.
    fn record_kinds(&self) -> Result<Vec<Kind>, StoreError>;

    /// How much it keeps of one device; what it was begun with.
    ///
    /// # Errors
    /// The store is damaged or cannot be read.
    fn capacity(&self) -> Result<Capacity, StoreError>;

    /// Whether other servers may write to it.
    fn is_shared(&self) -> bool {
        false
    }

    /// What servers changed since the mark, ourselves included, and the mark for the next time;
    /// without a mark only that. Where no other server can write there never is any.
    ///
    /// # Errors
    /// The store cannot be read, or does not know any more ([`StoreError::Forgotten`]).
    fn news(&self, _since: Option<&Mark>) -> Result<(Vec<News>, Mark), StoreError> {
        Ok((Vec::new(), Mark::default()))
    }

    /// Grows when there may be news; they may also be there without a word.
    fn told(&self) -> u64 {
        0
    }

    /// The rows of these devices, by number.
    ///
    /// # Errors
    /// The store cannot be read.
    fn some_devices(&self, numbers: &[u32]) -> Result<Vec<DeviceRow>, StoreError> {
        let mut rows = self.devices()?;
        rows.retain(|row| numbers.contains(&row.number));
        rows.sort_by_key(|row| row.number);
        Ok(rows)
    }

    /// These shares of devices in rollouts, those that are there.
    ///
    /// # Errors
    /// The store cannot be read.
    fn some_deployments(&self, wanted: &[Share]) -> Result<Vec<(Share, Vec<u8>)>, StoreError> {
        let mut found = Vec::new();
        for (rollout, device) in wanted {
            let rows = self.deployments(rollout)?;
            let row = rows.into_iter().find(|(number, _)| number == device);
            found.extend(row.map(|(_, bytes)| ((rollout.clone(), *device), bytes)));
        }
        Ok(found)
    }

    /// The current inventories of these devices by their numbers, those that are there.
    ///
    /// # Errors
    /// The store is damaged or cannot be read.
    fn inventories(&self, devices: &[&DeviceRow]) -> Result<HashMap<u32, Vec<u8>>, StoreError> {
        let found = |row: &&DeviceRow| Some((row.number, self.inventory(row).transpose()?));
        let found = devices.iter().filter_map(found);
        found.map(|(number, bytes)| Ok((number, bytes?))).collect()
    }

    /// What operators say of these devices by their numbers, where they do.
    ///
    /// # Errors
    /// The store is damaged or cannot be read.
    fn tags_of(&self, devices: &[&DeviceRow]) -> Result<HashMap<u32, Vec<u8>>, StoreError> {
        let found = |row: &&DeviceRow| Some((row.number, self.tags(row).transpose()?));
        let found = devices.iter().filter_map(found);
        found.map(|(number, bytes)| Ok((number, bytes?))).collect()
    }

    /// These receipts, each by its device and its place there, those that are kept.
    ///
    /// # Errors
    /// The store is damaged or cannot be read.
    fn some_receipts(
        &self,
        wanted: &[(&DeviceRow, u64)],
    ) -> Result<Vec<(u32, StoredReceipt)>, StoreError> {
        let mut found = Vec::new();
        for (row, seq) in wanted {
            let kept = self.receipts(row)?;
            let receipt = kept.into_iter().find(|receipt| receipt.seq == *seq);
            found.extend(receipt.map(|receipt| (row.number, receipt)));
        }
        Ok(found)
    }

    /// The turn to decide about rollouts, waited for; nothing where no other server can write.
    ///
    /// # Errors
    /// The store failed.
    fn turn(&self) -> Result<Option<Box<dyn Turn>>, StoreError> {
        Ok(None)
    }

    /// The folder of the audit log that all servers of this store write; nothing where no other
    /// server can.
    fn audit_files(&self) -> Option<Box<dyn Medium>> {
        None
    }
}
