//! Rows and events as the embedded engine keeps them: fixed fields, big-endian, no names.
//!
//! | field | bytes |
//! |---|---|
//! | kind: [`ROW`] | 1 |
//! | standing: 0 enrolled, 1 revoked | 1 |
//! | which of the three that may be absent are there | 1 |
//! | number | 4 |
//! | certificate | 32 |
//! | not_after, enrolled_at, inventory_time | 8 each |
//! | inventory_seq, receipts, events | 8 each |
//! | revoked_at, seen_at, inventory; each if it is there | 8, 8, 32 |
//! | device | the rest |
//!
//! An event: kind [`EVENT`], what, seq, at, and its digest if it has one. Rows of older stores are
//! JSON, begin with a brace, and are read as they are.

use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::DeviceId;

use super::pieces::read as read_json;
use super::{DeviceRow, Event, EventKind, Standing, StoreError};

const ROW: u8 = 1;
const EVENT: u8 = 2;
const JSON: u8 = b'{';

const HAS_REVOKED_AT: u8 = 1;
const HAS_SEEN_AT: u8 = 2;
const HAS_INVENTORY: u8 = 4;

/// A row as it is kept.
pub(super) fn encode_row(row: &DeviceRow) -> Vec<u8> {
    let flag = |is_there: bool, flag: u8| if is_there { flag } else { 0 };
    let mut all = Vec::with_capacity(160 + row.device.as_str().len());
    all.push(ROW);
    all.push(match row.standing {
        Standing::Enrolled => 0,
        Standing::Revoked => 1,
    });
    all.push(
        flag(row.revoked_at.is_some(), HAS_REVOKED_AT)
            | flag(row.seen_at.is_some(), HAS_SEEN_AT)
            | flag(row.inventory.is_some(), HAS_INVENTORY),
    );
    all.extend_from_slice(&row.number.to_be_bytes());
    all.extend_from_slice(row.certificate.as_bytes());
    for time in [row.not_after, row.enrolled_at, row.inventory_time] {
        all.extend_from_slice(&time.to_be_bytes());
    }
    for count in [row.inventory_seq, row.receipts, row.events] {
        all.extend_from_slice(&count.to_be_bytes());
    }
    for time in [row.revoked_at, row.seen_at].into_iter().flatten() {
        all.extend_from_slice(&time.to_be_bytes());
    }
    if let Some(inventory) = &row.inventory {
        all.extend_from_slice(inventory.as_bytes());
    }
    all.extend_from_slice(row.device.as_str().as_bytes());
    all
}

/// A row as it was kept.
pub(super) fn decode_row(bytes: &[u8]) -> Result<DeviceRow, StoreError> {
    if bytes.first() == Some(&JSON) {
        return read_json(bytes);
    }
    row(bytes).ok_or_else(|| StoreError::Damaged("a device's row is cut short or altered".into()))
}

fn row(bytes: &[u8]) -> Option<DeviceRow> {
    let mut fields = Fields(bytes);
    let [ROW, standing, flags] = fields.take()? else {
        return None;
    };
    let standing = match standing {
        0 => Standing::Enrolled,
        1 => Standing::Revoked,
        _ => return None,
    };
    let number = u32::from_be_bytes(fields.take()?);
    let certificate = Digest::from_bytes(fields.take()?);
    let [not_after, enrolled_at, inventory_time] = [fields.time()?, fields.time()?, fields.time()?];
    let [inventory_seq, receipts, events] = [fields.count()?, fields.count()?, fields.count()?];
    let revoked_at = match flags & HAS_REVOKED_AT {
        0 => None,
        _ => Some(fields.time()?),
    };
    let seen_at = match flags & HAS_SEEN_AT {
        0 => None,
        _ => Some(fields.time()?),
    };
    let inventory = match flags & HAS_INVENTORY {
        0 => None,
        _ => Some(Digest::from_bytes(fields.take()?)),
    };
    let device = DeviceId::parse(std::str::from_utf8(fields.0).ok()?).ok()?;
    Some(DeviceRow {
        number,
        device,
        standing,
        certificate,
        not_after,
        enrolled_at,
        revoked_at,
        seen_at,
        inventory,
        inventory_seq,
        inventory_time,
        receipts,
        events,
    })
}

