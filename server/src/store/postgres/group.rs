//! The rows that one group needs, read under locks, changed in memory and written in a few
//! statements.
//!
//! Locks are taken in one order, so that servers never wait for each other in a circle: the
//! store's row (where a device is enrolled or a record is written), then devices by number.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::DeviceId;
use tokio_postgres::Row;

use super::rows::{self, column};
use super::session::Session;
use super::{Fault, News, write};
use crate::rollout::RolloutId;
use crate::store::apply::{Rows, apply};
use crate::store::records::{Key, Kind, lock};
use crate::store::{
    Capacity, DeviceRow, Event, EventKind, StoreError, StoredReceipt, Write, Written,
};

/// What a group found and what it changes.
#[derive(Default)]
pub(super) struct Group {
    rings: Option<Capacity>,
    devices: HashMap<DeviceId, DeviceRow>,
    next_number: u32,
    record_versions: u64,
    /// Those of the group's receipts that are kept already, and their places.
    receipts: HashMap<(u32, Digest), u32>,
    versions: HashMap<(Kind, Key), Option<u64>>,
    pub(super) out: Out,
}

/// What is written at the end; later changes of a row replace earlier ones.
#[derive(Default)]
pub(super) struct Out {
    pub(super) rows: BTreeMap<u32, DeviceRow>,
    /// Rows that are there and of which no more changed than what a report changes.
    pub(super) seen: BTreeMap<u32, DeviceRow>,
    pub(super) inventories: BTreeMap<u32, Vec<u8>>,
    pub(super) receipts: BTreeMap<(u32, u32), StoredReceipt>,
    pub(super) events: BTreeMap<(u32, u32), Event>,
    pub(super) tags: BTreeMap<u32, Vec<u8>>,
    pub(super) rollouts: BTreeMap<RolloutId, Vec<u8>>,
    pub(super) deployments: BTreeMap<(RolloutId, u32), Vec<u8>>,
    pub(super) records: BTreeMap<(Kind, Key), Option<Kept>>,
    pub(super) news: BTreeSet<News>,
    /// The store's row: devices and record versions.
    pub(super) counters: Option<(u32, u64)>,
}

/// A record's version and bytes; it is removed where there are none.
type Kept = (u64, Vec<u8>);

const STORE: &str = "SELECT devices, record_versions, receipts_max, events_max FROM store";
/// Where one is counted.
const LOCK_STORE: &str =
    "SELECT devices, record_versions, receipts_max, events_max FROM store FOR UPDATE";
/// The devices are locked.
const KNOWN_RECEIPTS: &str = "SELECT r.device, r.slot, r.digest FROM receipt r \
     JOIN device d ON d.number = r.device \
     JOIN unnest($1::text[], $2::bytea[]) AS w(name, digest) \
     ON d.name = w.name AND r.digest = w.digest";
/// The lock on the store's row keeps others from them.
const VERSIONS: &str = "SELECT r.kind, r.key, r.version FROM record r \
     JOIN unnest($1::text[], $2::text[]) AS w(kind, key) ON r.kind = w.kind AND r.key = w.key";
const READS: [&str; 5] = [
    STORE,
    LOCK_STORE,
    rows::LOCK_DEVICES,
    KNOWN_RECEIPTS,
    VERSIONS,
];

impl Group {
    /// Prepares what groups send.
    pub(super) async fn prepare(session: &Session) -> Result<(), Fault> {
        session.prepare(&READS).await?;
        session.prepare(&write::ALL).await
    }

    /// Reads what `writes` need, under locks, within the transaction that is open on `session`; all
    /// of it is asked for at once.
    pub(super) async fn read(session: &Session, writes: &[Write]) -> Result<Self, Fault> {
        let (store, devices, receipts, versions) = tokio::join!(
            biased;
            read_store(session, writes),
            read_devices(session, writes),
            read_receipts(session, writes),
            read_versions(session, writes),
        );
        let mut group = store?;
        for row in devices? {
            let row = rows::device(&row)?;
            group.devices.insert(row.device.clone(), row);
        }
        for row in receipts? {
            let device = column::<i32>(&row, 0)?.cast_unsigned();
            let slot = column::<i32>(&row, 1)?.cast_unsigned();
            let digest = rows::digest(&row, 2)?;
            group.receipts.insert((device, digest), slot);
        }
        for row in versions? {
            let name = (rows::kind(&row, 0)?, rows::key(&row, 1)?);
            let version = column::<i64>(&row, 2)?.cast_unsigned();
            group.versions.insert(name, Some(version));
        }
        Ok(group)
    }

