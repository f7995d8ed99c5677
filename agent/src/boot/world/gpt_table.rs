//! The two copies of a GUID partition table (UEFI 2.10, section 5.3), as far as attributes go.
//!
//! ```text
//!   LBA 0   1         2 …              …                 -33 …           -1
//!   MBR     header    entries          partitions        entries         header
//!           └─ primary ─┘                                └── backup ──────┘
//! ```
//!
//! A header has a CRC-32 over itself and one over its entries, so a copy is whole or it is not.
//! Loaders take the primary while it is whole, then the backup.
//!
//! Order of the writes: first the copy that does not count, sync, then the one that does. With
//! both whole that is the backup, then the primary: a cut in the first leaves the primary as it
//! was, a cut in the second leaves a backup that is new and whole. With a damaged primary the
//! backup counts, so the primary comes first: the rule "backup first" would overwrite the only
//! whole copy. Only sectors that differ are written.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::WorldError;
use crate::ports::{Access, Storage, StoredFile};

const SIGNATURE: &[u8] = b"EFI PART";
/// Sector sizes that disks have.
const SECTORS: [usize; 2] = [512, 4096];
/// Where things stand in a header.
const HEADER_LEN_AT: usize = 12;
const HEADER_CRC_AT: usize = 16;
const OWN_LBA_AT: usize = 24;
const OTHER_LBA_AT: usize = 32;
const FIRST_USABLE_AT: usize = 40;
const LAST_USABLE_AT: usize = 48;
const ENTRIES_LBA_AT: usize = 72;
const ENTRIES_COUNT_AT: usize = 80;
const ENTRY_LEN_AT: usize = 84;
const ENTRIES_CRC_AT: usize = 88;
const HEADER_LEN_MIN: usize = 92;
/// Bytes of all entries that are read at most; 128 entries of 128 bytes are usual.
const ENTRIES_LEN_MAX: usize = 1 << 20;
/// Where the attributes stand in an entry.
const ATTRIBUTES_AT: usize = 48;
/// Where the entries of a primary table begin.
const PRIMARY_ENTRIES_LBA: u64 = 2;

/// One copy of a table, as it stands on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Copy {
    /// One sector.
    header: Vec<u8>,
    /// Exactly what the CRC is over.
    entries: Vec<u8>,
}

/// Partition attributes of one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    sector: usize,
    primary: Option<Copy>,
    backup: Option<Copy>,
    /// Those of the copy that counts, with what was changed.
    entries: Vec<u8>,
}

fn number32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn number64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn put(bytes: &mut [u8], at: usize, number: &[u8]) {
    bytes[at..at + number.len()].copy_from_slice(number);
}

impl Copy {
    /// Reads and checks the copy whose header stands at `lba`; `None` where it is not whole.
    fn read(file: &dyn StoredFile, sector: usize, lba: u64) -> Option<Self> {
        let mut header = vec![0; sector];
        file.read_exact_at(&mut header, lba.checked_mul(sector as u64)?)
            .ok()?;
        let len = usize::try_from(number32(&header, HEADER_LEN_AT)?).ok()?;
        let is_header = header.starts_with(SIGNATURE)
            && (HEADER_LEN_MIN..=sector).contains(&len)
            && number32(&header, HEADER_CRC_AT) == Some(header_crc(&header[..len]))
            && number64(&header, OWN_LBA_AT) == Some(lba);
        if !is_header {
            return None;
        }
        let count = usize::try_from(number32(&header, ENTRIES_COUNT_AT)?).ok()?;
        let entry_len = usize::try_from(number32(&header, ENTRY_LEN_AT)?).ok()?;
        let entries_len = count.checked_mul(entry_len)?;
        if entry_len < ATTRIBUTES_AT + 8 || entries_len > ENTRIES_LEN_MAX {
            return None;
        }
        let mut entries = vec![0; entries_len];
        let start = number64(&header, ENTRIES_LBA_AT)?.checked_mul(sector as u64)?;
        file.read_exact_at(&mut entries, start).ok()?;
        let crc = number32(&header, ENTRIES_CRC_AT)?;
        (crc == crc32fast::hash(&entries)).then_some(Self { header, entries })
    }

