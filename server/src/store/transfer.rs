//! A whole fleet in one file: for another engine, for a backup, for a drill.
//!
//! ```text
//!   {"ampoule_fleet":1,"at":…,"capacity":{…}}     the head
//!   {"rollout":…} {"deployment":…} {"record":…}   what was decided
//!   {"device":…}                                  in the order of numbers, each with all of its own
//!   {"end":{"lines":…,"sha256":"…"}}              over every byte before this line
//! ```
//!
//! Lines of JSON, bytes in hexadecimal digits. Memory is bounded by the largest device. What is
//! exported from a running server is whole for each device; rollouts are read first, so that an
//! answer which comes meanwhile is heard again after the import, as after a crash.
//!
//! Nothing is written before the digest of the file was found right, and a store that was
//! imported only in part says so until it is moved away.

mod import;

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use ampoule_protocol::digest::{Digest, Hasher};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::records::{Key, Kind};
use super::{Capacity, DeviceRow, Event, Store, StoreError, StoredReceipt};
use crate::rollout::{Rollout, RolloutId};
pub use import::{import, is_partial};

/// The only version so far.
const FORMAT: u32 = 1;
/// Looks at one device that changes all the time.
const LOOKS_MAX: usize = 100;
/// Records of one page.
const PAGE_LEN: usize = 256;

/// What was moved.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Devices.
    pub devices: u64,
    /// Receipts.
    pub receipts: u64,
    /// Rollouts.
    pub rollouts: u64,
    /// Named records.
    pub records: u64,
}

/// Why a fleet was not moved.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file.
    #[error("the export cannot be read or written")]
    File(#[from] std::io::Error),
    /// The file is not what an export writes.
    #[error("line {line} of the export is not what an export writes: {what}")]
    Line {
        /// From 1.
        line: u64,
        /// What was found.
        what: String,
    },
    /// The file is cut short or was altered.
    #[error("the export is cut short or was altered: {0}")]
    Altered(&'static str),
    /// There is a fleet in the store already.
    #[error("the store is not empty; a fleet is imported into an empty one")]
    NotEmpty,
    /// The store was begun with other sizes.
    #[error(
        "the store keeps {} receipts and {} events of a device, the export {} and {}",
        found.receipts_max, found.events_max, expected.receipts_max, expected.events_max
    )]
    Capacity {
        /// The store's.
        found: Capacity,
        /// The export's.
        expected: Capacity,
    },
    /// A device changed while it was read, again and again.
    #[error("device {0:?} changes faster than it can be read")]
    Restless(String),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    Rollout(String),
    Deployment {
        rollout: RolloutId,
        device: u32,
        bytes: String,
    },
    Record {
        kind: Kind,
        key: Key,
        bytes: String,
    },
    Device(Box<DeviceLine>),
    End {
        lines: u64,
        sha256: Digest,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    ampoule_fleet: u32,
    at: i64,
    capacity: Capacity,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceLine {
    row: DeviceRow,
    inventory: Option<String>,
    tags: Option<String>,
    receipts: Vec<ReceiptLine>,
    events: Vec<Event>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReceiptLine {
    seq: u64,
    at: i64,
    bytes: String,
}

/// Writes lines, and counts and digests them.
struct Output {
    file: BufWriter<File>,
    hasher: Hasher,
    lines: u64,
}

impl Output {
    fn line(&mut self, line: &impl Serialize) -> Result<(), TransferError> {
        let mut text = serde_json::to_vec(line).map_err(std::io::Error::from)?;
        text.push(b'\n');
        self.hasher.update(&text);
        self.lines += 1;
        Ok(self.file.write_all(&text)?)
    }
}

/// Writes the fleet to `file`, which is durable when this returns.
///
/// # Errors
/// The store or the disk failed.
pub fn export(store: &dyn Store, file: File, now: i64) -> Result<Moved, TransferError> {
    let mut output = Output {
        file: BufWriter::new(file),
        hasher: Hasher::new(),
        lines: 0,
    };
    output.line(&Head {
        ampoule_fleet: FORMAT,
        at: now,
        capacity: store.capacity()?,
    })?;
    let mut moved = Moved::default();
    export_rollouts(store, &mut output, &mut moved)?;
    export_records(store, &mut output, &mut moved)?;
    let mut rows = store.devices()?;
    rows.sort_by_key(|row| row.number);
    for row in rows {
        let line = settled(store, row)?;
        moved.devices += 1;
        moved.receipts += line.receipts.len() as u64;
        output.line(&Line::Device(Box::new(line)))?;
    }
    let (lines, digest) = (output.lines, output.hasher.clone().finish());
    output.line(&Line::End {
        lines,
        sha256: digest,
    })?;
    let file = output
        .file
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(moved)
}

fn export_rollouts(
    store: &dyn Store,
    output: &mut Output,
    moved: &mut Moved,
) -> Result<(), TransferError> {
    let mut rollouts = store.rollouts()?;
    rollouts.sort();
    for bytes in rollouts {
        output.line(&Line::Rollout(hex(&bytes)))?;
        moved.rollouts += 1;
        let name = name_of(&bytes)?;
        for (device, bytes) in store.deployments(&name)? {
            output.line(&Line::Deployment {
                rollout: name.clone(),
                device,
                bytes: hex(&bytes),
            })?;
        }
    }
    Ok(())
}

fn name_of(rollout: &[u8]) -> Result<RolloutId, StoreError> {
    let damaged = |error| StoreError::Damaged(format!("a rollout cannot be read: {error}"));
    let rollout: Rollout = serde_json::from_slice(rollout).map_err(damaged)?;
    Ok(rollout.plan.name)
}

fn export_records(
    store: &dyn Store,
    output: &mut Output,
    moved: &mut Moved,
) -> Result<(), TransferError> {
    for kind in store.record_kinds()? {
        let mut after = None;
        loop {
            let page = store.records(&kind, after.as_ref(), PAGE_LEN)?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            for record in page {
                moved.records += 1;
                output.line(&Line::Record {
                    kind: kind.clone(),
                    key: record.key,
                    bytes: hex(&record.bytes),
                })?;
            }
        }
    }
    Ok(())
}

/// All of a device, as it was at one moment: its row is the same before and after.
fn settled(store: &dyn Store, mut row: DeviceRow) -> Result<DeviceLine, TransferError> {
    for _ in 0..LOOKS_MAX {
        let read = || -> Result<_, StoreError> {
            let receipt = |one: StoredReceipt| ReceiptLine {
                seq: one.seq,
                at: one.at,
                bytes: hex(&one.bytes),
            };
            let receipts = store.receipts(&row)?.into_iter().map(receipt).collect();
            let inventory = store.inventory(&row)?.as_deref().map(hex);
            let tags = store.tags(&row)?.as_deref().map(hex);
            Ok((receipts, inventory, tags, store.events(&row)?))
        };
        let read = read();
        let now = store.some_devices(&[row.number])?;
        let Some(now) = now.into_iter().next() else {
            break;
        };
        if now == row {
            let (receipts, inventory, tags, events) = read?;
            return Ok(DeviceLine {
                row,
                inventory,
                tags,
                receipts,
                events,
            });
        }
        // What was read may miss receipts that gave way meanwhile; read it again.
        row = now;
    }
    Err(TransferError::Restless(row.device.to_string()))
}

fn bad(line: u64, what: &str) -> TransferError {
    TransferError::Line {
        line,
        what: what.to_owned(),
    }
}

/// Opens a new file for an export, and an existing one for nobody.
///
/// # Errors
/// The file exists, or cannot be made.
pub fn create(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}
