//! What servers that share a store tell each other through it.

use std::collections::BTreeMap;

use super::{StoreError, Write, Written};
use crate::rollout::RolloutId;

/// A device's share in a rollout, by the device's number.
pub type Share = (RolloutId, u32);

/// The right to decide about rollouts, held by one server at a time. Dropped, it is given back and
/// nothing was written.
pub trait Turn: Send {
    /// [`super::Store::news`], with everything that was decided in turns before.
    ///
    /// # Errors
    /// The store failed.
    fn news(&mut self, since: Option<&Mark>) -> Result<(Vec<News>, Mark), StoreError>;

    /// Writes what was decided, durably, and gives the turn back.
    ///
    /// # Errors
    /// The store failed; whether it was written only reading tells.
    fn finish(self: Box<Self>, writes: Vec<Write>) -> Result<Vec<Written>, StoreError>;
}

/// Up to where the news are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mark {
    /// The oldest transaction that was open.
    pub(super) open: i64,
    /// What of it and behind it was told: the row's number, and its transaction.
    pub(super) told: BTreeMap<i64, i64>,
    /// The store's clock, milliseconds of Unix time.
    pub clock_millis: i64,
}

/// Something that another server may have changed; its rows tell what is there now.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum News {
    /// A device was enrolled or revoked.
    Device(u32),
    /// A device reports other software than before.
    Inventory(u32),
    /// Operators said something of a device.
    Tags(u32),
    /// A receipt of a device came, the one of this number.
    Receipt(u32, u64),
    /// A rollout changed.
    Rollout(RolloutId),
    /// A device's share in a rollout changed.
    Deployment(RolloutId, u32),
    /// A device took or gave back a lock.
    Lock(u32),
}
