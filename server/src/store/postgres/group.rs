//! The rows that one group needs, read under locks, changed in memory and written in a few
//! statements.
//!
//! Locks are taken in one order, so that servers never wait for each other in a circle: the
//! store's row (where a device is enrolled or a record is written), then devices by number.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::DeviceId;

use super::rows::{self, column};
use super::session::Session;
use super::{Fault, News};
use crate::rollout::RolloutId;
use crate::store::apply::{Rows, apply};
use crate::store::records::{Key, Kind};
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

impl Group {
    /// Applies `writes` within the transaction that is open on `session`.
    pub(super) async fn run(
        session: &mut Session,
        writes: &[Write],
    ) -> Result<Vec<Written>, Fault> {
        let mut group = Self::read(session, writes).await?;
        let counts = (group.next_number, group.record_versions);
        let written = writes.iter().map(|write| apply(&mut group, write));
        let written = written.collect::<Result<_, StoreError>>()?;
        let counted = (group.next_number, group.record_versions);
        group.out.counters = (counts != counted).then_some(counted);
        group.out.write(session).await?;
        Ok(written)
    }

    async fn read(session: &mut Session, writes: &[Write]) -> Result<Self, Fault> {
        let counts = |write: &Write| matches!(write, Write::Enroll { .. } | Write::Records(_));
        let sql = if writes.iter().any(counts) {
            "SELECT devices, record_versions, receipts_max, events_max FROM store FOR UPDATE"
        } else {
            "SELECT devices, record_versions, receipts_max, events_max FROM store"
        };
        let store = session.one(sql, &[]).await?;
        let mut group = Self {
            next_number: column::<i32>(&store, 0)?.cast_unsigned(),
            record_versions: column::<i64>(&store, 1)?.cast_unsigned(),
            rings: Some(Capacity {
                receipts_max: column::<i32>(&store, 2)?.cast_unsigned(),
                events_max: column::<i32>(&store, 3)?.cast_unsigned(),
            }),
            ..Self::default()
        };
        group.read_devices(session, writes).await?;
        group.read_receipts(session, writes).await?;
        group.read_records(session, writes).await?;
        Ok(group)
    }

    async fn read_devices(&mut self, session: &mut Session, writes: &[Write]) -> Result<(), Fault> {
        let names: BTreeSet<&str> = writes
            .iter()
            .filter_map(Write::device)
            .map(DeviceId::as_str)
            .collect();
        if names.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = names.into_iter().collect();
        let found = session.rows(rows::LOCK_DEVICES, &[&names]).await?;
        for row in found {
            let row = rows::device(&row)?;
            self.devices.insert(row.device.clone(), row);
        }
        Ok(())
    }

    async fn read_receipts(
        &mut self,
        session: &mut Session,
        writes: &[Write],
    ) -> Result<(), Fault> {
        let (mut numbers, mut digests) = (Vec::new(), Vec::new());
        for write in writes {
            if let Write::Receipt { device, digest, .. } = write
                && let Some(row) = self.devices.get(device)
            {
                numbers.push(row.number.cast_signed());
                digests.push(&digest.as_bytes()[..]);
            }
        }
        if numbers.is_empty() {
            return Ok(());
        }
        let sql = "SELECT r.device, r.slot, r.digest FROM receipt r \
                   JOIN unnest($1::int[], $2::bytea[]) AS w(device, digest) \
                   ON r.device = w.device AND r.digest = w.digest";
        for row in session.rows(sql, &[&numbers, &digests]).await? {
            let device = column::<i32>(&row, 0)?.cast_unsigned();
            let slot = column::<i32>(&row, 1)?.cast_unsigned();
            self.receipts.insert((device, rows::digest(&row, 2)?), slot);
        }
        Ok(())
    }

    async fn read_records(&mut self, session: &mut Session, writes: &[Write]) -> Result<(), Fault> {
        let (mut kinds, mut keys) = (Vec::new(), Vec::new());
        for write in writes {
            if let Write::Records(records) = write {
                kinds.extend(records.iter().map(|record| record.kind.as_str()));
                keys.extend(records.iter().map(|record| record.key.as_str()));
            }
        }
        if kinds.is_empty() {
            return Ok(());
        }
        // The lock on the store's row keeps others from them.
        let sql = "SELECT r.kind, r.key, r.version FROM record r \
                   JOIN unnest($1::text[], $2::text[]) AS w(kind, key) \
                   ON r.kind = w.kind AND r.key = w.key";
        for row in session.rows(sql, &[&kinds, &keys]).await? {
            let name = (rows::kind(&row, 0)?, rows::key(&row, 1)?);
            let version = column::<i64>(&row, 2)?.cast_unsigned();
            self.versions.insert(name, Some(version));
        }
        Ok(())
    }

    fn rings(&self) -> Result<Capacity, StoreError> {
        self.rings
            .ok_or_else(|| StoreError::Damaged("its sizes are missing".into()))
    }
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
        self.devices.insert(row.device.clone(), row.clone());
        self.out.rows.insert(row.number, row.clone());
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
        let name = (kind.clone(), key.clone());
        self.versions.insert(name.clone(), version);
        let kept = version.zip(bytes.map(<[u8]>::to_vec));
        self.out.records.insert(name, kept);
        Ok(version)
    }
}
