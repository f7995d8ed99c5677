//! Rows of the database as ours. What does not fit was written by somebody else: damage.

use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::DeviceId;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::rollout::RolloutId;
use crate::store::records::{Key, Kind, Record};
use crate::store::{DeviceRow, Event, EventKind, Share, Standing, StoreError, StoredReceipt};

macro_rules! device_columns {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            "SELECT number, name, enrolled, certificate, not_after, enrolled_at, revoked_at, ",
            "seen_at, inventory, inventory_seq, inventory_time, receipts, events FROM device ",
            $after
        )
    };
}

/// In the order of numbers, so that no two servers wait for each other in a circle.
pub(super) const LOCK_DEVICES: &str =
    device_columns!("", "WHERE name = ANY($1) ORDER BY number FOR UPDATE");
/// All devices, a page from behind a number.
pub(super) const PAGE_OF_DEVICES: &str =
    device_columns!("", "WHERE number > $1 ORDER BY number LIMIT $2");
/// Some devices.
pub(super) const SOME_DEVICES: &str = device_columns!("", "WHERE number = ANY($1) ORDER BY number");

/// A column of a row.
pub(super) fn column<'a, T: FromSql<'a>>(row: &'a Row, at: usize) -> Result<T, StoreError> {
    row.try_get(at)
        .map_err(|error| StoreError::Damaged(format!("column {at} of a row: {error}")))
}

fn damaged(what: &str) -> StoreError {
    StoreError::Damaged(format!("a row holds {what}"))
}

pub(super) fn digest(row: &Row, at: usize) -> Result<Digest, StoreError> {
    let bytes: &[u8] = column(row, at)?;
    let bytes = bytes.try_into().map_err(|_| damaged("a short digest"))?;
    Ok(Digest::from_bytes(bytes))
}

fn some_digest(row: &Row, at: usize) -> Result<Option<Digest>, StoreError> {
    let there: Option<&[u8]> = column(row, at)?;
    there.map(|_| digest(row, at)).transpose()
}

pub(super) fn kind(row: &Row, at: usize) -> Result<Kind, StoreError> {
    Kind::parse(column(row, at)?).map_err(|error| damaged(&error.to_string()))
}

pub(super) fn key(row: &Row, at: usize) -> Result<Key, StoreError> {
    Key::parse(column(row, at)?).map_err(|error| damaged(&error.to_string()))
}

pub(super) fn rollout(row: &Row, at: usize) -> Result<RolloutId, StoreError> {
    RolloutId::parse(column(row, at)?).map_err(|error| damaged(&error.to_string()))
}

pub(super) fn device(row: &Row) -> Result<DeviceRow, StoreError> {
    let name: &str = column(row, 1)?;
    let standing = if column(row, 2)? {
        Standing::Enrolled
    } else {
        Standing::Revoked
    };
    Ok(DeviceRow {
        number: column::<i32>(row, 0)?.cast_unsigned(),
        device: DeviceId::parse(name).map_err(|_| damaged("no device's name"))?,
        standing,
        certificate: digest(row, 3)?,
        not_after: column(row, 4)?,
        enrolled_at: column(row, 5)?,
        revoked_at: column(row, 6)?,
        seen_at: column(row, 7)?,
        inventory: some_digest(row, 8)?,
        inventory_seq: column::<i64>(row, 9)?.cast_unsigned(),
        inventory_time: column(row, 10)?,
        receipts: column::<i64>(row, 11)?.cast_unsigned(),
        events: column::<i64>(row, 12)?.cast_unsigned(),
    })
}

/// `seq, at, digest, bytes`.
pub(super) fn receipt(row: &Row) -> Result<StoredReceipt, StoreError> {
    let receipt = StoredReceipt {
        seq: column::<i64>(row, 0)?.cast_unsigned(),
        at: column(row, 1)?,
        digest: digest(row, 2)?,
        bytes: column::<&[u8]>(row, 3)?.to_vec(),
    };
    if Digest::of(&receipt.bytes) != receipt.digest {
        return Err(damaged("a receipt that was altered"));
    }
    Ok(receipt)
}

/// `seq, at, what, digest`.
pub(super) fn event(row: &Row) -> Result<Event, StoreError> {
    let word: &str = column(row, 2)?;
    Ok(Event {
        seq: column::<i64>(row, 0)?.cast_unsigned(),
        at: column(row, 1)?,
        what: of_word(word).ok_or_else(|| damaged("no event"))?,
        digest: some_digest(row, 3)?,
    })
}

/// `key, version, bytes`.
pub(super) fn record(row: &Row) -> Result<Record, StoreError> {
    Ok(Record {
        key: key(row, 0)?,
        version: column::<i64>(row, 1)?.cast_unsigned(),
        bytes: column::<&[u8]>(row, 2)?.to_vec(),
    })
}

/// `device, bytes`.
pub(super) fn deployment(row: &Row) -> Result<(u32, Vec<u8>), StoreError> {
    let bytes: &[u8] = column(row, 1)?;
    Ok((column::<i32>(row, 0)?.cast_unsigned(), bytes.to_vec()))
}

/// `rollout, device, bytes`.
pub(super) fn share(row: &Row) -> Result<(Share, Vec<u8>), StoreError> {
    let bytes: &[u8] = column(row, 2)?;
    let device = column::<i32>(row, 1)?.cast_unsigned();
    Ok(((rollout(row, 0)?, device), bytes.to_vec()))
}

const WORDS: [(EventKind, &str); 5] = [
    (EventKind::Enrolled, "enrolled"),
    (EventKind::Revoked, "revoked"),
    (EventKind::InventoryChanged, "inventory-changed"),
    (EventKind::SequenceFell, "sequence-fell"),
    (EventKind::Receipt, "receipt"),
];

/// The word that the database keeps for a kind of event.
pub(super) fn word(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Enrolled => WORDS[0].1,
        EventKind::Revoked => WORDS[1].1,
        EventKind::InventoryChanged => WORDS[2].1,
        EventKind::SequenceFell => WORDS[3].1,
        EventKind::Receipt => WORDS[4].1,
    }
}

fn of_word(word: &str) -> Option<EventKind> {
    let known = WORDS.iter().find(|(_, known)| *known == word);
    known.map(|(kind, _)| *kind)
}
