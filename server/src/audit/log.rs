//! The log that is written: entries go in, and are in a signed checkpoint when `append` returns.
//!
//! One append, in this order (compare `durable.WriteFile` of FiloSottile/sunlight):
//! ```text
//!   for each new tile or bundle   write beside; sync; rename
//!   for each folder of them       sync
//!   the checkpoint                write beside; sync; rename; sync the folder
//!   for each tile that is full    its partial ones are removed
//! ```
//!
//! Invariants:
//! - Everything that a checkpoint vouches for is on the disk before the checkpoint is.
//! - A file that a checkpoint vouches for never changes. What a cut left beyond the checkpoint
//!   belongs to nobody and is written over.
//! - After an operation that failed, nothing is appended until the log is opened again.

use std::collections::BTreeSet;

use super::AuditError;
use super::checkpoint::{Checkpoint, SIZE_MAX};
use super::medium::Medium;
use super::merkle::{self, Frontier, Hash, Subtrees as _};
use super::note::{NOTE_LEN_MAX, Signer, Verifier};
use super::tiles::{self, CHECKPOINT, ENTRY_LEN_MAX, Kind, LEVELS_MAX, Tiles, WIDTH};

/// The open log.
pub struct Log {
    medium: Box<dyn Medium>,
    signer: Signer,
    /// What the checkpoint says.
    frontier: Frontier,
    /// The signed note of it.
    note: String,
    /// Of each level, the hashes of the tile that is not full.
    levels: Vec<Vec<Hash>>,
    /// The entries of the bundle that is not full.
    bundle: Vec<u8>,
    folders: BTreeSet<String>,
    broken: bool,
}

impl Log {
    /// Opens the log in `medium`, or begins one where nothing is.
    ///
    /// # Errors
    /// What is there is not signed by this key, or does not hang together, or the disk failed.
    pub fn open(mut medium: Box<dyn Medium>, signer: Signer) -> Result<Self, AuditError> {
        medium.turn().map_err(failed("lock", CHECKPOINT))?;
        let note = medium
            .read(CHECKPOINT, NOTE_LEN_MAX)
            .map_err(failed("read", CHECKPOINT))?;
        let mut log = Self {
            medium,
            signer,
            frontier: Frontier::default(),
            note: String::new(),
            levels: vec![Vec::new(); LEVELS_MAX as usize],
            bundle: Vec::new(),
            folders: BTreeSet::from([String::new()]),
            broken: false,
        };
        match note {
            Some(note) => log.go_on(&note)?,
            None => log.begin()?,
        }
        log.medium.release();
        Ok(log)
    }

    fn begin(&mut self) -> Result<(), AuditError> {
        // The first checkpoint comes before any tile: tiles without one are a log that lost it.
        if self.medium.exists("tile").map_err(failed("read", "tile"))? {
            return Err(AuditError::Missing(CHECKPOINT.to_owned()));
        }
        self.vouch()
    }

    /// Takes up where the checkpoint left off.
    pub(super) fn go_on(&mut self, note: &[u8]) -> Result<(), AuditError> {
        let checkpoint = Checkpoint::verify(note, self.signer.verifier())?;
        let size = checkpoint.size;
        let (peaks, levels, bundle) = {
            let mut tiles = Tiles::new(&*self.medium, size);
            let peaks: Result<Vec<Hash>, AuditError> = merkle::peaks(size)
                .map(|(height, index)| tiles.subtree(height, index))
                .collect();
            let mut levels = Vec::new();
            for level in 0..LEVELS_MAX {
                let number = tiles::count(level, size) / WIDTH;
                levels.push(match tiles::width(level, number, size) {
                    0 => Vec::new(),
                    width => tiles.level(level, number)?.ok_or_else(|| {
                        AuditError::Missing(tiles::path(Kind::Level(level), number, width))
                    })?,
                });
            }
            let bundle = match size % WIDTH {
                0 => Vec::new(),
                _ => tiles.bundle(size / WIDTH)?.unwrap_or_default(),
            };
            (peaks?, levels, bundle)
        };
        let frontier = Frontier::of(size, peaks).filter(|found| found.root() == checkpoint.root);
        self.frontier = frontier.ok_or(AuditError::Root { size })?;
        let (entries, more) = tiles::entries(&bundle);
        let leaves: Vec<Hash> = entries.into_iter().map(merkle::leaf).collect();
        if more || leaves != levels[0] {
            let index = size - size % WIDTH;
            return Err(AuditError::Entry { index });
        }
        (self.levels, self.bundle) = (levels, bundle);
        self.note = String::from_utf8_lossy(note).into_owned();
        Ok(())
    }

