//! The journal of an update in place: which step is staged or done.
//!
//! Two records, each in a sector of its own, written in turn: a torn write loses the newest and
//! never the one before it. Records count up; the highest whose sum holds is the last.

use twox_hash::XxHash3_64;

use super::Store;
use crate::error::PatchError;

/// Media are assumed to write a sector of this size without touching others.
const SECTOR: u64 = 512;
/// Bytes of the journal.
pub(super) const LEN: u64 = 2 * SECTOR;
const MAGIC: &[u8; 4] = b"AMPJ";
/// Magic, the patch's id, the count, a sum.
const RECORD: usize = 4 + 8 + 8 + 8;

/// What the journal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing of this patch.
    Fresh,
    /// The scratch holds what this step makes.
    Staged(u64),
    /// The image holds what this step makes.
    Done(u64),
}

impl State {
    /// The step to work on.
    pub(super) fn next_step(self) -> Option<u64> {
        match self {
            Self::Fresh => Some(0),
            Self::Staged(step) => Some(step),
            Self::Done(step) => step.checked_add(1),
        }
    }

    fn count(self) -> u64 {
        match self {
            Self::Fresh => 0,
            Self::Staged(step) => 2 * step + 1,
            Self::Done(step) => 2 * step + 2,
        }
    }

    fn of_count(count: u64) -> Self {
        match count {
            0 => Self::Fresh,
            odd if odd % 2 == 1 => Self::Staged(odd / 2),
            even => Self::Done(even / 2 - 1),
        }
    }
}

/// The journal of one patch.
pub(super) struct Journal {
    id: u64,
    last: State,
}

impl Journal {
    /// Reads what the journal says about the patch `id`; records of other patches say nothing.
    pub(super) fn open(store: &mut dyn Store, id: u64) -> Self {
        let mut count = 0;
        for slot in 0..2 {
            let mut record = [0; RECORD];
            // A journal that was never written may be shorter.
            if store.read_at(slot * SECTOR, &mut record).is_ok() {
                count = count.max(count_in(&record, id).unwrap_or(0));
            }
        }
        let last = State::of_count(count);
        Self { id, last }
    }

    pub(super) fn last(&self) -> State {
        self.last
    }

    /// Writes a record, durably.
    pub(super) fn note(&mut self, store: &mut dyn Store, state: State) -> Result<(), PatchError> {
        let mut record = [0; RECORD];
        record[..4].copy_from_slice(MAGIC);
        record[4..12].copy_from_slice(&self.id.to_le_bytes());
        record[12..20].copy_from_slice(&state.count().to_le_bytes());
        let sum = XxHash3_64::oneshot(&record[..20]);
        record[20..].copy_from_slice(&sum.to_le_bytes());
        let slot = state.count() % 2;
        store
            .write_at(slot * SECTOR, &record)
            .map_err(PatchError::Medium)?;
        store.sync().map_err(PatchError::Medium)?;
        self.last = state;
        Ok(())
    }
}

/// The count of a record of the patch `id`; `None` where it is none.
fn count_in(record: &[u8; RECORD], id: u64) -> Option<u64> {
    let word = |at: usize| {
        let bytes = record[at..at + 8].try_into().expect("eight bytes");
        u64::from_le_bytes(bytes)
    };
    let holds = record.starts_with(MAGIC) && word(20) == XxHash3_64::oneshot(&record[..20]);
    (holds && word(4) == id).then(|| word(12))
}
