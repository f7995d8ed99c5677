//! A device on a simulated disk, and every power cut it can meet.
//!
//! ```text
//!   Story ──► live: loader, then agent (its real driver, journal, store, boot control, installers)
//!                │
//!                └──► SimDisk ──► at each operation, each outcome of a cut ──► a state
//!   state ──► boots? trust, floor, running slot as they must be? ──► lives on ──► more states
//! ```
//!
//! - [`disk`]: a disk that knows what is durable, per file and per folder, and fails on demand;
//! - [`cut`]: what becomes of what was not synced;
//! - [`mistake`]: what a driver or a disk does wrong on purpose, so that a test sees it caught;
//! - [`repo`]: releases of a few small images;
//! - [`life`]: boots a device until it rests;
//! - [`story`]: a device, a world and how it must end; a new scenario is a function in `stories`;
//! - [`explore`]: visits the states of a story and checks each.

pub mod cut;
pub mod disk;
pub mod explore;
pub mod life;
mod medium;
pub mod mistake;
mod modules;
mod ports;
pub mod repo;
pub mod stories;
pub mod story;
