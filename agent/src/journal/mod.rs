//! What the machine intends, written before it acts.
//!
//! Two files take turns, so that one bad file never costs more than one step:
//!
//! ```text
//!   journal-0.json, journal-1.json:   <sha256 of the rest, 64 hex digits>\n{"seq":42,"state":{…}}
//! ```
//!
//! Each write replaces the older one whole (temporary file, sync, rename, sync of the folder). The
//! readable one with the higher number counts. A file that cannot be read is set aside as
//! `journal-N.broken` and the other one is used: an agent that does not start cannot be mended from
//! afar. Every action may be replayed, so a step back does no harm.
//!
//! When neither can be read, what was under way and what was refused is forgotten, and found out
//! again; the floor is not: see `floor`.

mod floor;

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::version::RollbackIndex;
use floor::{Floor, Found};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::machine::State;
use crate::ports::{Storage, replace};

/// Bytes of a journal file that are read at most; a plan of 256 components fits many times.
const JOURNAL_LEN_MAX: u64 = 16 << 20;

/// The journal of one device.
pub struct Journal {
    storage: Rc<dyn Storage>,
    folder: PathBuf,
    seq: u64,
    /// Which of the two files is written next.
    next: usize,
    written: Option<State>,
    /// What the floor file says.
    floor: Option<Floor>,
    was_lost: bool,
}

/// A journal that cannot be gone on from.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// As the storage says.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Both journals and the floor file are lost.
    #[error("neither journal can be read, and the rollback floor is lost with them")]
    FloorLost,
    /// A floor was to be restored that is not lost.
    #[error("the rollback floor is known: {0}")]
    FloorKnown(RollbackIndex),
}

#[derive(Serialize)]
struct EntryOut<'a> {
    seq: u64,
    state: &'a State,
}

#[derive(Deserialize)]
struct Entry {
    seq: u64,
    state: State,
}

impl Journal {
    /// Opens the journal in `folder` and gives the state to go on from.
    ///
    /// # Errors
    /// A folder that cannot be read or made, and a floor that is lost with both files. One
    /// unreadable file is no error: it is set aside.
    pub fn open(storage: Rc<dyn Storage>, folder: &Path) -> Result<(Self, State), JournalError> {
        storage.create_dir(folder)?;
        let best = newest(storage.as_ref(), folder)?;
        let found = floor::read(storage.as_ref(), folder)?;
        let has_lived = floor::has_lived(storage.as_ref(), folder)?;
        let was_lost = best.is_none() && has_lived;
        let floor = match found {
            Found::Known(floor) => Some(floor),
            Found::Missing | Found::Broken if was_lost => return Err(JournalError::FloorLost),
            Found::Missing | Found::Broken => None,
        };
        let (next, seq, written) = match best {
            Some((index, entry)) => (1 - index, entry.seq, Some(entry.state)),
            None => (0, 0, None),
        };
        let mut state = written.clone().unwrap_or_default();
        if let Some(floor) = &floor {
            floor.raise(&mut state.facts);
        }
        let mut journal = Self {
            storage,
            folder: folder.to_owned(),
            seq,
            next,
            written,
            floor,
            was_lost,
        };
        // From now on a lost journal is told from a new device.
        journal.write_floor(&state)?;
        Ok((journal, state))
    }

    /// Whether both files were lost, so that nobody knows what was under way.
    pub const fn was_lost(&self) -> bool {
        self.was_lost
    }

    /// Gives a device the floor that it lost, on the word of a person in front of it.
    ///
    /// # Errors
    /// A floor that is not lost is not changed; and as the storage says.
    pub fn restore_floor(
        storage: &dyn Storage,
        folder: &Path,
        floor: RollbackIndex,
    ) -> Result<(), JournalError> {
        if let Some((_, entry)) = newest(storage, folder)? {
            return Err(JournalError::FloorKnown(entry.state.facts.floor));
        }
        floor::restore(storage, folder, floor)
    }

