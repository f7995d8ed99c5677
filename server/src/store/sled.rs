//! The embedded engine: sled 0.34.7, behind its own fdatasync.
//!
//! sled's `flush()` on Linux is `sync_file_range`, which leaves the disk's cache alone
//! (spacejam/sled #1452, #1351, #928). So a commit is one transaction, `flush()`, and then an
//! fdatasync of the log file `db` of our own; only then does [`Store::commit`] return. All values
//! are shorter than 512 bytes (see the table in `pieces`), so that none leaves that file.
//!
//! sled is not maintained any more; [`Store`] is there so that it can be left.

mod group;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use ampoule_protocol::name::DeviceId;
use sled::Tree;
use sled::transaction::{ConflictableTransactionError, TransactionError};

use self::group::Transaction;
use super::apply::apply;
use super::pieces::{self, Header, json, read};
use super::records::{Key, Kind, Record};
use super::{Capacity, DeviceRow, Event, Store, StoreError, StoredReceipt, Write, Written};
use crate::rollout::RolloutId;

/// Makes what was flushed to the log durable; a seam, so that a test can hold it back.
pub trait LogSync: Send + Sync {
    /// Returns when the disk has the log.
    ///
    /// # Errors
    /// The system's answer.
    fn sync(&self) -> io::Result<()>;
}

impl LogSync for File {
    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// A fleet in a folder.
pub struct SledStore {
    db: sled::Db,
    log: Box<dyn LogSync>,
    capacity: Capacity,
    numbers: RwLock<HashMap<DeviceId, u32>>,
}

impl SledStore {
    /// Opens the store in `folder`, or begins one, and reads it whole.
    ///
    /// # Errors
    /// It is in use, damaged, or the disk failed.
    pub fn open(folder: &Path, capacity: Capacity, cache_mib: u64) -> Result<Self, StoreError> {
        Self::open_with(folder, capacity, cache_mib, |folder| {
            Ok(Box::new(File::open(folder.join("db"))?))
        })
    }

    /// [`Self::open`] with another way to sync the log.
    ///
    /// # Errors
    /// As [`Self::open`], and where `log` fails.
    pub fn open_with(
        folder: &Path,
        capacity: Capacity,
        cache_mib: u64,
        log: impl FnOnce(&Path) -> io::Result<Box<dyn LogSync>>,
    ) -> Result<Self, StoreError> {
        let db = sled::Config::new()
            .path(folder)
            .cache_capacity(cache_mib << 20)
            .flush_every_ms(Some(500))
            .open()
            .map_err(|error| opening(folder, error))?;
        let log = log(folder).map_err(StoreError::Sync)?;
        let store = Self {
            db,
            log,
            capacity,
            numbers: RwLock::default(),
        };
        store.check_header()?;
        let devices = store.devices()?;
        store.check_devices(&devices)?;
        *store
            .numbers
            .write()
            .unwrap_or_else(PoisonError::into_inner) = devices
            .into_iter()
            .map(|row| (row.device, row.number))
            .collect();
        Ok(store)
    }

    /// Writes the header of a new store; the ring sizes of an old one hold on.
    fn check_header(&self) -> Result<(), StoreError> {
        if self.header()?.is_some() {
            return Ok(());
        }
        if !self.db.is_empty() {
            return Err(StoreError::Damaged("its header is missing".into()));
        }
        let Capacity {
            receipts_max,
            events_max,
        } = self.capacity;
        let header = Header {
            format: 1,
            devices: 0,
            receipts_max,
            events_max,
            commits: 0,
            record_versions: 0,
        };
        self.db
            .insert(pieces::HEADER, json(&header))
            .map_err(StoreError::Engine)?;
        self.sync()
    }

    /// Groups that were committed since the store was begun.
    ///
    /// # Errors
    /// The store is damaged or cannot be read.
    pub fn commits(&self) -> Result<u64, StoreError> {
        Ok(self.header()?.map_or(0, |header| header.commits))
    }

    fn header(&self) -> Result<Option<Header>, StoreError> {
        let bytes = self.db.get(pieces::HEADER).map_err(StoreError::Engine)?;
        let header: Option<Header> = bytes.map(|bytes| read(&bytes)).transpose()?;
        match header {
            Some(header) if header.format != 1 => Err(StoreError::Damaged(format!(
                "its format is {}, expected 1",
                header.format
            ))),
            other => Ok(other),
        }
    }

    /// Every row counted in the header must be there, with its inventory and receipts.
    fn check_devices(&self, devices: &[DeviceRow]) -> Result<(), StoreError> {
        let counted = self.header()?.map_or(0, |header| header.devices);
        if usize::try_from(counted).ok() != Some(devices.len()) {
            let found = devices.len();
            return Err(StoreError::Damaged(format!(
                "{found} of {counted} devices are there"
            )));
        }
        for row in devices {
            if row.inventory.is_some() != self.inventory(row)?.is_some() {
                return Err(StoreError::Damaged(format!(
                    "no inventory of {:?}",
                    row.device
                )));
            }
            self.receipts(row)?;
        }
        Ok(())
    }

