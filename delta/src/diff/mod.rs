//! Making a patch: may think long, needs both images, deterministic.
//!
//! ```text
//!   old ─┬─unpack─► logical old ─┬─anchors─► suffix array ─┐
//!   new ─┘          logical new ─┴───────────────────scan──┴─► covers ─encode─► patch
//! ```

mod anchors;
mod blank;
mod elf;
mod encode;
mod modules;
mod scan;
mod suffix;
mod unpack;

use alloc::string::String;
use alloc::vec::Vec;
use core::error::Error;
use core::fmt;

use crate::header::{Caps, Profile};
pub use unpack::{Opening, openings};

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
    /// A window makes no more bytes of output than this, or one compressed extent.
    pub window_max: u32,
}

impl Default for DiffOptions {
    fn default() -> Self {
        Self {
            profile: Profile::default(),
            caps: Caps::all(),
            memory_max: 16 << 20,
            threads: 2,
            window_max: encode::WINDOW_OUTPUT,
        }
    }
}

/// What the diff is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Looking into what is compressed.
    Unpacking,
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
            Self::Unpacking => "unpacking",
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
    /// No order of the windows fits the scratch.
    Scratch {
        /// What the best order that was tried would need.
        needed: u64,
        /// What is allowed.
        allowed: u64,
    },
    /// The image cannot be rewritten in place.
    InPlace(String),
}

impl DiffError {
    /// The stable code for reports.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Memory { .. } => "delta-memory-allowed",
            Self::Index(_) => "delta-index",
            Self::Scratch { .. } => "delta-scratch-allowed",
            Self::InPlace(_) => "delta-in-place",
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
        }
    }
}

impl Error for DiffError {}

/// A patch that looked inside and is longer than this share of the new image is made once more
/// without looking.
const DOUBTFUL: usize = 2;

/// Makes the patch that turns `old` into `new`.
///
/// What is compressed is opened where that gains: a patch that needs more memory so than the devices
/// have, or that is long all the same, is compared with a plain one.
///
/// # Errors
/// [`DiffError::Memory`] when `options.memory_max` is too small for any patch.
pub fn diff(
    old: &[u8],
    new: &[u8],
    options: &DiffOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<u8>, DiffError> {
    let opened = diff_with(old, new, options, progress);
    let is_good = |patch: &Vec<u8>| {
        patch.len() < new.len() / DOUBTFUL
            || crate::header(patch)
                .is_ok_and(|header| header.caps_needed.without(Caps::CODE).is_empty())
    };
    let plain_options = DiffOptions {
        caps: if options.caps.contains(Caps::CODE) {
            Caps::CODE
        } else {
            Caps::NONE
        },
        ..options.clone()
    };
    match opened {
        Ok(patch) if is_good(&patch) => Ok(patch),
        Err(error) if !matches!(error, DiffError::Memory { .. }) => Err(error),
        Err(error) if plain_options.caps == options.caps => Err(error),
        opened => {
            let plain = diff_with(old, new, &plain_options, progress);
            match (opened, plain) {
                (Ok(opened), Ok(plain)) if plain.len() < opened.len() => Ok(plain),
                (Ok(opened), _) => Ok(opened),
                (Err(_), plain) => plain,
            }
        }
    }
}

/// Makes a patch with just these options.
fn diff_with(
    old: &[u8],
    new: &[u8],
    options: &DiffOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<u8>, DiffError> {
    let mut tell = |stage, done, total: usize| {
        progress(Progress {
            stage,
            done,
            total: total as u64,
        });
    };
    let unpacked = unpack::unpack(
        old,
        new,
        options.caps,
        options.memory_max.saturating_sub(encode::PLAIN_MEMORY),
        options.threads,
        &mut |done| tell(Stage::Unpacking, done, new.len()),
    );
    let found = if options.caps.contains(Caps::CODE) {
        [elf::find(&unpacked.old), elf::find(&unpacked.new)]
    } else {
        [Vec::new(), Vec::new()]
    };
    let plain_old = &blank::blanked(&unpacked.old, &found[0])[..];
    let plain_new = &blank::blanked(&unpacked.new, &found[1])[..];
    let anchors = anchors::find(plain_old, plain_new, &mut |done| {
        tell(Stage::Indexing, done, plain_new.len());
    });
    let index = {
        let equal = anchors
            .iter()
            .map(|anchor| anchor.old..anchor.old + anchor.len);
        let taken = equal.chain(unpacked.old_encoded.iter().cloned()).collect();
        suffix::Index::new(plain_old, &anchors::without(plain_old.len(), taken))?
    };
    let covers = scan::covers(&index, plain_old, plain_new, &anchors, &mut |done| {
        tell(Stage::Matching, done, plain_new.len());
    });
    drop(index);
    encode::patch(
        old,
        new,
        &unpacked,
        &found[0],
        &covers,
        options,
        &mut |done| {
            tell(Stage::Coding, done, plain_new.len());
        },
    )
}
