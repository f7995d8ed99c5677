//! Making a patch: may think long, needs both images, deterministic.
//!
//! ```text
//!   old ──suffix array──► index ──┐
//!   new ──────────────────────────┴─scan──► covers ──encode──► header, maps, windows
//! ```

mod encode;
mod scan;
mod suffix;

use alloc::string::String;
use alloc::vec::Vec;
use core::error::Error;
use core::fmt;

use crate::header::{Caps, Profile};

/// What the signer asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffOptions {
    /// How the streams are coded.
    pub profile: Profile,
    /// What the devices this patch is for can re-encode and map.
    pub caps: Caps,
    /// Memory the devices give to a patch.
    pub memory_max: u64,
    /// Threads to use; the patch is the same for any number.
    pub threads: usize,
}

impl Default for DiffOptions {
    fn default() -> Self {
        Self {
            profile: Profile::default(),
            caps: Caps::all(),
            memory_max: 16 << 20,
            threads: 2,
        }
    }
}

/// What the diff is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Sorting the old image.
    Indexing,
    /// Looking up the new image in it.
    Matching,
    /// Writing the patch.
    Coding,
}

impl Stage {
    /// A word for a progress bar.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Indexing => "indexing",
            Self::Matching => "matching",
            Self::Coding => "coding",
        }
    }
}

/// How far the diff is in one stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What it is doing.
    pub stage: Stage,
    /// `0 <= done <= total`
    pub done: u64,
    /// The whole of this stage.
    pub total: u64,
}

/// Why no patch was made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiffError {
    /// No patch can be applied in the memory that is allowed.
    Memory {
        /// What the smallest patch would need.
        needed: u64,
        /// What is allowed.
        allowed: u64,
    },
    /// Sorting the old image failed.
    Index(String),
}

impl DiffError {
    /// The stable code for reports.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Memory { .. } => "delta-memory-allowed",
            Self::Index(_) => "delta-index",
        }
    }
}

impl fmt::Display for DiffError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory { needed, allowed } => write!(
                f,
                "a patch needs at least {needed} bytes of memory on the device, {allowed} are allowed"
            ),
            Self::Index(what) => write!(f, "failed to sort the old image: {what}"),
        }
    }
}

impl Error for DiffError {}

/// Makes the patch that turns `old` into `new`.
///
/// # Errors
/// [`DiffError::Memory`] when `options.memory_max` is too small for any patch.
pub fn diff(
    old: &[u8],
    new: &[u8],
    options: &DiffOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<u8>, DiffError> {
    progress(Progress {
        stage: Stage::Indexing,
        done: 0,
        total: old.len() as u64,
    });
    let index = suffix::Index::new(old)?;
    let covers = scan::covers(&index, new, &mut |done| {
        progress(Progress {
            stage: Stage::Matching,
            done,
            total: new.len() as u64,
        });
    });
    drop(index);
    encode::patch(old, new, &covers, options, &mut |done| {
        progress(Progress {
            stage: Stage::Coding,
            done,
            total: new.len() as u64,
        });
    })
}