    /// Entries so far.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The newest checkpoint, a signed note.
    pub fn checkpoint(&self) -> &str {
        &self.note
    }

    /// Adds entries, and returns the index of the first when a checkpoint vouches for all of them
    /// that would survive a power cut.
    ///
    /// # Errors
    /// An entry is longer than [`ENTRY_LEN_MAX`]: nothing was added. The disk failed: whether they
    /// were added shows when the log is opened again, and until then nothing is.
    pub fn append(&mut self, entries: &[Vec<u8>]) -> Result<u64, AuditError> {
        if entries.is_empty() {
            return Ok(self.size());
        }
        self.fits(entries)?;
        self.begin_writing()?;
        let first = self.size();
        self.add(entries)?;
        self.end_writing();
        Ok(first)
    }

    fn fits(&self, entries: &[Vec<u8>]) -> Result<(), AuditError> {
        if let Some(long) = entries.iter().find(|entry| entry.len() > ENTRY_LEN_MAX) {
            return Err(AuditError::TooLong(long.len()));
        }
        if self.size().saturating_add(entries.len() as u64) > SIZE_MAX {
            return Err(AuditError::Full);
        }
        Ok(())
    }

    /// Until it is all done, what is in memory is ahead of what was vouched for.
    pub(super) fn begin_writing(&mut self) -> Result<(), AuditError> {
        if std::mem::replace(&mut self.broken, true) {
            return Err(AuditError::Broken);
        }
        self.take_turn()
    }

    pub(super) fn end_writing(&mut self) {
        self.broken = false;
    }

