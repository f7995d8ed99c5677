//! What each kind of write does to the rows: the same on every engine.
//!
//! An engine gives [`Rows`], which it reads and writes inside one transaction of its own.

use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::DeviceId;

use super::records::{Key, Kind, RecordWrite};
use super::{
    DeviceRow, Event, EventKind, Standing, StoreError, StoredReceipt, WholeDevice, Write, Written,
};
use crate::rollout::RolloutId;

/// The rows of a store, inside one transaction.
pub(super) trait Rows {
    /// What ends the transaction.
    type Error: From<StoreError>;

    /// The row of a device.
    fn row(&mut self, device: &DeviceId) -> Result<Option<DeviceRow>, Self::Error>;
    /// A number for a device that is about to get its first row.
    fn new_number(&mut self, device: &DeviceId) -> Result<u32, Self::Error>;
    fn put_row(&mut self, row: &DeviceRow) -> Result<(), Self::Error>;
    fn put_inventory(&mut self, device: &DeviceRow, bytes: &[u8]) -> Result<(), Self::Error>;
    fn has_receipt(&mut self, device: &DeviceRow, digest: &Digest) -> Result<bool, Self::Error>;
    /// In the place of the oldest, where there are as many as are kept.
    fn put_receipt(
        &mut self,
        device: &DeviceRow,
        receipt: StoredReceipt,
    ) -> Result<(), Self::Error>;
    /// In the place of the oldest, where there are as many as are kept.
    fn put_event(&mut self, device: &DeviceRow, event: Event) -> Result<(), Self::Error>;
    fn put_tags(&mut self, device: &DeviceRow, bytes: &[u8]) -> Result<(), Self::Error>;
    fn put_rollout(&mut self, name: &RolloutId, bytes: &[u8]) -> Result<(), Self::Error>;
    fn put_deployment(
        &mut self,
        rollout: &RolloutId,
        device: u32,
        bytes: &[u8],
    ) -> Result<(), Self::Error>;
    fn record_version(&mut self, kind: &Kind, key: &Key) -> Result<Option<u64>, Self::Error>;
    /// The version that it gets, or nothing where it is removed.
    fn put_record(
        &mut self,
        kind: &Kind,
        key: &Key,
        bytes: Option<&[u8]>,
    ) -> Result<Option<u64>, Self::Error>;
}

/// Does what `write` asks.
///
/// # Errors
/// The engine's own.
pub(super) fn apply<R: Rows>(rows: &mut R, write: &Write) -> Result<Written, R::Error> {
    match write {
        Write::Enroll {
            device,
            certificate,
            not_after,
            at,
        } => enroll(rows, device, (*certificate, *not_after), *at),
        Write::Revoke { device, at } => revoke(rows, device, *at),
        Write::Inventory {
            device,
            at,
            seq,
            time,
            digest,
            bytes,
        } => inventory(rows, device, *at, (*seq, *time), (*digest, bytes)),
        Write::Receipt {
            device,
            at,
            digest,
            bytes,
        } => receipt(rows, device, *at, *digest, bytes),
        Write::Tags { device, bytes } => {
            let Some(row) = rows.row(device)? else {
                return Ok(Written::UnknownDevice);
            };
            rows.put_tags(&row, bytes)?;
            Ok(Written::Done(row))
        }
        Write::Rollout { name, bytes } => {
            rows.put_rollout(name, bytes)?;
            Ok(Written::Kept)
        }
        Write::Deployment {
            rollout,
            device,
            bytes,
        } => {
            rows.put_deployment(rollout, *device, bytes)?;
            Ok(Written::Kept)
        }
        Write::Records(writes) => records(rows, writes),
        Write::Restore(whole) => restore(rows, whole),
    }
}

fn enroll<R: Rows>(
    rows: &mut R,
    device: &DeviceId,
    (certificate, not_after): (Digest, i64),
    at: i64,
) -> Result<Written, R::Error> {
    let row = match rows.row(device)? {
        Some(row) => row,
        None => new_row(rows.new_number(device)?, device, certificate),
    };
    let row = DeviceRow {
        standing: Standing::Enrolled,
        certificate,
        not_after,
        enrolled_at: at,
        revoked_at: None,
        ..row
    };
    let event = (EventKind::Enrolled, Some(certificate));
    finish(rows, row, at, Some(event))
}

