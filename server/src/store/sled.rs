//! The embedded engine: sled 0.34.7, behind its own fdatasync.
//!
//! sled's `flush()` on Linux is `sync_file_range`, which leaves the disk's cache alone
//! (spacejam/sled #1452, #1351, #928). So a commit is one transaction, `flush()`, and then an
//! fdatasync of the log file `db` of our own; only then does [`Store::commit`] return. All values
//! are shorter than 512 bytes (see the table in `pieces`), so that none leaves that file.
//!
//! sled is not maintained any more; [`Store`] is there so that it can be left.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::DeviceId;
use sled::Tree;
use sled::transaction::{
    ConflictableTransactionError, TransactionError, TransactionalTree, UnabortableTransactionError,
};

use super::pieces::{self, Header};
use super::{
    Capacity, DeviceRow, Event, EventKind, Standing, Store, StoreError, StoredReceipt, Write,
    Written,
};

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
        };
        self.db
            .insert(pieces::HEADER, json(&header))
            .map_err(StoreError::Engine)?;
        self.sync()
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
        let numbers = self
            .numbers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_for(group);
        let tree: &Tree = &self.db;
        let written = tree
            .transaction(|tree| {
                let mut transaction = Transaction::begin(tree, numbers.clone())?;
                let written = group
                    .iter()
                    .map(|write| transaction.apply(write))
                    .collect::<Result<_, _>>()?;
                transaction.end()?;
                Ok::<Vec<Written>, Abort>(written)
            })
            .map_err(|error| match error {
                TransactionError::Abort(error) => error,
                TransactionError::Storage(error) => StoreError::Engine(error),
            })?;
        self.sync()?;
        let mut numbers = self.numbers.write().unwrap_or_else(PoisonError::into_inner);
        for (write, written) in group.iter().zip(&written) {
            if let (Write::Enroll { device, .. }, Written::Done(row)) = (write, written) {
                numbers.insert(device.clone(), row.number);
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
        let Some((len, bytes)) = all.split_first_chunk::<4>() else {
            return Ok(None);
        };
        Ok(bytes
            .get(..u32::from_be_bytes(*len) as usize)
            .map(<[u8]>::to_vec))
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

type Abort = ConflictableTransactionError<StoreError>;

/// One group being applied; may be run again by sled, so it keeps nothing outside the tree.
struct Transaction<'a> {
    tree: &'a TransactionalTree,
    header: Header,
    numbers: HashMap<DeviceId, u32>,
}

impl<'a> Transaction<'a> {
    fn begin(tree: &'a TransactionalTree, numbers: HashMap<DeviceId, u32>) -> Result<Self, Abort> {
        let header = tree.get(pieces::HEADER)?.ok_or_else(|| {
            ConflictableTransactionError::Abort(StoreError::Damaged("its header is missing".into()))
        })?;
        Ok(Self {
            tree,
            header: read(&header).map_err(ConflictableTransactionError::Abort)?,
            numbers,
        })
    }

    fn end(self) -> Result<(), UnabortableTransactionError> {
        self.tree
            .insert(pieces::HEADER, json(&self.header))
            .map(drop)
    }

    fn apply(&mut self, write: &Write) -> Result<Written, Abort> {
        match write {
            Write::Enroll {
                device,
                certificate,
                not_after,
                at,
            } => self.enroll(device, *certificate, *not_after, *at),
            Write::Revoke { device, at } => self.revoke(device, *at),
            Write::Inventory {
                device,
                at,
                seq,
                time,
                digest,
                bytes,
            } => self.inventory(device, *at, (*seq, *time), *digest, bytes),
            Write::Receipt {
                device,
                at,
                digest,
                bytes,
            } => self.receipt(device, *at, *digest, bytes),
        }
    }

    fn enroll(
        &mut self,
        device: &DeviceId,
        certificate: Digest,
        not_after: i64,
        at: i64,
    ) -> Result<Written, Abort> {
        let row = self.row(device)?.unwrap_or_else(|| {
            let number = self.header.devices;
            self.header.devices += 1;
            self.numbers.insert(device.clone(), number);
            DeviceRow {
                number,
                device: device.clone(),
                standing: Standing::Enrolled,
                certificate,
                not_after,
                enrolled_at: at,
                revoked_at: None,
                seen_at: None,
                inventory: None,
                inventory_seq: 0,
                inventory_time: 0,
                receipts: 0,
                events: 0,
            }
        });
        let row = DeviceRow {
            standing: Standing::Enrolled,
            certificate,
            not_after,
            enrolled_at: at,
            revoked_at: None,
            ..row
        };
        self.finish(row, at, Some((EventKind::Enrolled, Some(certificate))))
    }

    fn revoke(&mut self, device: &DeviceId, at: i64) -> Result<Written, Abort> {
        let Some(row) = self.row(device)? else {
            return Ok(Written::UnknownDevice);
        };
        if row.standing == Standing::Revoked {
            return Ok(Written::Repeated(row));
        }
        let row = DeviceRow {
            standing: Standing::Revoked,
            revoked_at: Some(at),
            ..row
        };
        self.finish(row, at, Some((EventKind::Revoked, None)))
    }

    fn inventory(
        &mut self,
        device: &DeviceId,
        at: i64,
        (seq, time): (u64, i64),
        digest: Digest,
        bytes: &[u8],
    ) -> Result<Written, Abort> {
        let Some(mut row) = self.row(device)? else {
            return Ok(Written::UnknownDevice);
        };
        if seq < row.inventory_seq {
            self.event(&mut row, at, EventKind::SequenceFell, None)?;
        }
        let changed = row.inventory != Some(digest);
        if changed {
            let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let whole = [&len.to_be_bytes(), bytes].concat();
            for (piece, part) in pieces::cut(&whole) {
                self.tree
                    .insert(pieces::inventory(row.number, piece), part)?;
            }
        }
        let row = DeviceRow {
            seen_at: Some(at),
            inventory: Some(digest),
            inventory_seq: seq,
            inventory_time: time,
            ..row
        };
        self.finish(
            row,
            at,
            changed.then_some((EventKind::InventoryChanged, Some(digest))),
        )
    }

    fn receipt(
        &mut self,
        device: &DeviceId,
        at: i64,
        digest: Digest,
        bytes: &[u8],
    ) -> Result<Written, Abort> {
        let Some(row) = self.row(device)? else {
            return Ok(Written::UnknownDevice);
        };
        let index = pieces::receipt_by_digest(row.number, &digest);
        if self.tree.get(&index)?.is_some() {
            return Ok(Written::Repeated(row));
        }
        let seq = row.receipts;
        let slot = pieces::slot(seq, self.header.receipts_max);
        self.forget_receipt_in(&row, slot)?;
        let receipt = StoredReceipt {
            seq,
            at,
            digest,
            bytes: bytes.to_vec(),
        };
        for (piece, part) in pieces::cut(&pieces::encode_receipt(&receipt)) {
            self.tree
                .insert(pieces::receipt(row.number, slot, piece), part)?;
        }
        self.tree.insert(index, &seq.to_be_bytes()[..])?;
        let row = DeviceRow {
            seen_at: Some(at),
            receipts: row.receipts.saturating_add(1),
            ..row
        };
        self.finish(row, at, Some((EventKind::Receipt, Some(digest))))
    }

    /// The digest of a receipt that gives way must not be answered as known any more.
    fn forget_receipt_in(&self, row: &DeviceRow, slot: u32) -> Result<(), Abort> {
        let Some(head) = self.tree.get(pieces::receipt(row.number, slot, 0))? else {
            return Ok(());
        };
        let digest = head
            .get(16..48)
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        if let Some(digest) = digest {
            let digest = Digest::from_bytes(digest);
            self.tree
                .remove(pieces::receipt_by_digest(row.number, &digest))?;
        }
        Ok(())
    }

    fn row(&self, device: &DeviceId) -> Result<Option<DeviceRow>, Abort> {
        let Some(number) = self.numbers.get(device) else {
            return Ok(None);
        };
        let row = self.tree.get(pieces::device(*number))?;
        row.map(|row| read(&row))
            .transpose()
            .map_err(ConflictableTransactionError::Abort)
    }

    /// Writes the row, and the event if there is one.
    fn finish(
        &self,
        mut row: DeviceRow,
        at: i64,
        event: Option<(EventKind, Option<Digest>)>,
    ) -> Result<Written, Abort> {
        if let Some((what, digest)) = event {
            self.event(&mut row, at, what, digest)?;
        }
        self.tree.insert(pieces::device(row.number), json(&row))?;
        Ok(Written::Done(row))
    }

    fn event(
        &self,
        row: &mut DeviceRow,
        at: i64,
        what: EventKind,
        digest: Option<Digest>,
    ) -> Result<(), Abort> {
        let event = Event {
            seq: row.events,
            at,
            what,
            digest,
        };
        let slot = pieces::slot(event.seq, self.header.events_max);
        self.tree
            .insert(pieces::event(row.number, slot), json(&event))?;
        row.events = row.events.saturating_add(1);
        Ok(())
    }
}

/// The numbers that a group needs, so that a transaction takes no lock.
trait CloneFor {
    fn clone_for(&self, group: &[Write]) -> HashMap<DeviceId, u32>;
}

impl CloneFor for HashMap<DeviceId, u32> {
    fn clone_for(&self, group: &[Write]) -> HashMap<DeviceId, u32> {
        group
            .iter()
            .map(Write::device)
            .filter_map(|device| Some((device.clone(), *self.get(device)?)))
            .collect()
    }
}

impl Write {
    /// Whom it is about.
    pub fn device(&self) -> &DeviceId {
        match self {
            Self::Enroll { device, .. }
            | Self::Revoke { device, .. }
            | Self::Inventory { device, .. }
            | Self::Receipt { device, .. } => device,
        }
    }
}

fn json<T: serde::Serialize>(row: &T) -> Vec<u8> {
    serde_json::to_vec(row).expect("rows are plain data with text for keys")
}

fn read<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes)
        .map_err(|error| StoreError::Damaged(format!("a row cannot be read: {error}")))
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
