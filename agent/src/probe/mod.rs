//! The boot loader's truth: whether its counter counts and its fallback falls, found out before an
//! update depends on it.
//!
//! Most devices that were bricked in the field had good updates and a boot loader that was put
//! together wrongly, and nobody had looked. So the device looks: it copies the image that runs into
//! the other slot, arms it, and restarts without ever giving a verdict, as an image would that
//! hangs. The loader must count each boot and, when none is left, come back to the default.
//!
//! ```text
//!  begin ─► Copying ─► Armed ─┬─ trial, one boot less than before ──► restart again
//!                             ├─ default again, no boots left ──────► proven
//!                             └─ anything else ─────────────────────► not proven, and why
//! ```
//!
//! Nothing is decided from memory: each restart begins with the record on disk (see [`record`])
//! and with what the loader says. The same image runs in either slot, so nothing is risked but a
//! few restarts; the gates are asked before each of them.
//!
//! Invariants:
//! - The running slot is read and never written; what is armed was read back and is what runs.
//! - `proven` is written only by a device that saw the count fall, and then ran its default with no
//!   boots left.
//! - It comes to an end: whatever the loader does, after [`RESTARTS_MAX`] restarts there is a
//!   verdict.

mod copy;
mod gate;
mod prober;
mod record;
mod step;

pub use gate::Proven;
pub use prober::{ProbeError, Prober, Went};
pub use record::{Evidence, Record, Records};
pub use step::{Next, Verdict, step};

/// Boots that the trial of a probe is given: two, so that the count is seen to fall more than once
/// where the loader can count so far.
pub const ATTEMPTS: u32 = 2;
/// Restarts after which a loader that does neither count nor fall is called so. Cuts add to those
/// that are needed.
pub const RESTARTS_MAX: u32 = 8;