    /// What a journal says, without opening it for writing; for `status`.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn peek(storage: &dyn Storage, folder: &Path) -> io::Result<Option<State>> {
        let mut best: Option<Entry> = None;
        for index in 0..2 {
            let bytes = storage.read(&file_of(folder, index), JOURNAL_LEN_MAX)?;
            let entry = bytes.as_deref().and_then(parse_line::<Entry>);
            if let Some(entry) = entry
                && best.as_ref().is_none_or(|found| entry.seq > found.seq)
            {
                best = Some(entry);
            }
        }
        let mut state = best.map(|entry| entry.state);
        if let Some(floor) = floor::peek(storage, folder)? {
            floor.raise(&mut state.get_or_insert_default().facts);
        }
        Ok(state)
    }

    /// Makes `state` durable; does nothing where it is already.
    ///
    /// # Errors
    /// As the storage says; nothing may be acted on then.
    pub fn write(&mut self, state: &State) -> io::Result<()> {
        if self.written.as_ref() == Some(state) {
            return Ok(());
        }
        self.write_floor(state)?;
        let bytes = line_of(&EntryOut {
            seq: self.seq + 1,
            state,
        })?;
        let path = file_of(&self.folder, self.next);
        replace(self.storage.as_ref(), &path, &bytes)?;
        self.seq += 1;
        self.next = 1 - self.next;
        self.written = Some(state.clone());
        Ok(())
    }

    fn write_floor(&mut self, state: &State) -> io::Result<()> {
        let floor = Floor::of(&state.facts);
        if self.floor.as_ref() != Some(&floor) {
            floor::write(self.storage.as_ref(), &self.folder, &floor)?;
            self.floor = Some(floor);
        }
        Ok(())
    }
}

/// The readable file with the higher number; others are set aside.
fn newest(storage: &dyn Storage, folder: &Path) -> io::Result<Option<(usize, Entry)>> {
    let mut best: Option<(usize, Entry)> = None;
    for index in 0..2 {
        let path = file_of(folder, index);
        let Some(entry) = read_entry(storage, &path)? else {
            continue;
        };
        if best.as_ref().is_none_or(|(_, found)| entry.seq > found.seq) {
            best = Some((index, entry));
        }
    }
    Ok(best)
}

fn file_of(folder: &Path, index: usize) -> PathBuf {
    folder.join(format!("journal-{index}.json"))
}

fn read_entry(storage: &dyn Storage, path: &Path) -> io::Result<Option<Entry>> {
    // A file that is too long, or that the medium does not give back, is as bad as a torn one.
    let Ok(bytes) = storage.read(path, JOURNAL_LEN_MAX) else {
        set_aside(storage, path)?;
        return Ok(None);
    };
    let Some(bytes) = bytes else {
        return Ok(None);
    };
    let entry = parse_line(&bytes);
    if entry.is_none() {
        set_aside(storage, path)?;
    }
    Ok(entry)
}

fn set_aside(storage: &dyn Storage, path: &Path) -> io::Result<()> {
    storage.rename(path, &path.with_extension("broken"))?;
    storage.sync_dir(path.parent().unwrap_or(Path::new(".")))
}

fn is_set_aside(storage: &dyn Storage, path: &Path) -> io::Result<bool> {
    Ok(storage.kind(&path.with_extension("broken"))?.is_some())
}

/// A file of ours: its digest, a line end, the words.
fn line_of(words: &impl Serialize) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(words).map_err(io::Error::other)?;
    let mut bytes = Digest::of(&body).to_string().into_bytes();
    bytes.push(b'\n');
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