/// An event as it is kept.
pub(super) fn encode_event(event: &Event) -> Vec<u8> {
    let mut all = Vec::with_capacity(64);
    all.extend([EVENT, number_of(event.what)]);
    all.extend_from_slice(&event.seq.to_be_bytes());
    all.extend_from_slice(&event.at.to_be_bytes());
    if let Some(digest) = &event.digest {
        all.extend_from_slice(digest.as_bytes());
    }
    all
}

/// An event as it was kept.
pub(super) fn decode_event(bytes: &[u8]) -> Result<Event, StoreError> {
    if bytes.first() == Some(&JSON) {
        return read_json(bytes);
    }
    event(bytes).ok_or_else(|| StoreError::Damaged("an event is cut short or altered".into()))
}

fn event(bytes: &[u8]) -> Option<Event> {
    let mut fields = Fields(bytes);
    let [EVENT, what] = fields.take()? else {
        return None;
    };
    let what = KINDS.into_iter().find(|kind| number_of(*kind) == what)?;
    let (seq, at) = (fields.count()?, fields.time()?);
    let digest = match fields.0.len() {
        0 => None,
        32 => Some(Digest::from_bytes(fields.take()?)),
        _ => return None,
    };
    Some(Event {
        seq,
        at,
        what,
        digest,
    })
}

const KINDS: [EventKind; 5] = [
    EventKind::Enrolled,
    EventKind::Revoked,
    EventKind::InventoryChanged,
    EventKind::SequenceFell,
    EventKind::Receipt,
];

fn number_of(kind: EventKind) -> u8 {
    match kind {
        EventKind::Enrolled => 0,
        EventKind::Revoked => 1,
        EventKind::InventoryChanged => 2,
        EventKind::SequenceFell => 3,
        EventKind::Receipt => 4,
    }
}

/// What is left to read.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const LEN: usize>(&mut self) -> Option<[u8; LEN]> {
        let (field, rest) = self.0.split_first_chunk::<LEN>()?;
        self.0 = rest;
        Some(*field)
    }

    fn time(&mut self) -> Option<i64> {
        Some(i64::from_be_bytes(self.take()?))
    }

    fn count(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_row(flags: u8) -> DeviceRow {
        let digest = |byte| Digest::from_bytes([byte; 32]);
        DeviceRow {
            number: 7,
            device: DeviceId::parse("pump-7").unwrap(),
            standing: Standing::Revoked,
            certificate: digest(1),
            not_after: i64::MAX,
            enrolled_at: -5,
            revoked_at: (flags & HAS_REVOKED_AT != 0).then_some(11),
            seen_at: (flags & HAS_SEEN_AT != 0).then_some(-12),
            inventory: (flags & HAS_INVENTORY != 0).then(|| digest(2)),
            inventory_seq: 13,
            inventory_time: -14,
            receipts: 15,
            events: u64::MAX,
        }
    }

    /// Catches: a field that is taken for its neighbour, an absent one that is taken for present.
    #[test]
    fn rows_come_back_as_they_were_and_cut_ones_are_damage() {
        for flags in 0..8 {
            let row = a_row(flags);
            let bytes = encode_row(&row);
            assert_eq!(decode_row(&bytes).unwrap(), row);
            // Shorter by the whole name at the least: no field is left out unnoticed.
            for cut in 0..=bytes.len() - row.device.as_str().len() {
                assert!(decode_row(&bytes[..cut]).is_err(), "{cut} of {flags}");
            }
        }
    }

    #[test]
    fn events_come_back_as_they_were_and_cut_ones_are_damage() {
        for (what, digest) in KINDS
            .into_iter()
            .zip([None, Some(Digest::of(b"a"))].into_iter().cycle())
        {
            let event = Event {
                seq: 3,
                at: -4,
                what,
                digest,
            };
            let bytes = encode_event(&event);
            assert_eq!(decode_event(&bytes).unwrap(), event);
            for cut in (0..bytes.len()).filter(|cut| *cut != 18) {
                assert!(decode_event(&bytes[..cut]).is_err(), "{cut}");
            }
        }
    }

    #[test]
    fn rows_of_an_older_store_are_read() {
        let row = a_row(7);
        let json = serde_json::to_vec(&row).unwrap();
        assert_eq!(decode_row(&json).unwrap(), row);
    }
}