    /// The numbers that a group needs, so that a transaction takes no lock.
    fn numbers_for(&self, group: &[Write]) -> HashMap<DeviceId, u32> {
        let numbers = self.numbers.read().unwrap_or_else(PoisonError::into_inner);
        let known = |device: &DeviceId| Some((device.clone(), *numbers.get(device)?));
        group
            .iter()
            .filter_map(Write::device)
            .filter_map(known)
            .collect()
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(StoreError::Engine)?;
        self.log.sync().map_err(StoreError::Sync)
    }

    fn pieces_from(&self, prefix: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut all = Vec::new();
        for entry in self.db.scan_prefix(prefix) {
            let (_, piece) = entry.map_err(StoreError::Engine)?;
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    fn rings(&self) -> Result<Header, StoreError> {
        self.header()?
            .ok_or_else(|| StoreError::Damaged("its header is missing".into()))
    }
}

impl Store for SledStore {
    fn commit(&self, group: &[Write]) -> Result<Vec<Written>, StoreError> {
        let numbers = self.numbers_for(group);
        let tree: &Tree = &self.db;
        let written = tree
            .transaction(|tree| {
                let mut transaction =
                    Transaction::begin(tree, numbers.clone()).map_err(|abort| abort.0)?;
                let written = group
                    .iter()
                    .map(|write| apply(&mut transaction, write))
                    .collect::<Result<_, _>>()
                    .map_err(|abort| abort.0)?;
                transaction.end().map_err(|abort| abort.0)?;
                Ok::<Vec<Written>, ConflictableTransactionError<StoreError>>(written)
            })
            .map_err(|error| match error {
                TransactionError::Abort(error) => error,
                TransactionError::Storage(error) => StoreError::Engine(error),
            })?;
        self.sync()?;
        let mut numbers = self.numbers.write().unwrap_or_else(PoisonError::into_inner);
        for (write, written) in group.iter().zip(&written) {
            if let (Write::Enroll { .. } | Write::Restore(_), Written::Done(row)) = (write, written)
            {
                numbers.insert(row.device.clone(), row.number);
            }
        }
        Ok(written)
    }

    fn devices(&self) -> Result<Vec<DeviceRow>, StoreError> {
        self.db
            .scan_prefix(b"d")
            .values()
            .map(|row| read(&row.map_err(StoreError::Engine)?))
            .collect()
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
        for entry in self.db.scan_prefix(b"o") {
            let (key, piece) = entry.map_err(StoreError::Engine)?;
            let name = key.get(..17).unwrap_or(&key).to_vec();
            rollouts.entry(name).or_default().extend_from_slice(&piece);
        }
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
        let rows = self.db.scan_prefix(pieces::deployments(rollout));
        rows.map(|entry| {
            let (key, row) = entry.map_err(StoreError::Engine)?;
            let number = key
                .last_chunk::<4>()
                .map(|bytes| u32::from_be_bytes(*bytes));
            let bad = || StoreError::Damaged("a deployment has no number".into());
            Ok((number.ok_or_else(bad)?, row.to_vec()))
        })
        .collect()
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
        for entry in self.db.range(first..) {
            let (at, piece) = entry.map_err(StoreError::Engine)?;
            let Some(rest) = at.strip_prefix(&prefix[..]) else {
                break;
            };
            let (key, begins) = pieces::key_of_record(rest).ok_or_else(damaged)?;
            if begins {
                if found.len() == max {
                    break;
                }
                found.push((key, piece.to_vec()));
            } else {
                let (_, all) = found.last_mut().ok_or_else(damaged)?;
                all.extend_from_slice(&piece);
            }
        }
        let read = |(key, all): (Key, Vec<u8>)| pieces::decode_record(key, &all);
        found.into_iter().map(read).collect()
    }

    fn record_kinds(&self) -> Result<Vec<Kind>, StoreError> {
        let damaged = || StoreError::Damaged("a named record has no kind".into());
        let (mut kinds, mut from) = (Vec::new(), b"n".to_vec());
        // From the first record of each kind to behind its last one.
        while let Some(entry) = self.db.range(from.clone()..).next() {
            let (key, _) = entry.map_err(StoreError::Engine)?;
            let Some(rest) = key.strip_prefix(b"n") else {
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
        } = self.rings()?;
        Ok(Capacity {
            receipts_max,
            events_max,
        })
    }

    fn some_devices(&self, numbers: &[u32]) -> Result<Vec<DeviceRow>, StoreError> {
        let row = |number: &u32| {
            let row = self.db.get(pieces::device(*number));
            row.map_err(StoreError::Engine)?
                .map(|row| read(&row))
                .transpose()
        };
        numbers
            .iter()
            .filter_map(|number| row(number).transpose())
            .collect()
    }

    fn receipts(&self, device: &DeviceRow) -> Result<Vec<StoredReceipt>, StoreError> {
        let max = self.rings()?.receipts_max;
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
        let mut events = self
            .db
            .scan_prefix(prefix)
            .values()
            .map(|event| read::<Event>(&event.map_err(StoreError::Engine)?))
            .collect::<Result<Vec<_>, _>>()?;
        events.sort_by_key(|event| event.seq);
        Ok(events)
    }
}

fn opening(folder: &Path, error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(io) if io.to_string().contains("acquire lock") => {
            StoreError::Busy(folder.to_path_buf())
        }
        sled::Error::Corruption { .. }
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_) => StoreError::Damaged(error.to_string()),
        other => StoreError::Engine(other),
    }
}
