//! What each kind of write does to the rows, inside one transaction.

use std::collections::HashMap;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::DeviceId;
use sled::transaction::{
    ConflictableTransactionError, TransactionalTree, UnabortableTransactionError,
};

use crate::store::pieces::{self, Header, json, read};
use crate::store::{
    DeviceRow, Event, EventKind, Standing, StoreError, StoredReceipt, Write, Written,
};

pub(super) type Abort = ConflictableTransactionError<StoreError>;

/// One group being applied; may be run again by sled, so it keeps nothing outside the tree.
pub(super) struct Transaction<'a> {
    tree: &'a TransactionalTree,
    header: Header,
    numbers: HashMap<DeviceId, u32>,
}

impl<'a> Transaction<'a> {
    pub(super) fn begin(
        tree: &'a TransactionalTree,
        numbers: HashMap<DeviceId, u32>,
    ) -> Result<Self, Abort> {
        let header = tree.get(pieces::HEADER)?.ok_or_else(|| {
            ConflictableTransactionError::Abort(StoreError::Damaged("its header is missing".into()))
        })?;
        let mut header: Header = read(&header).map_err(ConflictableTransactionError::Abort)?;
        header.commits = header.commits.saturating_add(1);
        Ok(Self {
            tree,
            header,
            numbers,
        })
    }

    pub(super) fn end(self) -> Result<(), UnabortableTransactionError> {
        self.tree
            .insert(pieces::HEADER, json(&self.header))
            .map(drop)
    }

    pub(super) fn apply(&mut self, write: &Write) -> Result<Written, Abort> {
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
            Write::Tags { device, bytes } => self.tags(device, bytes),
            Write::Rollout { name, bytes } => {
                self.insert_pieces(bytes, |piece| pieces::rollout(name, piece))?;
                Ok(Written::Kept)
            }
            Write::Deployment {
                rollout,
                device,
                bytes,
            } => {
                let key = pieces::deployment(rollout, *device);
                self.tree.insert(key, bytes.as_slice())?;
                Ok(Written::Kept)
            }
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
            self.insert_pieces(bytes, |piece| pieces::inventory(row.number, piece))?;
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

    fn tags(&self, device: &DeviceId, bytes: &[u8]) -> Result<Written, Abort> {
        let Some(row) = self.row(device)? else {
            return Ok(Written::UnknownDevice);
        };
        self.insert_pieces(bytes, |piece| pieces::tags(row.number, piece))?;
        Ok(Written::Done(row))
    }

    fn insert_pieces(&self, bytes: &[u8], key: impl Fn(u16) -> Vec<u8>) -> Result<(), Abort> {
        for (piece, part) in pieces::cut(&pieces::with_len(bytes)) {
            self.tree.insert(key(piece), part)?;
        }
        Ok(())
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