    /// Applies `writes`; what is to be written stands in `out` afterwards.
    pub(super) fn apply(&mut self, writes: &[Write]) -> Result<Vec<Written>, StoreError> {
        let counts = (self.next_number, self.record_versions);
        let written = writes.iter().map(|write| apply(self, write));
        let written = written.collect::<Result<_, StoreError>>()?;
        let counted = (self.next_number, self.record_versions);
        self.out.counters = (counts != counted).then_some(counted);
        Ok(written)
    }

    fn rings(&self) -> Result<Capacity, StoreError> {
        self.rings
            .ok_or_else(|| StoreError::Damaged("its sizes are missing".into()))
    }
}

async fn read_store(session: &Session, writes: &[Write]) -> Result<Group, Fault> {
    let counts = |write: &Write| {
        matches!(
            write,
            Write::Enroll { .. } | Write::Records(_) | Write::Restore(_)
        )
    };
    let sql = if writes.iter().any(counts) {
        LOCK_STORE
    } else {
        STORE
    };
    let found = session.ask(sql, &[]).await?;
    let store = found
        .first()
        .ok_or_else(|| StoreError::Damaged("its counters are missing".into()))?;
    Ok(Group {
        next_number: column::<i32>(store, 0)?.cast_unsigned(),
        record_versions: column::<i64>(store, 1)?.cast_unsigned(),
        rings: Some(Capacity {
            receipts_max: column::<i32>(store, 2)?.cast_unsigned(),
            events_max: column::<i32>(store, 3)?.cast_unsigned(),
        }),
        ..Group::default()
    })
}

async fn read_devices(session: &Session, writes: &[Write]) -> Result<Vec<Row>, Fault> {
    let names: BTreeSet<&str> = writes
        .iter()
        .filter_map(Write::device)
        .map(DeviceId::as_str)
        .collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<&str> = names.into_iter().collect();
    session.ask(rows::LOCK_DEVICES, &[&names]).await
}

async fn read_receipts(session: &Session, writes: &[Write]) -> Result<Vec<Row>, Fault> {
    let (mut names, mut digests) = (Vec::new(), Vec::new());
    for write in writes {
        if let Write::Receipt { device, digest, .. } = write {
            names.push(device.as_str());
            digests.push(&digest.as_bytes()[..]);
        }
    }
    if names.is_empty() {
        return Ok(Vec::new());
    }
    session.ask(KNOWN_RECEIPTS, &[&names, &digests]).await
}

async fn read_versions(session: &Session, writes: &[Write]) -> Result<Vec<Row>, Fault> {
    let (mut kinds, mut keys) = (Vec::new(), Vec::new());
    for write in writes {
        if let Write::Records(records) = write {
            kinds.extend(records.iter().map(|record| record.kind.as_str()));
            keys.extend(records.iter().map(|record| record.key.as_str()));
        }
    }
    if kinds.is_empty() {
        return Ok(Vec::new());
    }
    session.ask(VERSIONS, &[&kinds, &keys]).await
}

/// Whether no more changed than what a report changes.
fn is_report(old: &DeviceRow, new: &DeviceRow) -> bool {
    let lasting = |row: &DeviceRow| {
        (
            row.number,
            row.standing,
            row.certificate,
            row.not_after,
            row.enrolled_at,
            row.revoked_at,
        )
    };
    lasting(old) == lasting(new)
}

/// The place of the `seq`th entry in a ring of `max`.
fn slot(seq: u64, max: u32) -> u32 {
    u32::try_from(seq % u64::from(max.max(1))).unwrap_or(0)
}

