//! The rows of a sled store inside one transaction.

use std::collections::HashMap;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::DeviceId;
use sled::transaction::{
    ConflictableTransactionError, TransactionalTree, UnabortableTransactionError,
};

use crate::rollout::RolloutId;
use crate::store::apply::Rows;
use crate::store::pieces::{self, Header, json, read};
use crate::store::records::{Key, Kind};
use crate::store::{DeviceRow, Event, StoreError, StoredReceipt};

/// What ends a transaction; a type of our own, so that [`StoreError`] turns into it.
pub(super) struct Abort(pub(super) ConflictableTransactionError<StoreError>);

impl From<StoreError> for Abort {
    fn from(error: StoreError) -> Self {
        Self(ConflictableTransactionError::Abort(error))
    }
}

impl From<UnabortableTransactionError> for Abort {
    fn from(error: UnabortableTransactionError) -> Self {
        Self(error.into())
    }
}

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
        let header = tree
            .get(pieces::HEADER)?
            .ok_or_else(|| StoreError::Damaged("its header is missing".into()))?;
        let mut header: Header = read(&header)?;
        header.commits = header.commits.saturating_add(1);
        Ok(Self {
            tree,
            header,
            numbers,
        })
    }

    pub(super) fn end(self) -> Result<(), Abort> {
        self.tree.insert(pieces::HEADER, json(&self.header))?;
        Ok(())
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

    /// Version and length of a named record.
    fn record_head(&self, kind: &Kind, key: &Key) -> Result<Option<(u64, usize)>, Abort> {
        let first = self.tree.get(pieces::record_piece(kind, key, 0))?;
        Ok(first.as_deref().and_then(pieces::record_head))
    }
}

impl Rows for Transaction<'_> {
    type Error = Abort;

    fn row(&mut self, device: &DeviceId) -> Result<Option<DeviceRow>, Abort> {
        let Some(number) = self.numbers.get(device) else {
            return Ok(None);
        };
        let row = self.tree.get(pieces::device(*number))?;
        Ok(row.map(|row| read(&row)).transpose()?)
    }

    fn new_number(&mut self, device: &DeviceId) -> Result<u32, Abort> {
        let number = self.header.devices;
        self.header.devices += 1;
        self.numbers.insert(device.clone(), number);
        Ok(number)
    }

    fn put_row(&mut self, row: &DeviceRow) -> Result<(), Abort> {
        self.tree.insert(pieces::device(row.number), json(row))?;
        Ok(())
    }

    fn put_inventory(&mut self, device: &DeviceRow, bytes: &[u8]) -> Result<(), Abort> {
        self.insert_pieces(bytes, |piece| pieces::inventory(device.number, piece))
    }

    fn has_receipt(&mut self, device: &DeviceRow, digest: &Digest) -> Result<bool, Abort> {
        let index = pieces::receipt_by_digest(device.number, digest);
        Ok(self.tree.get(index)?.is_some())
    }

    fn put_receipt(&mut self, device: &DeviceRow, receipt: StoredReceipt) -> Result<(), Abort> {
        let slot = pieces::slot(receipt.seq, self.header.receipts_max);
        self.forget_receipt_in(device, slot)?;
        for (piece, part) in pieces::cut(&pieces::encode_receipt(&receipt)) {
            self.tree
                .insert(pieces::receipt(device.number, slot, piece), part)?;
        }
        let index = pieces::receipt_by_digest(device.number, &receipt.digest);
        self.tree.insert(index, &receipt.seq.to_be_bytes()[..])?;
        Ok(())
    }

    fn put_event(&mut self, device: &DeviceRow, event: Event) -> Result<(), Abort> {
        let slot = pieces::slot(event.seq, self.header.events_max);
        self.tree
            .insert(pieces::event(device.number, slot), json(&event))?;
        Ok(())
    }

    fn put_tags(&mut self, device: &DeviceRow, bytes: &[u8]) -> Result<(), Abort> {
        self.insert_pieces(bytes, |piece| pieces::tags(device.number, piece))
    }

    fn put_rollout(&mut self, name: &RolloutId, bytes: &[u8]) -> Result<(), Abort> {
        self.insert_pieces(bytes, |piece| pieces::rollout(name, piece))
    }

    fn put_deployment(
        &mut self,
        rollout: &RolloutId,
        device: u32,
        bytes: &[u8],
    ) -> Result<(), Abort> {
        self.tree
            .insert(pieces::deployment(rollout, device), bytes)?;
        Ok(())
    }

    fn record_version(&mut self, kind: &Kind, key: &Key) -> Result<Option<u64>, Abort> {
        Ok(self.record_head(kind, key)?.map(|(version, _)| version))
    }

    fn put_record(
        &mut self,
        kind: &Kind,
        name: &Key,
        bytes: Option<&[u8]>,
    ) -> Result<Option<u64>, Abort> {
        let key = |piece| pieces::record_piece(kind, name, piece);
        let before = self.record_head(kind, name)?;
        let pieces_before = before.map_or(0, |(_, len)| pieces::record_pieces(len));
        let (mut pieces_now, mut version) = (0, None);
        if let Some(bytes) = bytes {
            self.header.record_versions = self.header.record_versions.saturating_add(1);
            version = Some(self.header.record_versions);
            let whole = pieces::encode_record(self.header.record_versions, bytes);
            for (piece, part) in pieces::cut(&whole) {
                self.tree.insert(key(piece), part)?;
            }
            pieces_now = pieces::record_pieces(bytes.len());
        }
        // Nothing of a longer old one stays behind.
        for piece in pieces_now..pieces_before {
            self.tree.remove(key(piece))?;
        }
        Ok(version)
    }
}
