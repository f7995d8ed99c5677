//! The audit log: what happened, so that it can be proven afterwards.
//!
//! ```text
//!   acts --(Record)--> Audit, a queue --> one thread, groups --> Log --> tiles, checkpoint
//!   a folder of tiles --> verify, witness, proofs                 (offline, no server)
//! ```
//!
//! An append-only Merkle log in the formats of C2SP: `tlog-tiles`, `tlog-checkpoint`,
//! `signed-note`, `tlog-cosignature`. Tools of others read it as it lies. It stands in no database:
//! a thief of the store does not have it, and a damaged store does not take it along.
//!
//! What the log proves: that nothing in it was changed, moved or taken out since a checkpoint that
//! somebody else holds. What it does not: that the server wrote down the truth, or that a thief of
//! its key did not begin another history; for that there are witnesses.
//!
//! Invariants:
//! - An act of a person is written down before it is done (`intended`), and how it ended after.
//! - What is offered to a device, and what a device has reported, is in the log before the device
//!   is told. Where the log cannot be written, neither happens.
//! - Reading, verifying and witnessing need no server and no clock.

pub mod checkpoint;
pub mod cosigned;
pub mod entry;
pub mod log;
pub mod medium;
pub mod merkle;
pub mod note;
pub mod queue;
mod shared;
mod shared_key;
pub mod start;
pub mod tiles;
pub mod verify;
pub mod witness;

pub use checkpoint::Checkpoint;
pub use cosigned::Cosigned;
pub use entry::{Act, Entry, Outcome, Record};
pub use log::Log;
pub use note::{Signer, Verifier};
pub use queue::Audit;
pub use verify::Finding;

/// Why a log cannot be written, read or believed.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    // The log itself.
    /// What is wrong, with the first entry that it is wrong with.
    #[error("the log is not what was signed, from entry {} on", .0.index)]
    Found(
        #[from]
        #[source]
        Finding,
    ),
    /// A file that a checkpoint vouches for is gone.
    #[error("the log has no {0:?}")]
    Missing(String),
    /// The tiles do not make the signed root.
    #[error("the tiles have another root than the checkpoint of {size} entries")]
    Root {
        /// Its size.
        size: u64,
    },
    /// The last bundle is not what its tile vouches for.
    #[error("the entries from {index} on are not those that their tile has the hashes of")]
    Entry {
        /// The first of the bundle.
        index: u64,
    },
    /// A checkpoint of another log.
    #[error("the checkpoint is of log {found:?}, expected {expected:?}")]
    OtherLog {
        /// What it says.
        found: String,
        /// What was asked for.
        expected: String,
    },
    /// Nobody who is known signed.
    #[error("the checkpoint is not signed by {0:?}")]
    Unsigned(String),
    /// Fewer witnesses have seen it than were asked for.
    #[error(
        "{found} of the {demanded} witnesses that are asked for have cosigned; missing: {missing}"
    )]
    Witnesses {
        /// Who have.
        found: usize,
        /// Who must.
        demanded: usize,
        /// The names of the others.
        missing: String,
    },
    /// The witnesses are far behind.
    #[error("the witnesses have seen {seen} of {size} entries; at most {unseen_max} may be unseen")]
    Unseen {
        /// What as many as are asked for have seen.
        seen: u64,
        /// What there is.
        size: u64,
        /// What was asked for.
        unseen_max: u64,
    },
    /// Somebody signed in another's name.
    #[error("a signature in the name of {0:?} is not by its key")]
    Signature(String),
    /// Not a note or a checkpoint.
    #[error("the note {0}")]
    Note(String),

    // Whoever asks.
    /// A key that cannot be used.
    #[error("a key cannot be used: {0}")]
    Key(String),
    /// An entry beyond its bound.
    #[error("an entry of {0} bytes is longer than the 65535 that a log takes")]
    TooLong(usize),

    // The machine.
    /// A file operation failed.
    #[error("failed to {act} {path:?} of the log")]
    File {
        /// The verb.
        act: &'static str,
        /// The file.
        path: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// An operation failed before.
    #[error("the audit log failed and takes nothing until the server restarts")]
    Broken,
    /// The place that servers share does not answer.
    #[error("the audit log cannot be reached now")]
    Away,
    /// More entries wait than may.
    #[error("more audit entries wait than can be written now")]
    Busy,
    /// There is no room for another number.
    #[error("the log has as many entries as it can have")]
    Full,
}
