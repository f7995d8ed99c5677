//! The embedded engine: sled 0.34.7, behind a journal of our own.
//!
//! A group is applied above what is there, written to the journal with one fdatasync, and seen and
//! acknowledged then. The tree gets it later, many groups at a time and each key once: a device that
//! checked in a hundred times since is one row. The disk has that before the journal lets go of it.
//!
//! ```text
//!   commit:  Group -> journal, fdatasync -> active layer -> acknowledged
//!   settle:  active layer -> frozen -> batches of sled -> flush(), fdatasync -> the journal's file
//!            may be written over
//!   open:    journal -> tree
//! ```
//!
//! sled's `flush()` on Linux is `sync_file_range`, which leaves the disk's cache alone
//! (spacejam/sled #1452, #1351, #928), so its log file `db` is synced by us. All values are shorter
//! than 512 bytes (see the table in `pieces`), so that none leaves that file.
//!
//! sled is not maintained any more; [`Store`] is there so that it can be left.

mod group;
mod journal;
mod layers;
mod opening;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ampoule_protocol::name::DeviceId;

use self::group::Group;
use self::journal::Journal;
use self::layers::{Layered, Scan};
use self::opening::header_of;
use super::apply::apply;
use super::pieces::{self, Header};
use super::records::{Key, Kind, Record};
use super::rows::{decode_event, decode_row};
use super::{Capacity, DeviceRow, Event, Store, StoreError, StoredReceipt, Write, Written};
use crate::rollout::RolloutId;
pub use journal::LogSync;

/// While a layer is on its way to the tree the journal may grow to this many times its length;
/// then groups wait.
const JOURNAL_PATIENCE: u64 = 4;
/// The layout that is written. 1 had JSON for rows and events, which are read still.
const FORMAT: u32 = 2;

/// A fleet in a folder.
pub struct SledStore {
    layered: Arc<Layered>,
    writing: Mutex<Writing>,
    commits: AtomicU64,
    capacity: Capacity,
    numbers: RwLock<HashMap<DeviceId, u32>>,
}

/// What one group at a time needs.
struct Writing {
    journal: Journal,
    /// After so many bytes a file of it gives way to the other.
    journal_len_max: u64,
    /// A write or a sync failed: what the disk holds is unknown until the store is opened again.
    failed: bool,
}

