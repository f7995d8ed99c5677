//! The way in: the file is found whole before anything is written.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _, Seek as _};

use ampoule_protocol::digest::{Digest, Hasher};

use data_encoding::HEXLOWER;

use super::{DeviceLine, FORMAT, Head, Line, Moved, ReceiptLine, TransferError, bad, name_of};
use crate::store::records::{Expected, Key, Kind, RecordWrite};
use crate::store::{Store, StoreError, StoredReceipt, WholeDevice, Write, Written};

/// Bytes of one line: a device with as many receipts as may be kept.
const LINE_LEN_MAX: u64 = 1 << 30;
/// Writes of one group while importing.
const GROUP_LEN: usize = 256;
/// Bytes of one group while importing.
const GROUP_BYTES: usize = 8 << 20;

/// Puts the fleet of `file` into an empty store.
///
/// # Errors
/// The file is not whole, the store is not empty or has other sizes, or the store failed.
pub fn import(store: &dyn Store, mut file: File) -> Result<Moved, TransferError> {
    let head = verify(&mut file)?;
    let found = store.capacity()?;
    if found != head.capacity {
        let expected = head.capacity;
        return Err(TransferError::Capacity { found, expected });
    }
    let empty = store.devices()?.is_empty()
        && store.rollouts()?.is_empty()
        && store.record_kinds()?.is_empty();
    if !empty {
        return Err(TransferError::NotEmpty);
    }
    mark(store, Expected::Absent, Some(b"begun"))?;
    let mut moved = Moved::default();
    let mut group = Group::default();
    each_line(&mut file, |number, line| {
        if number > 1 {
            match parse(number, line)? {
                Line::End { .. } => {}
                line => group.add(store, line, &mut moved, number)?,
            }
        }
        Ok(())
    })?;
    group.commit(store)?;
    mark(store, Expected::Any, None)?;
    Ok(moved)
}

/// Says in the store that it is being imported, or no more.
fn mark(store: &dyn Store, expected: Expected, bytes: Option<&[u8]>) -> Result<(), StoreError> {
    let (kind, key) = mark_name();
    let write = Write::Records(vec![RecordWrite {
        kind,
        key,
        expected,
        bytes: bytes.map(<[u8]>::to_vec),
    }]);
    store.commit(&[write]).map(drop)
}

fn mark_name() -> (Kind, Key) {
    let kind = Kind::parse("server").expect("six small letters");
    let key = Key::parse("import").expect("a short text");
    (kind, key)
}

/// Whether an import ended before its end.
///
/// # Errors
/// The store cannot be read.
pub fn is_partial(store: &dyn Store) -> Result<bool, StoreError> {
    let (kind, key) = mark_name();
    Ok(store.record(&kind, &key)?.is_some())
}

#[derive(Default)]
struct Group {
    writes: Vec<Write>,
    bytes: usize,
}

impl Group {
    fn add(
        &mut self,
        store: &dyn Store,
        line: Line,
        moved: &mut Moved,
        number: u64,
    ) -> Result<(), TransferError> {
        let bytes =
            |text: &str| unhex(text).ok_or_else(|| bad(number, "bytes are not hexadecimal"));
        let (write, len) = match line {
            Line::Rollout(text) => {
                moved.rollouts += 1;
                let bytes = bytes(&text)?;
                let name = name_of(&bytes).map_err(|error| bad(number, &error.to_string()))?;
                (Write::Rollout { name, bytes }, text.len())
            }
            Line::Deployment {
                rollout,
                device,
                bytes: text,
            } => {
                let bytes = bytes(&text)?;
                let write = Write::Deployment {
                    rollout,
                    device,
                    bytes,
                };
                (write, text.len())
            }
            Line::Record {
                kind,
                key,
                bytes: text,
            } => {
                moved.records += 1;
                let write = Write::Records(vec![RecordWrite {
                    kind,
                    key,
                    expected: Expected::Absent,
                    bytes: Some(bytes(&text)?),
                }]);
                write.check()?;
                (write, text.len())
            }
            Line::Device(device) => {
                let whole = whole(*device, number)?;
                moved.devices += 1;
                moved.receipts += whole.receipts.len() as u64;
                let len = whole.receipts.iter().map(|receipt| receipt.bytes.len());
                let len = len.sum();
                (Write::Restore(Box::new(whole)), len)
            }
            Line::End { .. } => return Err(bad(number, "it ends twice")),
        };
        self.writes.push(write);
        self.bytes += len;
        if self.writes.len() >= GROUP_LEN || self.bytes >= GROUP_BYTES {
            self.commit(store)?;
        }
        Ok(())
    }

    fn commit(&mut self, store: &dyn Store) -> Result<(), TransferError> {
        for written in store.commit(&self.writes)? {
            if let Written::Conflict { .. } = written {
                return Err(TransferError::NotEmpty);
            }
        }
        self.writes.clear();
        self.bytes = 0;
        Ok(())
    }
}

fn whole(line: DeviceLine, number: u64) -> Result<WholeDevice, TransferError> {
    let bytes = |text: String| unhex(&text).ok_or_else(|| bad(number, "bytes are not hexadecimal"));
    let receipt = |line: ReceiptLine| {
        let bytes = bytes(line.bytes)?;
        Ok(StoredReceipt {
            seq: line.seq,
            at: line.at,
            digest: Digest::of(&bytes),
            bytes,
        })
    };
    let receipts: Result<Vec<_>, TransferError> = line.receipts.into_iter().map(receipt).collect();
    Ok(WholeDevice {
        row: line.row,
        inventory: line.inventory.map(bytes).transpose()?,
        tags: line.tags.map(bytes).transpose()?,
        receipts: receipts?,
        events: line.events,
    })
}

/// Reads the file once, without writing anything: head, count and digest must be right.
fn verify(file: &mut File) -> Result<Head, TransferError> {
    let (mut hasher, mut head, mut ended) = (Hasher::new(), None, false);
    each_line(file, |number, line| {
        if ended {
            return Err(TransferError::Altered("something follows its end"));
        }
        if number == 1 {
            let found: Head =
                serde_json::from_slice(line).map_err(|error| bad(1, &error.to_string()))?;
            if found.ampoule_fleet != FORMAT {
                return Err(bad(1, "its version is not 1"));
            }
            head = Some(found);
        }
        if line.starts_with(b"{\"end\":") {
            let Line::End { lines, sha256 } = parse(number, line)? else {
                return Err(bad(number, "it is no end"));
            };
            if lines != number - 1 || sha256 != hasher.clone().finish() {
                return Err(TransferError::Altered("its digest is another one"));
            }
            ended = true;
        }
        hasher.update(line);
        Ok(())
    })?;
    match head {
        Some(head) if ended => Ok(head),
        _ => Err(TransferError::Altered("it has no end")),
    }
}

/// Calls `take` with each line, its end included, and its number, from 1.
fn each_line(
    file: &mut File,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), TransferError>,
) -> Result<(), TransferError> {
    file.rewind()?;
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        (&mut reader)
            .take(LINE_LEN_MAX)
            .read_until(b'\n', &mut line)?;
        if line.is_empty() {
            break;
        }
        if line.last() != Some(&b'\n') {
            return Err(TransferError::Altered("its last line is torn"));
        }
        take(number, &line)?;
    }
    Ok(())
}

fn parse(number: u64, line: &[u8]) -> Result<Line, TransferError> {
    serde_json::from_slice(line).map_err(|error| bad(number, &error.to_string()))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    HEXLOWER.decode(text.as_bytes()).ok()
}
