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

pub mod high_water;
pub mod open;
mod pieces;
pub mod roster;
pub mod sled;
pub mod writer;

use std::io;
use std::path::PathBuf;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::DeviceId;
use serde::{Deserialize, Serialize};

use crate::rollout::RolloutId;

/// How much is kept of one device.
#[derive(Debug, Clone, Copy)]
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
            Self::Rollout { .. } | Self::Deployment { .. } => None,
        }
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
}

/// Why the store did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds it.
    #[error("the store {0:?} is in use by another process")]
    Busy(PathBuf),
    /// What is there contradicts itself.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The engine failed.
    #[error("the store failed")]
    Engine(#[source] ::sled::Error),
    /// The disk did not take the log.
    #[error("failed to sync the store's log")]
    Sync(#[source] io::Error),
    /// A file beside the engine failed.
    #[error("failed to {act} {path:?}")]
    File {
        /// The verb.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// More writes wait than may.
    #[error("the store has more to write than may wait")]
    Full,
    /// The writer has ended.
    #[error("the store takes no more writes")]
    Closed,
}
