//! A second party that has seen the log grow (C2SP `tlog-cosignature`, `cosignature/v1`).
//!
//! A witness keeps one checkpoint: the newest that it cosigned. It cosigns another one only where
//! that one's tree begins with the tree that it knows. So a log that shows two histories finds no
//! witness for the second.
//!
//! Invariant: what was cosigned is on the witness's disk before the cosignature leaves it.

use super::AuditError;
use super::checkpoint::Checkpoint;
use super::medium::Medium;
use super::merkle;
use super::note::{Kind, Signer, Verifier};
use super::tiles::Tiles;
use super::verify::{self, Finding, What};

/// What a witness found.
#[derive(Debug)]
pub struct Seen {
    /// What it may cosign.
    pub checkpoint: Checkpoint,
    /// Entries that were there before.
    pub known: u64,
    /// The note as it came, with the signatures that it has.
    note: String,
}

/// Looks at a log: whether it only grew since `known`.
///
/// # Errors
/// It did not, with the size from which on it cannot be trusted; or it cannot be read.
pub fn look(
    medium: &dyn Medium,
    log: &Verifier,
    known: Option<&Checkpoint>,
) -> Result<Seen, AuditError> {
    let (checkpoint, note) = verify::checkpoint(medium, log)?;
    if let Some(known) = known {
        grew(medium, known, &checkpoint)?;
    }
    Ok(Seen {
        known: known.map_or(0, |known| known.size),
        note: note.to_string(),
        checkpoint,
    })
}

/// Whether the log of `new`, which lies in `medium`, begins with that of `old`: a consistency proof
/// is made from the tiles, and checked against both signed roots.
///
/// # Errors
/// It does not, or a tile is missing.
pub fn grew(medium: &dyn Medium, old: &Checkpoint, new: &Checkpoint) -> Result<(), AuditError> {
    if old.origin != new.origin {
        return Err(AuditError::OtherLog {
            found: new.origin.clone(),
            expected: old.origin.clone(),
        });
    }
    let wrong = |what| {
        let index = new.size.min(old.size);
        AuditError::from(Finding { index, what })
    };
    if new.size < old.size {
        return Err(wrong(What::Short {
            size: new.size,
            known: old.size,
        }));
    }
    if old.size == 0 {
        return Ok(());
    }
    let mut tiles = Tiles::new(medium, new.size);
    let proof = merkle::prove_consistency(&mut tiles, old.size, new.size)?;
    if merkle::is_consistent((old.size, &old.root), (new.size, &new.root), &proof) {
        return Ok(());
    }
    // Where the tiles are those of the new root, the two histories part below the old size.
    let what = What::Root {
        size: old.size,
        after: 0,
    };
    Err(Finding { index: 0, what }.into())
}

impl Seen {
    /// The note with one more cosignature, and that line alone. `keep` is given the checkpoint
    /// that was cosigned, and returns when it would survive a power cut.
    ///
    /// # Errors
    /// The key is not a witness's, or `keep` failed: then nothing is given out.
    pub fn cosign(
        self,
        witness: &Signer,
        now: u64,
        keep: impl FnOnce(&str) -> Result<(), AuditError>,
    ) -> Result<(String, String), AuditError> {
        if witness.verifier().kind() != Kind::Cosignature {
            return Err(AuditError::Key("a key of a log, not of a witness".into()));
        }
        keep(&self.note)?;
        let line = witness.sign(&self.checkpoint.text(), now)?;
        Ok((format!("{}{line}", self.note), line))
    }
}