impl Rows for Group {
    type Error = StoreError;

    fn row(&mut self, device: &DeviceId) -> Result<Option<DeviceRow>, StoreError> {
        Ok(self.devices.get(device).cloned())
    }

    fn new_number(&mut self, _: &DeviceId) -> Result<u32, StoreError> {
        let number = self.next_number;
        self.next_number += 1;
        Ok(number)
    }

    fn put_row(&mut self, row: &DeviceRow) -> Result<(), StoreError> {
        let old = self.devices.insert(row.device.clone(), row.clone());
        let is_report = old.is_some_and(|old| is_report(&old, row));
        if is_report && !self.out.rows.contains_key(&row.number) {
            self.out.seen.insert(row.number, row.clone());
        } else {
            self.out.seen.remove(&row.number);
            self.out.rows.insert(row.number, row.clone());
        }
        Ok(())
    }

    fn put_inventory(&mut self, device: &DeviceRow, bytes: &[u8]) -> Result<(), StoreError> {
        self.out.inventories.insert(device.number, bytes.to_vec());
        Ok(())
    }

    fn has_receipt(&mut self, device: &DeviceRow, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.receipts.contains_key(&(device.number, *digest)))
    }

    fn put_receipt(
        &mut self,
        device: &DeviceRow,
        receipt: StoredReceipt,
    ) -> Result<(), StoreError> {
        let number = device.number;
        let slot = slot(receipt.seq, self.rings()?.receipts_max);
        // The one that gives way is not known any more.
        self.receipts
            .retain(|(device, _), place| (*device, *place) != (number, slot));
        self.receipts.insert((number, receipt.digest), slot);
        self.out.news.insert(News::Receipt(number, receipt.seq));
        self.out.receipts.insert((number, slot), receipt);
        Ok(())
    }

    fn put_event(&mut self, device: &DeviceRow, event: Event) -> Result<(), StoreError> {
        let number = device.number;
        match event.what {
            EventKind::Enrolled | EventKind::Revoked => {
                self.out.news.insert(News::Device(number));
            }
            EventKind::InventoryChanged => {
                self.out.news.insert(News::Inventory(number));
            }
            // A receipt tells for itself.
            EventKind::Receipt | EventKind::SequenceFell => {}
        }
        let slot = slot(event.seq, self.rings()?.events_max);
        self.out.events.insert((number, slot), event);
        Ok(())
    }

    fn put_tags(&mut self, device: &DeviceRow, bytes: &[u8]) -> Result<(), StoreError> {
        self.out.tags.insert(device.number, bytes.to_vec());
        self.out.news.insert(News::Tags(device.number));
        Ok(())
    }

    fn put_rollout(&mut self, name: &RolloutId, bytes: &[u8]) -> Result<(), StoreError> {
        self.out.rollouts.insert(name.clone(), bytes.to_vec());
        self.out.news.insert(News::Rollout(name.clone()));
        Ok(())
    }

    fn put_deployment(
        &mut self,
        rollout: &RolloutId,
        device: u32,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        let key = (rollout.clone(), device);
        self.out.deployments.insert(key, bytes.to_vec());
        let news = News::Deployment(rollout.clone(), device);
        self.out.news.insert(news);
        Ok(())
    }

    fn record_version(&mut self, kind: &Kind, key: &Key) -> Result<Option<u64>, StoreError> {
        let name = (kind.clone(), key.clone());
        Ok(self.versions.get(&name).copied().flatten())
    }

    fn put_record(
        &mut self,
        kind: &Kind,
        key: &Key,
        bytes: Option<&[u8]>,
    ) -> Result<Option<u64>, StoreError> {
        let version = bytes.map(|_| {
            self.record_versions = self.record_versions.saturating_add(1);
            self.record_versions
        });
        if let Some(device) = lock::device_of(kind, key) {
            self.out.news.insert(News::Lock(device));
        }
        let name = (kind.clone(), key.clone());
        self.versions.insert(name.clone(), version);
        let kept = version.zip(bytes.map(<[u8]>::to_vec));
        self.out.records.insert(name, kept);
        Ok(version)
    }
}