    fn field(&self, at: usize) -> u64 {
        number64(&self.header, at).unwrap_or(0)
    }

    /// The same place with other entries.
    fn with_entries(&self, entries: &[u8]) -> Self {
        let mut header = self.header.clone();
        put(
            &mut header,
            ENTRIES_CRC_AT,
            &crc32fast::hash(entries).to_le_bytes(),
        );
        seal(&mut header);
        Self {
            header,
            entries: entries.to_vec(),
        }
    }

    /// The other copy of the table that this is one of.
    fn twin(&self, entries_lba: u64) -> Self {
        let mut header = self.header.clone();
        put(
            &mut header,
            OWN_LBA_AT,
            &self.field(OTHER_LBA_AT).to_le_bytes(),
        );
        put(
            &mut header,
            OTHER_LBA_AT,
            &self.field(OWN_LBA_AT).to_le_bytes(),
        );
        put(&mut header, ENTRIES_LBA_AT, &entries_lba.to_le_bytes());
        seal(&mut header);
        Self {
            header,
            entries: self.entries.clone(),
        }
    }

    fn write(&self, file: &mut dyn StoredFile, sector: usize) -> io::Result<()> {
        write_changed(file, sector, self.field(ENTRIES_LBA_AT), &self.entries)?;
        write_changed(file, sector, self.field(OWN_LBA_AT), &self.header)?;
        file.sync()
    }
}

/// The CRC of a header, with zeros where it stands itself.
fn header_crc(header: &[u8]) -> u32 {
    let mut header = header.to_vec();
    put(&mut header, HEADER_CRC_AT, &[0; 4]);
    crc32fast::hash(&header)
}

fn seal(header: &mut [u8]) {
    let len = number32(header, HEADER_LEN_AT).unwrap_or(0) as usize;
    let crc = header_crc(&header[..len]);
    put(header, HEADER_CRC_AT, &crc.to_le_bytes());
}

/// Writes the run of sectors from the first to the last that differs.
fn write_changed(
    file: &mut dyn StoredFile,
    sector: usize,
    lba: u64,
    bytes: &[u8],
) -> io::Result<()> {
    let start = lba
        .checked_mul(sector as u64)
        .ok_or(io::ErrorKind::InvalidInput)?;
    let mut old = vec![0; bytes.len()];
    file.read_exact_at(&mut old, start)?;
    let differs = |(old, new): (&[u8], &[u8])| old != new;
    let is_changed: Vec<bool> = old
        .chunks(sector)
        .zip(bytes.chunks(sector))
        .map(differs)
        .collect();
    let first = is_changed.iter().position(|changed| *changed);
    let last = is_changed.iter().rposition(|changed| *changed);
    if let (Some(first), Some(last)) = (first, last) {
        let (from, to) = (first * sector, ((last + 1) * sector).min(bytes.len()));
        file.write_at(&bytes[from..to], start + from as u64)?;
    }
    Ok(())
}

impl Table {
    fn read(file: &dyn StoredFile) -> io::Result<Option<Self>> {
        let len = file.len()?;
        for sector in SECTORS {
            let primary = Copy::read(file, sector, 1);
            let last = (len / sector as u64).saturating_sub(1);
            let backup_lba = primary
                .as_ref()
                .map_or(last, |copy| copy.field(OTHER_LBA_AT));
            let backup = Copy::read(file, sector, backup_lba);
            if let Some(copy) = primary.as_ref().or(backup.as_ref()) {
                let entries = copy.entries.clone();
                return Ok(Some(Self {
                    sector,
                    primary,
                    backup,
                    entries,
                }));
            }
        }
        Ok(None)
    }

