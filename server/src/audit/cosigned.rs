//! The cosignatures that witnesses gave, kept beside the log.
//!
//! ```text
//!   checkpoint          the newest; with the cosignatures of those who have seen just this one
//!   cosigned/9f3a1c02   the newest that the witness of this key id has cosigned
//! ```
//!
//! A log goes on while its witnesses look, so what they have seen is mostly a little older than
//! what there is: both are published, and a reader asks that the one begins with the other.
//!
//! Invariants:
//! - Only cosignatures by keys that the configuration names are taken in, and only of checkpoints
//!   that this log signed and still begins with.
//! - What a witness has seen never goes back.

use super::checkpoint::Checkpoint;
use super::log::{Log, failed};
use super::medium::Medium;
use super::note::{NOTE_LEN_MAX, Note, Verifier};
use super::tiles::CHECKPOINT;
use super::witness::grew;
use super::{AuditError, note};

/// The folder of what witnesses have seen.
pub const FOLDER: &str = "cosigned";
/// Witnesses of one log: their signatures and its own fit into a note.
pub const WITNESSES_MAX: usize = note::SIGNATURES_MAX / 4;

/// What one witness has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosigned {
    /// Who.
    pub witness: Verifier,
    /// What.
    pub checkpoint: Checkpoint,
    /// When, by the witness's clock; Unix time.
    pub time: u64,
}

/// The file of what a witness has seen.
pub fn path(witness: &Verifier) -> String {
    format!("{FOLDER}/{}", witness.id())
}

/// What this witness has seen of `log`, as the files in `medium` say; nothing where there is none.
///
/// # Errors
/// A file cannot be read, or is not signed by who is named in it.
pub fn newest(
    medium: &dyn Medium,
    log: &Verifier,
    witness: &Verifier,
) -> Result<Option<Cosigned>, AuditError> {
    for path in [CHECKPOINT, &path(witness)] {
        let note = medium
            .read(path, NOTE_LEN_MAX)
            .map_err(failed("read", path))?;
        let Some(note) = note else { continue };
        let Some(time) = Note::parse(&note)?.signed_by(witness)? else {
            continue;
        };
        return Ok(Some(Cosigned {
            witness: witness.clone(),
            checkpoint: Checkpoint::verify(&note, log)?,
            time,
        }));
    }
    Ok(None)
}

impl Log {
    /// Takes in what `witnesses` signed of a note, durably; all that counts of it.
    ///
    /// # Errors
    /// The note is not of this log, or of another history of it, or none of `witnesses` signed it:
    /// nothing was written. The disk failed: nothing is written until the log is opened again.
    pub fn cosign(
        &mut self,
        bytes: &[u8],
        witnesses: &[Verifier],
    ) -> Result<Vec<Cosigned>, AuditError> {
        if self.is_broken() && self.is_shared() {
            self.resume()?;
        }
        self.begin_writing()?;
        let taken = self.take_in(bytes, witnesses);
        if !matches!(taken, Err(AuditError::File { .. })) {
            self.medium_mut().release();
            self.end_writing();
        }
        taken
    }

    fn take_in(
        &mut self,
        bytes: &[u8],
        witnesses: &[Verifier],
    ) -> Result<Vec<Cosigned>, AuditError> {
        let note = Note::parse(bytes)?;
        let checkpoint = Checkpoint::verify(bytes, self.verifier())?;
        let mut given = Vec::new();
        for witness in witnesses {
            let time = note.signed_by(witness)?;
            given.extend(time.map(|time| Cosigned {
                witness: witness.clone(),
                checkpoint: checkpoint.clone(),
                time,
            }));
        }
        if given.is_empty() {
            return Err(AuditError::Unsigned("a witness that is known here".into()));
        }
        grew(self.medium(), &checkpoint, &self.vouched())?;
        for one in &mut given {
            let kept = newest(self.medium(), self.verifier(), &one.witness)?;
            if let Some(kept) = kept.filter(|kept| is_newer(kept, one)) {
                *one = kept;
            }
        }
        let of_note = |one: &&Cosigned| one.checkpoint == checkpoint;
        let new: Vec<Cosigned> = given.iter().filter(of_note).cloned().collect();
        if !new.is_empty() {
            self.keep(&note, &new)?;
        }
        Ok(given)
    }

    fn keep(&mut self, note: &Note, new: &[Cosigned]) -> Result<(), AuditError> {
        self.make(FOLDER)?;
        for one in new {
            let kept = note.only(&[self.verifier(), &one.witness]);
            self.place(&path(&one.witness), kept.to_string().as_bytes())?;
        }
        self.sync_folder(FOLDER)?;
        let own = Note::parse(self.checkpoint().as_bytes())?;
        if own.text() == note.text() {
            let witnesses: Vec<&Verifier> = new.iter().map(|one| &one.witness).collect();
            return self.publish(own.with(note, &witnesses).to_string());
        }
        self.sync_folder("")
    }
}

fn is_newer(kept: &Cosigned, than: &Cosigned) -> bool {
    (kept.checkpoint.size, kept.time) > (than.checkpoint.size, than.time)
}