impl SledStore {
    /// Groups that were committed since the store was begun.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Acquire)
    }

    fn header(&self) -> Result<Header, StoreError> {
        header_of(&self.layered, self.capacity)
    }

    /// Values of the keys that begin so, in order.
    fn scan_prefix(
        &self,
        prefix: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut result = Ok(());
        self.layered.scan(prefix, |key, value| {
            if !key.starts_with(prefix) {
                return Scan::Ends;
            }
            result = each(key, value);
            if result.is_ok() {
                Scan::GoesOn
            } else {
                Scan::Ends
            }
        })?;
        result
    }

    fn pieces_from(&self, prefix: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut all = Vec::new();
        self.scan_prefix(prefix, |_, piece| {
            all.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(all)
    }
}

impl Writing {
    fn append(&mut self, number: u64, puts: &layers::Layer) -> Result<(), StoreError> {
        let appended = self.journal.append(number, puts);
        self.failed = appended.is_err();
        appended.map_err(StoreError::Sync)
    }

    /// Sends the layer to the tree when its file is long enough, and that is free.
    fn settle_if_long(&mut self, layered: &Arc<Layered>) -> Result<(), StoreError> {
        if self.journal.len() < self.journal_len_max {
            return Ok(());
        }
        if self.journal.len() >= JOURNAL_PATIENCE.saturating_mul(self.journal_len_max) {
            layered.wait();
        }
        let settled = layered.is_settling().and_then(|settling| {
            if settling {
                return Ok(());
            }
            layered.settle()?;
            self.journal.turn();
            Ok(())
        });
        self.failed |= settled.is_err();
        settled
    }
}

impl Drop for SledStore {
    /// What is left goes to the tree; if that fails, the next start reads the journal.
    fn drop(&mut self) {
        let writing = self
            .writing
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if !writing.failed {
            let _ = self.layered.finish();
        }
    }
}

impl Store for SledStore {
    fn commit(&self, group: &[Write]) -> Result<Vec<Written>, StoreError> {
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if writing.failed {
            return Err(StoreError::Closed);
        }
        let (written, (number, puts, new)) = {
            let numbers = self.numbers.read().unwrap_or_else(PoisonError::into_inner);
            let mut applied = Group::begin(&self.layered, &numbers)?;
            let written = group.iter().map(|write| apply(&mut applied, write));
            let written = written.collect::<Result<Vec<_>, _>>()?;
            (written, applied.end())
        };
        writing.append(number, &puts)?;
        self.layered.show(puts);
        self.commits.store(number, Ordering::Release);
        if !new.is_empty() {
            let mut numbers = self.numbers.write().unwrap_or_else(PoisonError::into_inner);
            numbers.extend(new);
        }
        writing.settle_if_long(&self.layered)?;
        Ok(written)
    }

    fn devices(&self) -> Result<Vec<DeviceRow>, StoreError> {
        let mut rows = Vec::new();
        self.scan_prefix(b"d", |_, row| {
            rows.push(decode_row(row)?);
            Ok(())
        })?;
        Ok(rows)
    }

    fn inventory(&self, device: &DeviceRow) -> Result<Option<Vec<u8>>, StoreError> {
        if device.inventory.is_none() {
            return Ok(None);
        }
        let mut prefix = pieces::inventory(device.number, 0);
        prefix.truncate(5);
        let all = self.pieces_from(&prefix)?;
        Ok(pieces::without_len(&all).map(<[u8]>::to_vec))
    }

    fn tags(&self, device: &DeviceRow) -> Result<Option<Vec<u8>>, StoreError> {
        let mut prefix = pieces::tags(device.number, 0);
        prefix.truncate(5);
        let all = self.pieces_from(&prefix)?;
        Ok(pieces::without_len(&all).map(<[u8]>::to_vec))
    }

    fn rollouts(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut rollouts: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        self.scan_prefix(b"o", |key, piece| {
            let name = key.get(..17).unwrap_or(key).to_vec();
            rollouts.entry(name).or_default().extend_from_slice(piece);
            Ok(())
        })?;
        let cut = || StoreError::Damaged("a rollout is cut short".into());
        rollouts
            .into_values()
            .map(|all| {
                pieces::without_len(&all)
                    .map(<[u8]>::to_vec)
                    .ok_or_else(cut)
            })
            .collect()
    }

    fn deployments(&self, rollout: &RolloutId) -> Result<Vec<(u32, Vec<u8>)>, StoreError> {
        let mut rows = Vec::new();
        let bad = || StoreError::Damaged("a deployment has no number".into());
        self.scan_prefix(&pieces::deployments(rollout), |key, row| {
            let number = key.last_chunk::<4>().ok_or_else(bad)?;
            rows.push((u32::from_be_bytes(*number), row.to_vec()));
            Ok(())
        })?;
        Ok(rows)
    }

    fn record(&self, kind: &Kind, key: &Key) -> Result<Option<Record>, StoreError> {
        let all = self.pieces_from(&pieces::record(kind, key))?;
        if all.is_empty() {
            return Ok(None);
        }
        pieces::decode_record(key.clone(), &all).map(Some)
    }

    fn records(
        &self,
        kind: &Kind,
        after: Option<&Key>,
        max: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let prefix = pieces::records(kind);
        let first = after.map_or_else(
            || prefix.clone(),
            |after| pieces::record_piece(kind, after, u16::MAX),
        );
        let damaged = || StoreError::Damaged("a named record has no name".into());
        let mut found: Vec<(Key, Vec<u8>)> = Vec::new();
        let mut result = Ok(());
        self.layered.scan(&first, |at, piece| {
            let Some(rest) = at.strip_prefix(&prefix[..]) else {
                return Scan::Ends;
            };
            let Some((key, begins)) = pieces::key_of_record(rest) else {
                result = Err(damaged());
                return Scan::Ends;
            };
            if begins && found.len() == max {
                return Scan::Ends;
            }
            if begins {
                found.push((key, piece.to_vec()));
            } else if let Some((_, all)) = found.last_mut() {
                all.extend_from_slice(piece);
            } else {
                result = Err(damaged());
                return Scan::Ends;
            }
            Scan::GoesOn
        })?;
        result?;
        let read = |(key, all): (Key, Vec<u8>)| pieces::decode_record(key, &all);
        found.into_iter().map(read).collect()
    }

    fn record_kinds(&self) -> Result<Vec<Kind>, StoreError> {
        let damaged = || StoreError::Damaged("a named record has no kind".into());
        let (mut kinds, mut from) = (Vec::new(), b"n".to_vec());
        // From the first record of each kind to behind its last one.
        loop {
            let mut first = None;
            self.layered.scan(&from, |key, _| {
                first = Some(key.to_vec());
                Scan::Ends
            })?;
            let Some(rest) = first.as_deref().and_then(|key| key.strip_prefix(b"n")) else {
                break;
            };
            let name = rest.split(|byte| *byte == 0).next().unwrap_or_default();
            let name = std::str::from_utf8(name).map_err(|_| damaged())?;
            let kind = Kind::parse(name).map_err(|_| damaged())?;
            from = pieces::records(&kind);
            from.push(u8::MAX);
            kinds.push(kind);
        }
        Ok(kinds)
    }

    fn capacity(&self) -> Result<Capacity, StoreError> {
        let Header {
            receipts_max,
            events_max,
            ..
        } = self.header()?;
        Ok(Capacity {
            receipts_max,
            events_max,
        })
    }

    fn some_devices(&self, numbers: &[u32]) -> Result<Vec<DeviceRow>, StoreError> {
        let row = |number: &u32| {
            let row = self.layered.get(&pieces::device(*number))?;
            row.map(|row| decode_row(&row)).transpose()
        };
        numbers
            .iter()
            .filter_map(|number| row(number).transpose())
            .collect()
    }

    fn receipts(&self, device: &DeviceRow) -> Result<Vec<StoredReceipt>, StoreError> {
        let max = self.header()?.receipts_max;
        let first = device.receipts.saturating_sub(u64::from(max));
        (first..device.receipts)
            .map(|seq| {
                let mut prefix = pieces::receipt(device.number, pieces::slot(seq, max), 0);
                prefix.truncate(9);
                let receipt = pieces::decode_receipt(&self.pieces_from(&prefix)?)?;
                if receipt.seq == seq {
                    Ok(receipt)
                } else {
                    Err(StoreError::Damaged(format!(
                        "receipt {seq} of {:?} is missing",
                        device.device
                    )))
                }
            })
            .collect()
    }

    fn events(&self, device: &DeviceRow) -> Result<Vec<Event>, StoreError> {
        let mut prefix = pieces::event(device.number, 0);
        prefix.truncate(5);
        let mut events = Vec::new();
        self.scan_prefix(&prefix, |_, event| {
            events.push(decode_event(event)?);
            Ok(())
        })?;
        events.sort_by_key(|event| event.seq);
        Ok(events)
    }
}
