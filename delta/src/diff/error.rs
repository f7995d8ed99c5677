//! What can go wrong while a patch is made.

use alloc::string::String;
use core::error::Error;
use core::fmt;

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
    /// No order of the windows fits the scratch.
    Scratch {
        /// What the best order that was tried would need.
        needed: u64,
        /// What is allowed.
        allowed: u64,
    },
    /// The image cannot be rewritten in place.
    InPlace(String),
    /// An image cannot be read.
    Read(String),
}

impl DiffError {
    /// The stable code for reports.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Memory { .. } => "delta-memory-allowed",
            Self::Index(_) => "delta-index",
            Self::Scratch { .. } => "delta-scratch-allowed",
            Self::InPlace(_) => "delta-in-place",
            Self::Read(_) => "delta-read",
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
            Self::Scratch { needed, allowed } => write!(
                f,
                "a patch in place needs {needed} bytes of scratch, {allowed} are allowed"
            ),
            Self::InPlace(what) => write!(f, "no patch in place was made: {what}"),
            Self::Read(what) => write!(f, "failed to read an image: {what}"),
        }
    }
}

impl Error for DiffError {}
