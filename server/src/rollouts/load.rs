//! The book as the store has it, at start.
//!
//! A receipt is durable before it is acknowledged, and the book follows a moment later: receipts
//! that came after an offer which is still open are heard again here.

use std::sync::{Arc, Mutex, OnceLock};

use ampoule_protocol::device::{Inventory, Receipt};

use super::assignments::{Assignments, HOLD_SECS};
use super::{Heard, Rollouts, State, latest, locks, offer_of};
use crate::director::Assigned;
use crate::rollout::permits::Cap;
use crate::rollout::{Book, Deployment, Phase, Rollout, RolloutId};
use crate::store::{DeviceRow, Mark, Store, StoreError};

/// Devices whose inventories are in memory at a time.
const PAGE_LEN: usize = 10_000;

impl Rollouts {
    /// Reads rollouts, deployments, locks and what is known of devices.
    ///
    /// # Errors
    /// The store is damaged or cannot be read.
    pub fn load(store: &dyn Store, caps: Vec<Cap>) -> Result<Self, StoreError> {
        Self::load_with_mark(store, caps, |_| ()).map(|(rollouts, _)| rollouts)
    }

    /// [`Self::load`], and up to where it knows the news. `follow` is shown each device.
    pub(super) fn load_with_mark(
        store: &dyn Store,
        caps: Vec<Cap>,
        follow: impl FnMut(&DeviceRow),
    ) -> Result<(Self, Mark), StoreError> {
        // What comes while we read is told again, which does no harm.
        let (_, mark) = store.news(None)?;
        let mut rows = store.devices()?;
        rows.sort_by_key(|row| row.number);
        rows.iter().for_each(follow);
        let (rollouts, deployments) = read_book(store)?;
        let locks = locks::read_all(store)?;
        let changed = latest(deployments.iter().map(|(_, device, row)| (*device, row)));
        let published_at = changed.values().copied().max().unwrap_or(0);
        let book = Book::of(rollouts, deployments, locks);
        let mut state = State::new(book, caps, rows.len(), published_at);
        for page in rows.chunks(PAGE_LEN) {
            state.take_in(store, &page.iter().collect::<Vec<_>>())?;
        }
        let inbox = unheard(store, &state, &rows)?;
        let assigned = changed.into_iter().map(|(device, changed_at)| {
            let offer = offer_of(&state, device).map(Arc::new);
            (device, Assigned { changed_at, offer })
        });
        let assigned = assigned.collect::<Vec<_>>().into_iter();
        let hold_secs = if store.is_shared() { HOLD_SECS } else { 0 };
        let rollouts = Self {
            audit: OnceLock::new(),
            inbox: Mutex::new(inbox),
            assigned: Assignments::of_all(assigned, hold_secs),
            state: Mutex::new(state),
            turn: tokio::sync::Mutex::new(()),
            others: None,
        };
        Ok((rollouts, mark))
    }
}

impl State {
    /// What the store knows of these devices.
    fn take_in(&mut self, store: &dyn Store, rows: &[&DeviceRow]) -> Result<(), StoreError> {
        let mut inventories = store.inventories(rows)?;
        let mut tags = store.tags_of(rows)?;
        for row in rows {
            self.follow(row);
            let inventory = inventories.remove(&row.number);
            if let Some(inventory) = inventory.and_then(|bytes| Inventory::parse(&bytes).ok()) {
                self.set_profile(row.number, &inventory);
            }
            if let Some(tags) = tags.remove(&row.number) {
                let tags = serde_json::from_slice(&tags);
                let tags = tags.map_err(|error| damaged("the tags of a device", &error))?;
                self.set_tags(row.number, tags);
            }
        }
        Ok(())
    }
}

type Rows = (Vec<Rollout>, Vec<(RolloutId, u32, Deployment)>);

fn read_book(store: &dyn Store) -> Result<Rows, StoreError> {
    let (mut rollouts, mut deployments) = (Vec::new(), Vec::new());
    for bytes in store.rollouts()? {
        let rollout: Rollout =
            serde_json::from_slice(&bytes).map_err(|error| damaged("a rollout", &error))?;
        let name = rollout.plan.name.clone();
        for (device, bytes) in store.deployments(&name)? {
            let row =
                serde_json::from_slice(&bytes).map_err(|error| damaged("a deployment", &error))?;
            deployments.push((name.clone(), device, row));
        }
        rollouts.push(rollout);
    }
    Ok((rollouts, deployments))
}

/// The receipt as the store has it: it was verified when it came.
pub(super) fn read_receipt(bytes: &[u8]) -> Option<Receipt> {
    #[derive(serde::Deserialize)]
    struct Stored {
        signed: Receipt,
    }
    let stored = serde_json::from_slice::<Stored>(bytes).ok()?;
    Some(stored.signed)
}

fn unheard(store: &dyn Store, state: &State, rows: &[DeviceRow]) -> Result<Vec<Heard>, StoreError> {
    let mut heard = Vec::new();
    for row in rows {
        let Some((_, offer)) = state.book.offer(row.number) else {
            continue;
        };
        debug_assert_eq!(offer.phase, Phase::Offered);
        for receipt in store.receipts(row)? {
            if receipt.at < offer.offered_at {
                continue;
            }
            if let Some(receipt) = read_receipt(&receipt.bytes) {
                heard.push(Heard::Receipt(row.number, Box::new(receipt), None));
            }
        }
    }
    Ok(heard)
}

pub(super) fn damaged(what: &str, error: &serde_json::Error) -> StoreError {
    StoreError::Damaged(format!("{what} cannot be read: {error}"))
}
