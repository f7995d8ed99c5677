//! The journal: what was acknowledged and is not in the tree yet.
//!
//! ```text
//!   journal-0, journal-1     written in turn: one takes records while the other goes to the tree
//!   record                   "AMPJ" | number, 8 | length, 4 | SHA-256/2, 16 | entries | zeros
//!   entry                    key length, 2 | value length, 4 | key | value
//! ```
//!
//! A record is one group and begins a block, so that no block which holds something acknowledged is
//! ever written again before the tree has it. The digest is over number, length and entries. Records
//! are numbered without gaps across both files: what an earlier round left behind the last one has a
//! lower number and ends the reading, as does a torn record. A value length of all ones removes.
//!
//! Files grow by [`GROWN_LEN`] zeros at a time and are written over afterwards: a sync that changes
//! no length has no journal of the file system to wait for.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ampoule_protocol::digest::Hasher;
use sled::IVec;

use super::layers::Layer;

/// Bytes after which a file gives way to the other one. Some 200,000 check-ins.
pub(super) const JOURNAL_LEN_MAX: u64 = 64 << 20;

const NAMES: [&str; 2] = ["journal-0", "journal-1"];
const MAGIC: &[u8; 4] = b"AMPJ";
const HEAD_LEN: usize = 4 + 8 + 4 + CHECK_LEN;
const CHECK_LEN: usize = 16;
/// Blocks as disks write them whole.
const BLOCK_LEN: u64 = 4096;
/// Zeros that are written ahead.
const GROWN_LEN: u64 = 1 << 20;
/// No group is longer: 65,536 writes of a whole receipt would not fit, and the configuration allows
/// fewer. Stops a length that was made up.
const RECORD_LEN_MAX: usize = 1 << 30;
/// Journals that were set aside, each of them evidence that nobody has looked at.
const ASIDE_MAX: u32 = 10_000;
/// Instead of a length: there is no value any more.
const REMOVED: u32 = u32::MAX;

/// Makes what was written to a journal durable; a seam, so that a test can hold it back.
pub trait LogSync: Send + Sync {
    /// Returns when the disk has it.
    ///
    /// # Errors
    /// The system's answer.
    fn sync(&self, journal: &File) -> io::Result<()>;
}

/// By the system's own call.
pub(super) struct ToDisk;

impl LogSync for ToDisk {
    fn sync(&self, journal: &File) -> io::Result<()> {
        journal.sync_data()
    }
}

/// Both files, open.
pub(super) struct Journal {
    files: [File; 2],
    /// The one that takes records.
    writes_to: usize,
    at: u64,
    /// How long each file is.
    lengths: [u64; 2],
    sync: Box<dyn LogSync>,
}

/// What was found in the files.
pub(super) struct Found {
    /// Groups that follow on what the tree has.
    pub(super) layer: Layer,
    /// There are groups behind a gap.
    pub(super) has_gap: bool,
}

impl Journal {
    /// Opens or begins the files in `folder`, to be written from the start.
    pub(super) fn open(folder: &Path, sync: Box<dyn LogSync>) -> io::Result<Self> {
        let open = |name: &str| {
            let mut options = OpenOptions::new();
            options.create(true).truncate(false).read(true).write(true);
            options.open(folder.join(name))
        };
        let files = [open(NAMES[0])?, open(NAMES[1])?];
        File::open(folder)?.sync_all()?;
        let lengths = [files[0].metadata()?.len(), files[1].metadata()?.len()];
        Ok(Self {
            files,
            writes_to: 0,
            at: 0,
            lengths,
            sync,
        })
    }

    /// The groups after the `commits`th, as one layer.
    pub(super) fn read(&self, commits: u64) -> io::Result<Found> {
        let mut rounds = Vec::new();
        for file in &self.files {
            rounds.push(Round::read(file)?);
        }
        rounds.sort_by_key(|round| round.first);
        let mut found = Found {
            layer: Layer::new(),
            has_gap: false,
        };
        let mut last = commits;
        for record in rounds.iter().flat_map(|round| &round.records) {
            if record.number <= last {
                continue;
            }
            if record.number != last + 1 {
                found.has_gap = true;
                break;
            }
            found.layer.extend(record.entries());
            last = record.number;
        }
        Ok(found)
    }

    /// Writes a group and waits for the disk.
    pub(super) fn append(&mut self, number: u64, puts: &Layer) -> io::Result<()> {
        let record = encode(number, puts)?;
        let (file, len) = (&self.files[self.writes_to], record.len() as u64);
        let end = self.at + len;
        let length = &mut self.lengths[self.writes_to];
        if end > *length {
            let grown = end.next_multiple_of(GROWN_LEN);
            let zeros = vec![0; usize::try_from(grown - end).unwrap_or(0)];
            file.write_all_at(&zeros, end)?;
            *length = grown;
        }
        file.write_all_at(&record, self.at)?;
        self.sync.sync(file)?;
        self.at = end;
        Ok(())
    }

    /// Bytes of this round.
    pub(super) fn len(&self) -> u64 {
        self.at
    }

    /// Begins a round in the other file. The tree must have what that one holds.
    pub(super) fn turn(&mut self) {
        self.writes_to = 1 - self.writes_to;
        self.at = 0;
    }