    /// Whether an operation failed, and nothing is taken until the log is opened again.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    pub(super) fn add(&mut self, entries: &[Vec<u8>]) -> Result<(), AuditError> {
        let before = self.size();
        let mut touched = BTreeSet::new();
        let mut full = Vec::new();
        for entry in entries {
            tiles::bundle(&mut self.bundle, entry);
            let number = self.size() / WIDTH;
            let leaf = merkle::leaf(entry);
            self.frontier.push(leaf);
            self.levels[0].push(leaf);
            if self.size().is_multiple_of(WIDTH) {
                let bundle = std::mem::take(&mut self.bundle);
                self.put(Kind::Entries, number, WIDTH, &bundle, &mut touched)?;
                full.push((Kind::Entries, number));
                self.rise(&mut touched, &mut full)?;
            }
        }
        self.rest(before, &mut touched)?;
        for folder in &touched {
            self.sync_folder(folder)?;
        }
        self.vouch()?;
        for (kind, number) in full {
            let partial = format!("{}.p", tiles::path(kind, number, WIDTH));
            self.folders.remove(&partial);
            self.medium
                .remove_folder(&partial)
                .map_err(failed("remove", &partial))?;
        }
        Ok(())
    }

    /// Writes each tile that is full, from the lowest level on, and adds its hash above.
    fn rise(
        &mut self,
        touched: &mut BTreeSet<String>,
        full: &mut Vec<(Kind, u64)>,
    ) -> Result<(), AuditError> {
        for level in 0..LEVELS_MAX as usize {
            if self.levels[level].len() as u64 != WIDTH {
                break;
            }
            let hashes = std::mem::take(&mut self.levels[level]);
            let kind = Kind::Level(u32::try_from(level).unwrap_or(u32::MAX));
            let number = tiles::count(u32::try_from(level).unwrap_or(u32::MAX), self.size());
            let number = number / WIDTH - 1;
            self.put(kind, number, WIDTH, &hashes.concat(), touched)?;
            full.push((kind, number));
            if let Some(above) = self.levels.get_mut(level + 1) {
                above.push(merkle::over(&hashes));
            }
        }
        Ok(())
    }

    /// Writes what is not full and has grown since the log had `before` entries.
    fn rest(&mut self, before: u64, touched: &mut BTreeSet<String>) -> Result<(), AuditError> {
        let size = self.size();
        if !size.is_multiple_of(WIDTH) {
            let bundle = std::mem::take(&mut self.bundle);
            self.put(Kind::Entries, size / WIDTH, size % WIDTH, &bundle, touched)?;
            self.bundle = bundle;
        }
        for level in 0..LEVELS_MAX {
            let hashes = &self.levels[level as usize];
            let width = hashes.len() as u64;
            if width == 0 || tiles::count(level, before) == tiles::count(level, size) {
                continue;
            }
            let bytes = hashes.concat();
            let number = tiles::count(level, size) / WIDTH;
            self.put(Kind::Level(level), number, width, &bytes, touched)?;
        }
        Ok(())
    }

    /// Writes one file beside its place, syncs it, and renames it; its folder is synced later.
    fn put(
        &mut self,
        kind: Kind,
        number: u64,
        width: u64,
        bytes: &[u8],
        touched: &mut BTreeSet<String>,
    ) -> Result<(), AuditError> {
        let path = tiles::path(kind, number, width);
        let (folder, _) = path.rsplit_once('/').unwrap_or_default();
        self.make(folder)?;
        touched.insert(folder.to_owned());
        self.place(&path, bytes)
    }

    pub(super) fn place(&mut self, path: &str, bytes: &[u8]) -> Result<(), AuditError> {
        let beside = format!("{path}.new");
        self.medium
            .write(&beside, bytes)
            .map_err(failed("write", &beside))?;
        self.medium.sync(&beside).map_err(failed("sync", &beside))?;
        self.medium
            .rename(&beside, path)
            .map_err(failed("rename", &beside))
    }

    /// Makes a folder and those above it, each durable before something is put into it.
    pub(super) fn make(&mut self, folder: &str) -> Result<(), AuditError> {
        if self.folders.contains(folder) {
            return Ok(());
        }
        let above = folder.rsplit_once('/').map_or("", |(above, _)| above);
        self.make(above)?;
        self.medium
            .make_folder(folder)
            .map_err(failed("make", folder))?;
        self.medium
            .sync_folder(above)
            .map_err(failed("sync", above))?;
        self.folders.insert(folder.to_owned());
        Ok(())
    }

    pub(super) fn sync_folder(&mut self, folder: &str) -> Result<(), AuditError> {
        let synced = self.medium.sync_folder(folder);
        synced.map_err(failed("sync", folder))
    }

    /// What there is, as it is signed.
    pub(super) fn vouched(&self) -> Checkpoint {
        Checkpoint {
            origin: self.verifier().name().to_owned(),
            size: self.frontier.size(),
            root: self.frontier.root(),
        }
    }

    /// The key that verifies what this log signs.
    pub fn verifier(&self) -> &Verifier {
        self.signer.verifier()
    }

    pub(super) fn medium(&self) -> &dyn Medium {
        &*self.medium
    }

    pub(super) fn medium_mut(&mut self) -> &mut dyn Medium {
        &mut *self.medium
    }

    /// Signs what there is, durably.
    fn vouch(&mut self) -> Result<(), AuditError> {
        let note = self.vouched().sign(&self.signer)?;
        self.publish(note)
    }

    /// Puts a note in the place of the newest checkpoint, durably.
    pub(super) fn publish(&mut self, note: String) -> Result<(), AuditError> {
        self.place(CHECKPOINT, note.as_bytes())?;
        self.sync_folder("")?;
        self.note = note;
        Ok(())
    }
}

pub(super) fn failed<'a>(
    act: &'static str,
    path: &'a str,
) -> impl FnOnce(std::io::Error) -> AuditError + use<'a> {
    move |source| AuditError::File {
        act,
        path: path.to_owned(),
        source,
    }
}