fn parse_line<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (digest, rest) = bytes.split_at_checked(64)?;
    let body = rest.strip_prefix(b"\n")?;
    let digest = Digest::parse(std::str::from_utf8(digest).ok()?).ok()?;
    if Digest::of(body) != digest {
        return None;
    }
    serde_json::from_slice(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use crate::machine::Phase;

    fn state(failed_checks: u32) -> State {
        let mut state = State::default();
        state.facts.failed_checks = failed_checks;
        state
    }

    #[test]
    fn the_newest_readable_entry_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let storage: Rc<dyn Storage> = Rc::new(Disk);
        let (mut journal, first) = Journal::open(storage.clone(), folder.path()).expect("opens");
        assert_eq!(first.phase, Phase::Idle);
        for count in 1..=5 {
            journal.write(&state(count)).expect("writes");
            let (_, again) = Journal::open(storage.clone(), folder.path()).expect("opens");
            assert_eq!(again, state(count));
        }
    }

    #[test]
    fn a_broken_file_costs_one_step_and_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let storage: Rc<dyn Storage> = Rc::new(Disk);
        let (mut journal, _) = Journal::open(storage.clone(), folder.path()).expect("opens");
        journal.write(&state(1)).expect("writes");
        journal.write(&state(2)).expect("writes");
        let newest = folder.path().join("journal-1.json");
        let mut bytes = std::fs::read(&newest).expect("is there");
        *bytes.last_mut().expect("has bytes") ^= 1;
        std::fs::write(&newest, bytes).expect("writes");
        let (mut journal, back) = Journal::open(storage.clone(), folder.path()).expect("opens");
        assert_eq!(back, state(1));
        assert!(folder.path().join("journal-1.broken").exists());
        journal.write(&state(3)).expect("writes");
        let (_, again) = Journal::open(storage, folder.path()).expect("opens");
        assert_eq!(again, state(3));
    }

    fn break_files(folder: &Path, names: &[&str]) {
        for name in names {
            std::fs::write(folder.join(name), b"bit rot").expect("writes");
        }
    }

    /// Planted: a journal that starts from nothing where both files are gone has floor 0 here.
    #[test]
    fn the_floor_outlives_both_journals() {
        let folder = tempfile::tempdir().expect("a folder");
        let storage: Rc<dyn Storage> = Rc::new(Disk);
        let (mut journal, mut state) =
            Journal::open(storage.clone(), folder.path()).expect("opens");
        assert!(!journal.was_lost());
        for floor in [16, 17] {
            state.facts.floor = RollbackIndex(floor);
            journal.write(&state).expect("writes");
        }
        break_files(folder.path(), &["journal-0.json", "journal-1.json"]);
        let (journal, state) = Journal::open(storage.clone(), folder.path()).expect("opens");
        assert!(journal.was_lost());
        assert_eq!(state.facts.floor, RollbackIndex(17));
        let peeked = Journal::peek(storage.as_ref(), folder.path()).expect("reads");
        assert_eq!(
            peeked.map(|state| state.facts.floor),
            Some(RollbackIndex(17))
        );
    }

    #[test]
    fn a_lost_floor_is_not_taken_for_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let storage: Rc<dyn Storage> = Rc::new(Disk);
        let (mut journal, mut state) =
            Journal::open(storage.clone(), folder.path()).expect("opens");
        state.facts.floor = RollbackIndex(17);
        journal.write(&state).expect("writes");
        journal.write(&self::state(1)).expect("writes");
        break_files(
            folder.path(),
            &["journal-0.json", "journal-1.json", "floor.json"],
        );
        for _ in 0..2 {
            let lost = Journal::open(storage.clone(), folder.path()).map(|_| ());
            assert!(matches!(lost, Err(JournalError::FloorLost)), "{lost:?}");
        }
        let restore = |floor| Journal::restore_floor(&Disk, folder.path(), RollbackIndex(floor));
        restore(17).expect("it is lost");
        let again = restore(3).expect_err("it is known now");
        assert_eq!(again.to_string(), "the rollback floor is known: 17");
        let (_, state) = Journal::open(storage, folder.path()).expect("opens");
        assert_eq!(state.facts.floor, RollbackIndex(17));
    }

    #[test]
    fn a_device_from_before_the_floor_file_gets_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let storage: Rc<dyn Storage> = Rc::new(Disk);
        let (mut journal, mut state) =
            Journal::open(storage.clone(), folder.path()).expect("opens");
        state.facts.floor = RollbackIndex(17);
        journal.write(&state).expect("writes");
        let path = floor::path(folder.path());
        std::fs::remove_file(&path).expect("was there");
        let (_, state) = Journal::open(storage, folder.path()).expect("opens");
        assert_eq!(
            (state.facts.floor, path.exists()),
            (RollbackIndex(17), true)
        );
    }
}
