//! SQLite as a peer of the store: behind the same writer, with the same rows and the same durability.
//!
//! WAL and `synchronous=FULL`: each commit waits for the disk once. A group is one transaction; a
//! check-in reads the device's row and replaces it, and one that says something new replaces the
//! inventory and adds an event to a ring, as ours does. Statements are prepared once. Only what a
//! check-in needs is here: nothing else is asked of a peer.

use std::error::Error;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::DeviceId;
use ampoule_server::rollout::RolloutId;
use ampoule_server::store::records::{Key, Kind, Record};
use ampoule_server::store::{
    Capacity, DeviceRow, Event, Standing, Store, StoreError, StoredReceipt, Write, Written,
};
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, params};

/// Bytes of a row beside the digest: what ours has, names included.
const REST_LEN: usize = 134;
const EVENT_LEN: usize = 50;
const CACHE_KIB: i64 = 256 << 10;

/// An open database.
pub(crate) struct Sqlite {
    connection: Mutex<Connection>,
    capacity: Capacity,
}

impl Sqlite {
    pub(crate) fn open(path: &Path, capacity: Capacity) -> Result<Self, Box<dyn Error>> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS device (number INTEGER PRIMARY KEY, seq INTEGER, digest BLOB, rest BLOB);
             CREATE TABLE IF NOT EXISTS inventory (number INTEGER PRIMARY KEY, body BLOB);
             CREATE TABLE IF NOT EXISTS event (number INTEGER, slot INTEGER, body BLOB,
                 PRIMARY KEY (number, slot)) WITHOUT ROWID;",
        )?;
        Ok(Self {
            connection: Mutex::new(connection),
            capacity,
        })
    }

    /// The version of the library.
    pub(crate) fn version() -> &'static str {
        rusqlite::version()
    }

    /// The last number that a device gave its inventory.
    pub(crate) fn seq(&self, number: u64) -> Result<u64, Box<dyn Error>> {
        let connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let number = i64::try_from(number)?;
        let query = "SELECT seq FROM device WHERE number = ?";
        let seq: Option<i64> = connection
            .query_row(query, [number], |row| row.get(0))
            .optional()?;
        Ok(u64::try_from(seq.unwrap_or(0))?)
    }

    fn group(&self, group: &[Write]) -> rusqlite::Result<Vec<Written>> {
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction()?;
        let written = {
            let mut each = Statements {
                read: transaction
                    .prepare_cached("SELECT seq, digest, rest FROM device WHERE number = ?")?,
                put: transaction
                    .prepare_cached("INSERT OR REPLACE INTO device VALUES (?, ?, ?, ?)")?,
                inventory: transaction
                    .prepare_cached("INSERT OR REPLACE INTO inventory VALUES (?, ?)")?,
                event: transaction
                    .prepare_cached("INSERT OR REPLACE INTO event VALUES (?, ?, ?)")?,
            };
            let written = group.iter().map(|write| each.apply(write, self.capacity));
            written.collect::<rusqlite::Result<Vec<_>>>()?
        };
        transaction.commit()?;
        Ok(written)
    }
}

struct Statements<'a> {
    read: CachedStatement<'a>,
    put: CachedStatement<'a>,
    inventory: CachedStatement<'a>,
    event: CachedStatement<'a>,
}

impl Statements<'_> {
    fn apply(&mut self, write: &Write, capacity: Capacity) -> rusqlite::Result<Written> {
        let (device, seq, digest, bytes) = match write {
            Write::Enroll {
                device,
                certificate,
                ..
            } => (device, 0, *certificate, None),
            Write::Inventory {
                device,
                seq,
                digest,
                bytes,
                ..
            } => (device, *seq, *digest, Some(bytes)),
            _ => return Ok(Written::UnknownDevice),
        };
        let number = super::checkins::number_of(device);
        let before = self.read.query_row([number], |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, Vec<u8>>(1)?,
                row.get::<_, Vec<u8>>(2)?,
            ))
        });
        let before = before.optional()?;
        let changed = before
            .as_ref()
            .is_none_or(|(_, known, _)| known[..] != digest.as_bytes()[..]);
        if let Some(bytes) = bytes.filter(|_| changed) {
            self.inventory.execute(params![number, bytes])?;
            let slot = i64::try_from(seq % u64::from(capacity.events_max)).unwrap_or(0);
            self.event
                .execute(params![number, slot, [0_u8; EVENT_LEN]])?;
        }
        let rest = before.map_or_else(|| vec![0; REST_LEN], |(_, _, rest)| rest);
        let stored_seq = i64::try_from(seq).unwrap_or(i64::MAX);
        self.put
            .execute(params![number, stored_seq, digest.as_bytes(), rest])?;
        Ok(Written::Done(row(device, seq, digest)))
    }
}

fn row(device: &DeviceId, inventory_seq: u64, digest: Digest) -> DeviceRow {
    DeviceRow {
        number: 0,
        device: device.clone(),
        standing: Standing::Enrolled,
        certificate: digest,
        not_after: 0,
        enrolled_at: 0,
        revoked_at: None,
        seen_at: None,
        inventory: Some(digest),
        inventory_seq,
        inventory_time: 0,
        receipts: 0,
        events: 0,
    }
}

/// A peer is written to and asked for nothing else.
fn not_asked<T>() -> Result<T, StoreError> {
    Err(StoreError::Closed)
}

impl Store for Sqlite {
    fn commit(&self, group: &[Write]) -> Result<Vec<Written>, StoreError> {
        let failed = |error: rusqlite::Error| StoreError::Damaged(error.to_string());
        self.group(group).map_err(failed)
    }

    fn devices(&self) -> Result<Vec<DeviceRow>, StoreError> {
        not_asked()
    }

    fn inventory(&self, _: &DeviceRow) -> Result<Option<Vec<u8>>, StoreError> {
        not_asked()
    }

    fn receipts(&self, _: &DeviceRow) -> Result<Vec<StoredReceipt>, StoreError> {
        not_asked()
    }

    fn events(&self, _: &DeviceRow) -> Result<Vec<Event>, StoreError> {
        not_asked()
    }

    fn tags(&self, _: &DeviceRow) -> Result<Option<Vec<u8>>, StoreError> {
        not_asked()
    }

    fn rollouts(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        not_asked()
    }

    fn deployments(&self, _: &RolloutId) -> Result<Vec<(u32, Vec<u8>)>, StoreError> {
        not_asked()
    }

    fn record(&self, _: &Kind, _: &Key) -> Result<Option<Record>, StoreError> {
        not_asked()
    }

    fn records(&self, _: &Kind, _: Option<&Key>, _: usize) -> Result<Vec<Record>, StoreError> {
        not_asked()
    }

    fn record_kinds(&self) -> Result<Vec<Kind>, StoreError> {
        not_asked()
    }

    fn capacity(&self) -> Result<Capacity, StoreError> {
        Ok(self.capacity)
    }
}
