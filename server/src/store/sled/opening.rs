//! Opening the embedded engine: the header, the journal, and whether all of it is there.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::journal::{JOURNAL_LEN_MAX, Journal, LogSync, ToDisk};
use super::layers::{Layer, Layered};
use super::{FORMAT, SledStore, Writing};
use crate::store::pieces::{self, Header, json, read};
use crate::store::{Capacity, DeviceRow, Store as _, StoreError};

impl SledStore {
    /// Opens the store in `folder`, or begins one, and reads it whole.
    ///
    /// # Errors
    /// It is in use, damaged, or the disk failed.
    pub fn open(folder: &Path, capacity: Capacity, cache_mib: u64) -> Result<Self, StoreError> {
        Self::open_with(
            folder,
            capacity,
            cache_mib,
            JOURNAL_LEN_MAX,
            Box::new(ToDisk),
        )
    }

    /// [`Self::open`] with a journal of another length, in bytes, and another way to sync it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(
        folder: &Path,
        capacity: Capacity,
        cache_mib: u64,
        journal_len_max: u64,
        sync: Box<dyn LogSync>,
    ) -> Result<Self, StoreError> {
        let db = sled::Config::new()
            .path(folder)
            .cache_capacity(cache_mib << 20)
            .flush_every_ms(Some(500))
            .open()
            .map_err(|error| opening(folder, error))?;
        let log = File::open(folder.join("db")).map_err(StoreError::Sync)?;
        let layered = Arc::new(Layered::new(db, log));
        let commits = header_of(&layered, capacity)?.commits;
        let journal = read_journal(folder, &layered, commits, sync)?;
        let header = header_of(&layered, capacity)?;
        let store = Self {
            layered,
            writing: Mutex::new(Writing {
                journal,
                journal_len_max,
                failed: false,
            }),
            commits: AtomicU64::new(header.commits),
            capacity,
            numbers: RwLock::default(),
        };
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

    /// Every row counted in the header must be there, with its inventory and receipts.
    fn check_devices(&self, devices: &[DeviceRow]) -> Result<(), StoreError> {
        let counted = self.header()?.devices;
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
}

/// The header; that of a new store is written first. The ring sizes of an old one hold on.
pub(super) fn header_of(layered: &Layered, capacity: Capacity) -> Result<Header, StoreError> {
    let Some(bytes) = layered.get(pieces::HEADER)? else {
        if !layered.is_empty() {
            return Err(StoreError::Damaged("its header is missing".into()));
        }
        let header = Header {
            format: FORMAT,
            devices: 0,
            receipts_max: capacity.receipts_max,
            events_max: capacity.events_max,
            commits: 0,
            record_versions: 0,
        };
        let put = (pieces::HEADER.into(), Some(json(&header).into()));
        layered.put(&Layer::from([put]))?;
        return Ok(header);
    };
    let header: Header = read(&bytes)?;
    if !(1..=FORMAT).contains(&header.format) {
        return Err(StoreError::Damaged(format!(
            "its format is {}, expected {FORMAT}",
            header.format
        )));
    }
    // An older program would not read what is written from here on.
    Ok(Header {
        format: FORMAT,
        ..header
    })
}

/// Brings the tree up to the journal, which then begins anew.
fn read_journal(
    folder: &Path,
    layered: &Layered,
    commits: u64,
    sync: Box<dyn LogSync>,
) -> Result<Journal, StoreError> {
    let journal = Journal::open(folder, sync).map_err(StoreError::Sync)?;
    let found = journal.read(commits).map_err(StoreError::Sync)?;
    if !found.layer.is_empty() {
        layered.put(&found.layer)?;
    }
    if !found.has_gap {
        return Ok(journal);
    }
    // What follows the gap can not be taken without what is missing. The high-water mark tells of
    // it; the files are evidence.
    let sync = journal.into_sync();
    Journal::set_aside(folder).map_err(StoreError::Sync)?;
    Journal::open(folder, sync).map_err(StoreError::Sync)
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
