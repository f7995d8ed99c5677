//! The book as the store has it, at start.
//!
//! A receipt is durable before it is acknowledged, and the book follows a moment later: receipts
//! that came after an offer which is still open are heard again here.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, RwLock};

use ampoule_protocol::device::{Inventory, Receipt};

use super::{Heard, Rollouts, State, offer_of};
use crate::audit::Audit;
use crate::director::Assigned;
use crate::rollout::permits::Cap;
use crate::rollout::{Book, Deployment, Phase, Rollout, RolloutId};
use crate::store::{DeviceRow, Store, StoreError};

impl Rollouts {
    /// Reads rollouts, deployments and what is known of devices.
    ///
    /// # Errors
    /// The store is damaged or cannot be read.
    pub fn load(
        store: &dyn Store,
        caps: Vec<Cap>,
        audit: Option<Audit>,
    ) -> Result<Self, StoreError> {
        let mut rows = store.devices()?;
        rows.sort_by_key(|row| row.number);
        let (rollouts, deployments) = read_book(store)?;
        let changed = changes(&deployments);
        let mut state = State {
            book: Book::of(rollouts, deployments),
            devices: Vec::with_capacity(rows.len()),
            profiles: HashSet::new(),
            caps,
            published_at: changed.values().copied().max().unwrap_or(0),
            looked_at: 0,
        };
        for row in &rows {
            state.follow(row);
            let inventory = store.inventory(row)?;
            if let Some(inventory) = inventory.and_then(|bytes| Inventory::parse(&bytes).ok()) {
                let profile = state.shared(crate::rollout::Profile::of(&inventory));
                state.devices[row.number as usize].profile = Some(profile);
            }
            if let Some(tags) = store.tags(row)? {
                let tags = serde_json::from_slice(&tags);
                let tags = tags.map_err(|error| damaged("the tags of a device", &error))?;
                state.devices[row.number as usize].tags = Arc::new(tags);
            }
        }
        let inbox = unheard(store, &state, &rows)?;
        let assigned = changed.into_iter().map(|(device, changed_at)| {
            let offer = offer_of(&state, device).map(Arc::new);
            (device, Assigned { changed_at, offer })
        });
        Ok(Self {
            audit,
            inbox: Mutex::new(inbox),
            assigned: RwLock::new(assigned.collect()),
            state: Mutex::new(state),
            turn: tokio::sync::Mutex::new(()),
        })
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

/// When the assignment of each device changed last.
fn changes(deployments: &[(RolloutId, u32, Deployment)]) -> HashMap<u32, i64> {
    let mut changed = HashMap::new();
    for (_, device, row) in deployments {
        let at = row.settled_at.unwrap_or(row.offered_at).max(row.offered_at);
        let known = changed.entry(*device).or_insert(at);
        *known = at.max(*known);
    }
    changed
}

fn unheard(store: &dyn Store, state: &State, rows: &[DeviceRow]) -> Result<Vec<Heard>, StoreError> {
    #[derive(serde::Deserialize)]
    struct Stored {
        signed: Receipt,
    }
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
            // It was verified when it came.
            if let Ok(stored) = serde_json::from_slice::<Stored>(&receipt.bytes) {
                heard.push(Heard::Receipt(row.number, Box::new(stored.signed)));
            }
        }
    }
    Ok(heard)
}

fn damaged(what: &str, error: &serde_json::Error) -> StoreError {
    StoreError::Damaged(format!("{what} cannot be read: {error}"))
}
