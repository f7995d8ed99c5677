//! One group being applied: what it would put, above what is there.

use std::collections::HashMap;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::DeviceId;
use sled::IVec;

use super::layers::{Layer, Layered};
use crate::rollout::RolloutId;
use crate::store::apply::Rows;
use crate::store::pieces::{self, Header, json, read};
use crate::store::records::{Key, Kind};
use crate::store::rows::{decode_row, encode_event, encode_row};
use crate::store::{DeviceRow, Event, StoreError, StoredReceipt};

/// Nothing of it is seen by anybody else before the disk has it.
pub(super) struct Group<'a> {
    below: &'a Layered,
    numbers: &'a HashMap<DeviceId, u32>,
    header: Header,
    puts: Layer,
    /// Devices that got their number here.
    pub(super) new: HashMap<DeviceId, u32>,
}

impl<'a> Group<'a> {
    pub(super) fn begin(
        below: &'a Layered,
        numbers: &'a HashMap<DeviceId, u32>,
    ) -> Result<Self, StoreError> {
        let header = below
            .get(pieces::HEADER)?
            .ok_or_else(|| StoreError::Damaged("its header is missing".into()))?;
        let mut header: Header = read(&header)?;
        header.format = super::FORMAT;
        header.commits = header.commits.saturating_add(1);
        Ok(Self {
            below,
            numbers,
            header,
            puts: Layer::new(),
            new: HashMap::new(),
        })
    }

    /// Its number, what it puts, and the devices that are new.
    pub(super) fn end(mut self) -> (u64, Layer, HashMap<DeviceId, u32>) {
        let header = json(&self.header);
        self.put(pieces::HEADER, header);
        (self.header.commits, self.puts, self.new)
    }

    fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<IVec>, StoreError> {
        match self.puts.get(key.as_ref()) {
            Some(value) => Ok(value.clone()),
            None => self.below.get(key.as_ref()),
        }
    }

    fn put(&mut self, key: impl Into<IVec>, value: impl Into<IVec>) {
        self.puts.insert(key.into(), Some(value.into()));
    }

    fn remove(&mut self, key: impl Into<IVec>) {
        self.puts.insert(key.into(), None);
    }

    fn put_pieces(&mut self, bytes: &[u8], key: impl Fn(u16) -> Vec<u8>) {
        for (piece, part) in pieces::cut(&pieces::with_len(bytes)) {
            self.put(key(piece), part);
        }
    }

    /// The digest of a receipt that gives way must not be answered as known any more.
    fn forget_receipt_in(&mut self, row: &DeviceRow, slot: u32) -> Result<(), StoreError> {
        let Some(head) = self.get(pieces::receipt(row.number, slot, 0))? else {
            return Ok(());
        };
        let digest = head
            .get(16..48)
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        if let Some(digest) = digest {
            let digest = Digest::from_bytes(digest);
            self.remove(pieces::receipt_by_digest(row.number, &digest));
        }
        Ok(())
    }

    /// Version and length of a named record.
    fn record_head(&self, kind: &Kind, key: &Key) -> Result<Option<(u64, usize)>, StoreError> {
        let first = self.get(pieces::record_piece(kind, key, 0))?;
        Ok(first.as_deref().and_then(pieces::record_head))
    }
}

impl Rows for Group<'_> {
    type Error = StoreError;

    fn row(&mut self, device: &DeviceId) -> Result<Option<DeviceRow>, StoreError> {
        let number = self.new.get(device).or_else(|| self.numbers.get(device));
        let Some(number) = number else {
            return Ok(None);
        };
        let row = self.get(pieces::device(*number))?;
        row.map(|row| decode_row(&row)).transpose()
    }

    fn new_number(&mut self, device: &DeviceId) -> Result<u32, StoreError> {
        let number = self.header.devices;
        self.header.devices += 1;
        self.new.insert(device.clone(), number);
        Ok(number)
    }

    fn put_row(&mut self, row: &DeviceRow) -> Result<(), StoreError> {
        self.put(pieces::device(row.number), encode_row(row));
        Ok(())
    }

    fn put_inventory(&mut self, device: &DeviceRow, bytes: &[u8]) -> Result<(), StoreError> {
        self.put_pieces(bytes, |piece| pieces::inventory(device.number, piece));
        Ok(())
    }

    fn has_receipt(&mut self, device: &DeviceRow, digest: &Digest) -> Result<bool, StoreError> {
        let index = pieces::receipt_by_digest(device.number, digest);
        Ok(self.get(index)?.is_some())
    }

    fn put_receipt(
        &mut self,
        device: &DeviceRow,
        receipt: StoredReceipt,
    ) -> Result<(), StoreError> {
        let slot = pieces::slot(receipt.seq, self.header.receipts_max);
        self.forget_receipt_in(device, slot)?;
        for (piece, part) in pieces::cut(&pieces::encode_receipt(&receipt)) {
            self.put(pieces::receipt(device.number, slot, piece), part);
        }
        let index = pieces::receipt_by_digest(device.number, &receipt.digest);
        self.put(index, &receipt.seq.to_be_bytes()[..]);
        Ok(())
    }

    fn put_event(&mut self, device: &DeviceRow, event: Event) -> Result<(), StoreError> {
        let slot = pieces::slot(event.seq, self.header.events_max);
        self.put(pieces::event(device.number, slot), encode_event(&event));
        Ok(())
    }

    fn put_tags(&mut self, device: &DeviceRow, bytes: &[u8]) -> Result<(), StoreError> {
        self.put_pieces(bytes, |piece| pieces::tags(device.number, piece));
        Ok(())
    }

    fn put_rollout(&mut self, name: &RolloutId, bytes: &[u8]) -> Result<(), StoreError> {
        self.put_pieces(bytes, |piece| pieces::rollout(name, piece));
        Ok(())
    }

    fn put_deployment(
        &mut self,
        rollout: &RolloutId,
        device: u32,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        self.put(pieces::deployment(rollout, device), bytes);
        Ok(())
    }

    fn record_version(&mut self, kind: &Kind, key: &Key) -> Result<Option<u64>, StoreError> {
        Ok(self.record_head(kind, key)?.map(|(version, _)| version))
    }

    fn put_record(
        &mut self,
        kind: &Kind,
        name: &Key,
        bytes: Option<&[u8]>,
    ) -> Result<Option<u64>, StoreError> {
        let key = |piece| pieces::record_piece(kind, name, piece);
        let before = self.record_head(kind, name)?;
        let pieces_before = before.map_or(0, |(_, len)| pieces::record_pieces(len));
        let (mut pieces_now, mut version) = (0, None);
        if let Some(bytes) = bytes {
            self.header.record_versions = self.header.record_versions.saturating_add(1);
            version = Some(self.header.record_versions);
            let whole = pieces::encode_record(self.header.record_versions, bytes);
            for (piece, part) in pieces::cut(&whole) {
                self.put(key(piece), part);
            }
            pieces_now = pieces::record_pieces(bytes.len());
        }
        // Nothing of a longer old one stays behind.
        for piece in pieces_now..pieces_before {
            self.remove(key(piece));
        }
        Ok(version)
    }
}
