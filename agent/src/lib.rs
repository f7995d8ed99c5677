//! The device agent: polls, verifies, stages, applies atomically, proves health, or goes back.
//!
//! ```text
//!   cli ──► driver ──► machine (pure)        what to do next
//!             │
//!             ├──► trust ──► protocol        what may be believed
//!             ├──► install ──► delta         how bytes get into a slot
//!             ├──► module                    programs that install in their own way
//!             └──► ports: storage, network, boot control, clock, health, gates, restart
//! ```
//!
//! One thread, blocking calls. What this crate will never do: write the running slot, arm an image
//! that it did not read back, take an order from the server that the repository's key holders did
//! not sign, or lower the rollback floor without a record that they signed for this one device.
//!
//! ```
//! use ampoule_agent::machine::{Action, Event, Phase, State, step};
//! use ampoule_protocol::time::UtcTime;
//!
//! let (state, actions) = step(State::default(), Event::CheckDue, UtcTime::EPOCH);
//! assert_eq!(state.phase, Phase::Checking);
//! assert_eq!(actions, [Action::Check]);
//! ```

pub mod boot;
pub mod choose;
pub mod cli;
pub mod config;
pub mod disk;
pub mod driver;
pub mod enrol;
pub mod gate;
pub mod history;
pub mod in_place;
pub mod install;
pub mod journal;
pub mod key;
pub mod local;
pub mod machine;
pub mod module;
pub mod net;
pub mod ports;
pub mod probe;
pub mod receipt;
pub mod seal;
pub mod state;
pub mod stop;
pub mod system;
pub mod trust;