    fn entry_len(&self) -> usize {
        let copy = self.primary.as_ref().or(self.backup.as_ref());
        let len = copy.and_then(|copy| number32(&copy.header, ENTRY_LEN_AT));
        usize::try_from(len.unwrap_or(0)).unwrap_or(0)
    }

    fn attributes_at(&self, partition: u32) -> Option<usize> {
        let index = usize::try_from(partition.checked_sub(1)?).ok()?;
        let at = index.checked_mul(self.entry_len())?;
        let kind = self.entries.get(at..at + 16)?;
        // A kind of zeros: there is no such partition.
        kind.iter()
            .any(|byte| *byte != 0)
            .then_some(at + ATTRIBUTES_AT)
    }

    /// The attributes of a partition, counted from 1; `None` where there is none.
    pub(super) fn attributes(&self, partition: u32) -> Option<u64> {
        number64(&self.entries, self.attributes_at(partition)?)
    }

    /// Changes attributes; nothing is written yet.
    pub(super) fn set_attributes(&mut self, partition: u32, attributes: u64) {
        if let Some(at) = self.attributes_at(partition) {
            put(&mut self.entries, at, &attributes.to_le_bytes());
        }
    }

    fn is_settled(&self) -> bool {
        let same = |copy: &Option<Copy>| {
            copy.as_ref()
                .is_some_and(|copy| copy.entries == self.entries)
        };
        same(&self.primary) && same(&self.backup)
    }

    fn write(&self, file: &mut dyn StoredFile) -> io::Result<()> {
        let (sector, entries) = (self.sector, &self.entries);
        let len = entries.len().div_ceil(sector) as u64;
        match (&self.primary, &self.backup) {
            (Some(primary), backup) => {
                let end = primary.field(OTHER_LBA_AT);
                let backup = match backup {
                    Some(backup) => backup.clone(),
                    None => primary.twin(end.saturating_sub(len)),
                };
                let is_free = backup.field(ENTRIES_LBA_AT) > primary.field(LAST_USABLE_AT);
                if end.saturating_mul(sector as u64) >= file.len()? || !is_free {
                    return Err(io::Error::other(
                        "the backup table is not behind the partitions",
                    ));
                }
                backup.with_entries(entries).write(file, sector)?;
                primary.with_entries(entries).write(file, sector)
            }
            (None, Some(backup)) => {
                let primary = backup.twin(PRIMARY_ENTRIES_LBA);
                if PRIMARY_ENTRIES_LBA + len > primary.field(FIRST_USABLE_AT) {
                    return Err(io::Error::other("the table is not before the partitions"));
                }
                primary.with_entries(entries).write(file, sector)?;
                backup.with_entries(entries).write(file, sector)
            }
            (None, None) => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// The disk of a table.
pub(super) struct TableStore {
    storage: Rc<dyn Storage>,
    path: PathBuf,
}

impl TableStore {
    pub(super) fn new(storage: Rc<dyn Storage>, path: PathBuf) -> Self {
        Self { storage, path }
    }

    /// For errors.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn read(&self) -> Result<Table, WorldError> {
        let io = || WorldError::io("read", &self.path);
        let file = self.storage.open(&self.path, Access::Read).map_err(io())?;
        let table = Table::read(file.as_ref()).map_err(io())?;
        let what = "have no whole GUID partition table";
        table.ok_or_else(|| WorldError::malformed(&self.path, what))
    }

    /// Changes attributes, and writes a copy that is damaged or behind.
    pub(super) fn edit(&self, change: impl FnOnce(&mut Table)) -> Result<(), WorldError> {
        let mut table = self.read()?;
        change(&mut table);
        if table.is_settled() {
            return Ok(());
        }
        let io = || WorldError::io("write", &self.path);
        let mut file = self.storage.open(&self.path, Access::Write).map_err(io())?;
        table.write(file.as_mut()).map_err(io())
    }
}
