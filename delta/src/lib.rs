//! Patches between images: made at the signer, applied on the device while they stream in.
//!
//! The signer side, [`diff`], sees both images and may think long. The device side, [`Patcher`],
//! takes patch bytes in any pieces, reads the old image at random, appends the new one, and holds
//! no more memory than the patch's header declares and the device accepted.
//!
//! What this crate will never do: open a file or a socket in the patcher, allocate by a number
//! that was read from a patch beyond the accepted bound, or panic on input. It knows nothing of
//! releases and signatures: whoever applies a patch checks the blocks that come out (the agent
//! does, against the block hash tree of the signed release).
//!
//! ```text
//!   old, new ──diff──► header │ map │ window │ window │ map │ window …   ──push──► new
//!                      who,     where bytes     what has to be added
//!                      limits   come from       to them
//! ```
//!
//! The format is described in `docs/format/delta.md`.
//!
//! ```
//! # #[cfg(feature = "diff")] {
//! use ampoule_delta::{Accept, DiffOptions, apply, diff};
//!
//! let old = b"the quick brown fox jumps over the lazy dog".repeat(50);
//! let new = [&old[..900], b"a sleeping cat", &old[900..]].concat();
//! let patch = diff(&old, &new, &DiffOptions::default(), &mut |_| {}).unwrap();
//! assert!(patch.len() < 200);
//!
//! let mut out = Vec::new();
//! apply(&mut &old[..], &patch, &mut out, &Accept::default()).unwrap();
//! assert_eq!(out, new);
//! # }
//! ```
#![cfg_attr(not(feature = "std"), no_std)]
// A coder is made of shifts and casts. What comes from a patch is checked before it is cast, with
// `try_from`; what is cast with `as` is bounded by the line before it.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss
)]

extern crate alloc;

#[cfg(feature = "cli")]
pub mod cli;
mod code;
mod codec;
mod container;
#[cfg(feature = "diff")]
mod diff;
mod error;
mod header;
mod image;
mod info;
mod patch;
mod plan;

#[cfg(feature = "diff")]
pub use diff::{
    DiffError, DiffOptions, Opening, Progress as DiffProgress, Source, SourceFile,
    Stage as DiffStage, diff, diff_sources, openings,
};
pub use error::{Damage, PatchError};
pub use header::{Accept, Caps, HEADER_LEN_MAX, Header, Limits, Profile, header};
pub use image::{ImageError, NewImage, OldImage};
pub use info::{Info, info};
#[cfg(feature = "diff")]
pub use info::{Spent, spent};
#[cfg(feature = "diff")]
pub use patch::in_place::diff_in_place;
pub use patch::in_place::{
    IN_PLACE_HEADER_LEN_MAX, InPlaceHeader, InPlaceProgress, JOURNAL_LEN, Medium, Store,
    apply_in_place, check_in_place, in_place_header, in_place_patch_header,
};
pub use patch::{Checkpoint, Patcher, Progress, apply};
