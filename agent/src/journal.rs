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

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ampoule_protocol::digest::Digest;
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
    /// A folder that cannot be read or made. Unreadable files are no error: they are set aside.
    pub fn open(storage: Rc<dyn Storage>, folder: &Path) -> io::Result<(Self, State)> {
        storage.create_dir(folder)?;
        let mut best: Option<(usize, Entry)> = None;
        for index in 0..2 {
            let path = file_of(folder, index);
            let Some(entry) = read_entry(storage.as_ref(), &path)? else {
                continue;
            };
            if best.as_ref().is_none_or(|(_, found)| entry.seq > found.seq) {
                best = Some((index, entry));
            }
        }
        let (next, seq, state) = match best {
            Some((index, entry)) => (1 - index, entry.seq, Some(entry.state)),
            None => (0, 0, None),
        };
        let journal = Self {
            storage,
            folder: folder.to_owned(),
            seq,
            next,
            written: state.clone(),
        };
        Ok((journal, state.unwrap_or_default()))
    }

    /// What a journal says, without opening it for writing; for `status`.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn peek(storage: &dyn Storage, folder: &Path) -> io::Result<Option<State>> {
        let mut best: Option<Entry> = None;
        for index in 0..2 {
            let bytes = storage.read(&file_of(folder, index), JOURNAL_LEN_MAX)?;
            let entry = bytes.as_deref().and_then(parse);
            if let Some(entry) = entry
                && best.as_ref().is_none_or(|found| entry.seq > found.seq)
            {
                best = Some(entry);
            }
        }
        Ok(best.map(|entry| entry.state))
    }

    /// Makes `state` durable; does nothing where it is already.
    ///
    /// # Errors
    /// As the storage says; nothing may be acted on then.
    pub fn write(&mut self, state: &State) -> io::Result<()> {
        if self.written.as_ref() == Some(state) {
            return Ok(());
        }
        let entry = EntryOut {
            seq: self.seq + 1,
            state,
        };
        let body = serde_json::to_vec(&entry).map_err(io::Error::other)?;
        let mut bytes = Digest::of(&body).to_string().into_bytes();
        bytes.push(b'\n');
        bytes.extend_from_slice(&body);
        let path = file_of(&self.folder, self.next);
        replace(self.storage.as_ref(), &path, &bytes)?;
        self.seq += 1;
        self.next = 1 - self.next;
        self.written = Some(state.clone());
        Ok(())
    }
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
    let entry = parse(&bytes);
    if entry.is_none() {
        set_aside(storage, path)?;
    }
    Ok(entry)
}

fn set_aside(storage: &dyn Storage, path: &Path) -> io::Result<()> {
    storage.rename(path, &path.with_extension("broken"))?;
    storage.sync_dir(path.parent().unwrap_or(Path::new(".")))
}

fn parse(bytes: &[u8]) -> Option<Entry> {
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
}
