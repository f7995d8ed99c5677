//! Installers: how bytes get into an inactive slot and are proven to be there.
//!
//! ```text
//!   network ──► (patch against the running slot) ──► block check ──► slot ──► read back ──► VerifiedImage
//! ```
//!
//! Every kind of component has two slots for whole artifacts. `slot` runs them as they are; `file`
//! shows the running one under the file's name; `tree` unpacks each into a folder of its own and
//! shows the running one through a link (see [`crate::boot`]).
//!
//! Invariants:
//! - A block is checked against the signed tree before it is written.
//! - The running slot is never opened for writing.
//! - Memory is bounded: one block, one leaf list ([`LEAVES_LEN_MAX`]), and what a patch declared.

mod error;
mod fill;
mod place;
mod prepare;
mod space;
#[cfg(test)]
mod tests;
mod tree;
mod verify;
mod writer;

pub use error::InstallError;
pub use fill::{Fill, Filled, LEAVES_LEN_MAX, Source, fill};
pub use place::{Options, Place};
pub use prepare::prepare;
pub use space::check_space;
pub(crate) use tree::Cursor;
pub(crate) use verify::read_back;
pub use verify::{VerifiedImage, digest_of, verify};