    /// The way to sync, for the files that take the place of these.
    pub(super) fn into_sync(self) -> Box<dyn LogSync> {
        self.sync
    }

    /// Renames the files, which are evidence, to the first free `journal-N.unread-M`.
    pub(super) fn set_aside(folder: &Path) -> io::Result<()> {
        let aside = |number: u32| -> [PathBuf; 2] {
            NAMES.map(|name| folder.join(format!("{name}.unread-{number}")))
        };
        let is_free = |paths: &[PathBuf; 2]| !paths.iter().any(|path| path.exists());
        let free = (1..=ASIDE_MAX).map(aside).find(is_free);
        let free = free.ok_or_else(|| io::Error::other("too many journals were set aside"))?;
        for (name, aside) in NAMES.iter().zip(&free) {
            std::fs::rename(folder.join(name), aside)?;
        }
        File::open(folder)?.sync_all()
    }
}

/// What one file holds of its last round.
struct Round {
    first: u64,
    records: Vec<Record>,
}

struct Record {
    number: u64,
    entries: Vec<u8>,
}

impl Round {
    fn read(file: &File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let (mut at, mut records) = (0, Vec::<Record>::new());
        while let Some(record) = Record::read(file, at, length)? {
            if records
                .last()
                .is_some_and(|last| last.number + 1 != record.number)
            {
                break;
            }
            at += (HEAD_LEN as u64 + record.entries.len() as u64).next_multiple_of(BLOCK_LEN);
            records.push(record);
        }
        Ok(Self {
            first: records.first().map_or(0, |record| record.number),
            records,
        })
    }
}

impl Record {
    /// `None` where there is none, or a torn one.
    fn read(file: &File, at: u64, length: u64) -> io::Result<Option<Self>> {
        let mut head = [0; HEAD_LEN];
        if at + HEAD_LEN as u64 > length {
            return Ok(None);
        }
        file.read_exact_at(&mut head, at)?;
        let Some((number, len, check)) = parse_head(&head) else {
            return Ok(None);
        };
        if len > RECORD_LEN_MAX || at + (HEAD_LEN + len) as u64 > length {
            return Ok(None);
        }
        let mut entries = vec![0; len];
        file.read_exact_at(&mut entries, at + HEAD_LEN as u64)?;
        let is_whole = check_of(&head[4..16], &entries) == check;
        Ok(is_whole.then_some(Self { number, entries }))
    }

    /// They were written by us and not altered since.
    fn entries(&self) -> impl Iterator<Item = (IVec, Option<IVec>)> {
        let mut rest = &self.entries[..];
        std::iter::from_fn(move || {
            let (key_len, after) = rest.split_first_chunk::<2>()?;
            let (value_len, after) = after.split_first_chunk::<4>()?;
            let (key, after) = after.split_at_checked(u16::from_be_bytes(*key_len).into())?;
            let value_len = u32::from_be_bytes(*value_len);
            if value_len == REMOVED {
                rest = after;
                return Some((key.into(), None));
            }
            let (value, after) = after.split_at_checked(value_len as usize)?;
            rest = after;
            Some((key.into(), Some(value.into())))
        })
    }
}

fn parse_head(head: &[u8; HEAD_LEN]) -> Option<(u64, usize, [u8; CHECK_LEN])> {
    let rest = head.strip_prefix(MAGIC)?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
    Some((u64::from_be_bytes(*number), len, rest.try_into().ok()?))
}

fn check_of(number_and_len: &[u8], entries: &[u8]) -> [u8; CHECK_LEN] {
    let mut hasher = Hasher::new();
    hasher.update(number_and_len);
    hasher.update(entries);
    let mut check = [0; CHECK_LEN];
    check.copy_from_slice(&hasher.finish().as_bytes()[..CHECK_LEN]);
    check
}

/// A record and the zeros that fill its last block.
fn encode(number: u64, puts: &Layer) -> io::Result<Vec<u8>> {
    let mut record = vec![0; HEAD_LEN];
    for (key, value) in puts {
        let too_long = |_| io::Error::other("a key or a value is too long for the journal");
        let key_len = u16::try_from(key.len()).map_err(too_long)?;
        let value_len = match value {
            Some(value) => u32::try_from(value.len()).map_err(too_long)?,
            None => REMOVED,
        };
        record.extend_from_slice(&key_len.to_be_bytes());
        record.extend_from_slice(&value_len.to_be_bytes());
        record.extend_from_slice(key);
        record.extend_from_slice(value.as_deref().unwrap_or_default());
    }
    let len = record.len() - HEAD_LEN;
    if len > RECORD_LEN_MAX {
        return Err(io::Error::other("a group is too long for the journal"));
    }
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    record[..4].copy_from_slice(MAGIC);
    record[4..12].copy_from_slice(&number.to_be_bytes());
    record[12..16].copy_from_slice(&len.to_be_bytes());
    let check = check_of(&record[4..16], &record[HEAD_LEN..]);
    record[16..HEAD_LEN].copy_from_slice(&check);
    let whole = record
        .len()
        .next_multiple_of(usize::try_from(BLOCK_LEN).unwrap_or(1));
    record.resize(whole, 0);
    Ok(record)
}
