//! Locks that devices take for themselves: durable before the device hears of them.
//!
//! They are named records of the store ([`crate::store::records::lock`]), so each engine keeps, exports
//! and restores them as it does accounts.

use std::sync::PoisonError;

use ampoule_protocol::name::DeviceId;
use ampoule_protocol::time::UtcTime;

use super::load::damaged;
use super::{Heard, Rollouts, TickError};
use crate::audit::{Act, AuditError, Record};
use crate::rollout::lock::{LockAsk, NotLocked};
use crate::rollout::{Change, Lock};
use crate::store::records::lock::{device_of, key, kind};
use crate::store::records::{Expected, RecordWrite};
use crate::store::writer::Writer;
use crate::store::{Store, StoreError, Write};

/// Locks that are read at a time.
const PAGE_LEN: usize = 1000;

/// Why a device holds no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The rules say no.
    #[error(transparent)]
    Not(#[from] NotLocked),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be written down.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

impl Rollouts {
    /// Takes a lock for a device, or prolongs the one that it holds; durable when this returns.
    ///
    /// # Errors
    /// It holds none; or one that it was not told of, where only the audit log failed.
    pub async fn lock(
        &self,
        writer: &Writer,
        (number, device): (u32, &DeviceId),
        ask: &LockAsk,
        now: UtcTime,
    ) -> Result<(), LockError> {
        let _turn = self.turn.lock().await;
        let turn = self.begin().await?;
        self.hear_who_is_where(now);
        let change = self.state().lock(number, ask, now)?;
        self.write(turn, writer, std::slice::from_ref(&change))
            .await?;
        let record = by_device(Act::Lock, device)
            .with("group", &ask.group)
            .with("id", &ask.id);
        let record = match &change {
            Change::Lock {
                lock: Some(lock), ..
            } => record.with("until", lock.until),
            _ => record,
        };
        Ok(self.note(record, now).await?)
    }

    /// Gives a device's lock back, durably; a device that holds none holds none.
    ///
    /// # Errors
    /// The store failed, or the audit log.
    pub async fn unlock(
        &self,
        writer: &Writer,
        (number, device): (u32, &DeviceId),
        now: UtcTime,
    ) -> Result<(), TickError> {
        let _turn = self.turn.lock().await;
        let turn = self.begin().await?;
        let Some(change) = self.state().book.unlock(number) else {
            return Ok(());
        };
        self.state().looked_at = 0;
        self.write(turn, writer, &[change]).await?;
        Ok(self.note(by_device(Act::LockEnd, device), now).await?)
    }

    /// Whoever is counted is counted where operators say now, not where they said at the last look.
    /// What was heard of offers changes the book, so it waits for that look.
    fn hear_who_is_where(&self, now: UtcTime) {
        let told: Vec<Heard> = {
            let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
            let of_devices = |heard: &mut Heard| matches!(heard, Heard::Row(_) | Heard::Tags(..));
            inbox.extract_if(.., of_devices).collect()
        };
        let mut state = self.state();
        for heard in told {
            let (change, _) = state.hear(heard, now);
            debug_assert!(change.is_none(), "it is about no rollout");
            state.looked_at = 0;
        }
    }
}

fn by_device(act: Act, device: &DeviceId) -> Record {
    Record::new(act, format!("device:{device}")).about("device", device)
}

pub(super) fn write_of(device: u32, lock: Option<&Lock>) -> Write {
    let json = |lock| serde_json::to_vec(lock).expect("rows are plain data");
    Write::Records(vec![RecordWrite {
        kind: kind(),
        key: key(device),
        // Whoever has the turn is the only one who writes them.
        expected: Expected::Any,
        bytes: lock.map(json),
    }])
}

fn read(bytes: &[u8]) -> Result<Lock, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| damaged("a lock", &error))
}

/// The lock of a device, as the store has it now.
pub(super) fn read_one(store: &dyn Store, device: u32) -> Result<Option<Lock>, StoreError> {
    let record = store.record(&kind(), &key(device))?;
    record.map(|record| read(&record.bytes)).transpose()
}

/// All of them.
pub(super) fn read_all(store: &dyn Store) -> Result<Vec<(u32, Lock)>, StoreError> {
    let (kind, mut after, mut all) = (kind(), None, Vec::new());
    loop {
        let page = store.records(&kind, after.as_ref(), PAGE_LEN)?;
        let Some(last) = page.last() else {
            return Ok(all);
        };
        after = Some(last.key.clone());
        for record in page {
            let device = device_of(&kind, &record.key);
            let device = device.ok_or_else(|| {
                StoreError::Damaged(format!(
                    "the lock {:?} is of no device",
                    record.key.as_str()
                ))
            })?;
            all.push((device, read(&record.bytes)?));
        }
    }
}