fn new_row(number: u32, device: &DeviceId, certificate: Digest) -> DeviceRow {
    DeviceRow {
        number,
        device: device.clone(),
        standing: Standing::Enrolled,
        certificate,
        not_after: 0,
        enrolled_at: 0,
        revoked_at: None,
        seen_at: None,
        inventory: None,
        inventory_seq: 0,
        inventory_time: 0,
        receipts: 0,
        events: 0,
    }
}

fn revoke<R: Rows>(rows: &mut R, device: &DeviceId, at: i64) -> Result<Written, R::Error> {
    let Some(row) = rows.row(device)? else {
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
    finish(rows, row, at, Some((EventKind::Revoked, None)))
}

fn inventory<R: Rows>(
    rows: &mut R,
    device: &DeviceId,
    at: i64,
    (seq, time): (u64, i64),
    (digest, bytes): (Digest, &[u8]),
) -> Result<Written, R::Error> {
    let Some(mut row) = rows.row(device)? else {
        return Ok(Written::UnknownDevice);
    };
    if seq < row.inventory_seq {
        event(rows, &mut row, at, EventKind::SequenceFell, None)?;
    }
    let changed = row.inventory != Some(digest);
    if changed {
        rows.put_inventory(&row, bytes)?;
    }
    let row = DeviceRow {
        seen_at: Some(at),
        inventory: Some(digest),
        inventory_seq: seq,
        inventory_time: time,
        ..row
    };
    let event = (EventKind::InventoryChanged, Some(digest));
    finish(rows, row, at, changed.then_some(event))
}

fn receipt<R: Rows>(
    rows: &mut R,
    device: &DeviceId,
    at: i64,
    digest: Digest,
    bytes: &[u8],
) -> Result<Written, R::Error> {
    let Some(row) = rows.row(device)? else {
        return Ok(Written::UnknownDevice);
    };
    if rows.has_receipt(&row, &digest)? {
        return Ok(Written::Repeated(row));
    }
    let receipt = StoredReceipt {
        seq: row.receipts,
        at,
        digest,
        bytes: bytes.to_vec(),
    };
    rows.put_receipt(&row, receipt)?;
    let row = DeviceRow {
        seen_at: Some(at),
        receipts: row.receipts.saturating_add(1),
        ..row
    };
    finish(rows, row, at, Some((EventKind::Receipt, Some(digest))))
}

/// All of them, or none where one is not as expected.
fn records<R: Rows>(rows: &mut R, writes: &[RecordWrite]) -> Result<Written, R::Error> {
    for (at, write) in writes.iter().enumerate() {
        let version = rows.record_version(&write.kind, &write.key)?;
        if !write.expected.is(version) {
            return Ok(Written::Conflict { at, version });
        }
    }
    let each = writes.iter();
    let put =
        |write: &RecordWrite| rows.put_record(&write.kind, &write.key, write.bytes.as_deref());
    Ok(Written::Recorded(each.map(put).collect::<Result<_, _>>()?))
}

/// Into a store that is empty but for devices of lower numbers.
fn restore<R: Rows>(rows: &mut R, whole: &WholeDevice) -> Result<Written, R::Error> {
    let row = &whole.row;
    if rows.row(&row.device)?.is_some() || rows.new_number(&row.device)? != row.number {
        let what = format!("{} is not the next device of an empty store", row.device);
        return Err(StoreError::Damaged(what).into());
    }
    if let Some(bytes) = &whole.inventory {
        rows.put_inventory(row, bytes)?;
    }
    if let Some(bytes) = &whole.tags {
        rows.put_tags(row, bytes)?;
    }
    for receipt in &whole.receipts {
        rows.put_receipt(row, receipt.clone())?;
    }
    for event in &whole.events {
        rows.put_event(row, event.clone())?;
    }
    rows.put_row(row)?;
    Ok(Written::Done(row.clone()))
}

/// Writes the row, and the event if there is one.
fn finish<R: Rows>(
    rows: &mut R,
    mut row: DeviceRow,
    at: i64,
    what: Option<(EventKind, Option<Digest>)>,
) -> Result<Written, R::Error> {
    if let Some((what, digest)) = what {
        event(rows, &mut row, at, what, digest)?;
    }
    rows.put_row(&row)?;
    Ok(Written::Done(row))
}

fn event<R: Rows>(
    rows: &mut R,
    row: &mut DeviceRow,
    at: i64,
    what: EventKind,
    digest: Option<Digest>,
) -> Result<(), R::Error> {
    let event = Event {
        seq: row.events,
        at,
        what,
        digest,
    };
    rows.put_event(row, event)?;
    row.events = row.events.saturating_add(1);
    Ok(())
}
