//! Which device is offered which release, and when: the rollout decision, pure.
//!
//! ```text
//!   Plan (an operator's file) --+
//!   ReleaseFacts (by digest)  --+-> Rollout --+
//!   DeviceFacts (inventory, tags, standing) --+-> decide(.., now) -> [Change]   offers, halts, steps
//!   Deployment (what became of an offer)    --+-> why(.., now)    -> Why        one device, in words
//!   Lock (what a device took for itself)    --+-> waits(.., now)   -> [Wait]     why a rollout stands
//!                                             +-> dry_run(.., now) -> Schedule  who gets what when
//! ```
//!
//! Data in, decision out; `now` is handed in. Nothing here reads a clock, a file or a socket: the
//! server applies the changes, makes them durable, and only then lets the director sign. What a look
//! has to think about is kept ([`agenda`]); it follows from the same data.
//!
//! Invariants, each a property that a test tries to break:
//! - A device that is offered at a small step is offered at every larger one ([`cohort`]).
//! - A rollout never has more devices than its step allows, nor a ward more than its cap: open
//!   offers and locks are counted together.
//! - A halted rollout offers nothing until a person resumes it; an aborted one never again.
//! - Silence counts: whoever took an offer and does not answer in time has failed.
//! - Nothing is offered that is recalled, not cleared for the region, below the floor, or for
//!   other hardware. The device checks all of this again by itself.

pub mod acts;
pub mod agenda;
pub mod book;
pub mod chain;
pub mod cohort;
pub mod decide;
pub mod deployment;
pub mod dry_run;
pub mod facts;
pub mod filter;
mod line;
pub mod lock;
pub mod neighbours;
pub mod objection;
pub mod permits;
pub mod plan;
pub mod progress;
pub mod share;
pub mod statistics;
pub mod status;
mod turn;
pub mod waits;
pub mod why;

pub use acts::{Act, Refused};
pub use agenda::Agenda;
pub use book::{Book, Change, Rollout};
pub use decide::decide;
pub use deployment::{Deployment, Phase};
pub use facts::{DeviceFacts, Profile, Running};
pub use filter::Filter;
pub use lock::Lock;
pub use neighbours::Neighbours;
pub use plan::{Plan, ReleaseFacts, RolloutId};
pub use share::Share;
pub use status::{Halt, Stage, Status, Tally};
pub use waits::Wait;
pub use why::Why;
