//! The repository server: gives devices what was published, and keeps what they report.
//!
//! ```text
//!   devices --mTLS--> serve -> http -> published        (files, ranges, timestamp)
//!                               |  |-> blob             (targets in a bucket)
//!                               |  \-> fleet            (who may, in memory)
//!                               \----> store::writer -> store (durable, then acknowledged)
//!   keeper: once a second looks at certificates and the published tree, signs the timestamp
//!   rollouts: decide who is offered what; director: signs that for each device
//!   est:    devices get and renew their certificates, on a listener of its own
//!   admin:  a Unix socket for the operator on this machine
//! ```
//!
//! What this crate will never do: hold a key that can make a release, take a device's word for
//! who it is, acknowledge a report that the disk does not have, or delete a damaged store.
//! Whoever steals everything here can withhold updates until the timestamp lapses, and choose for
//! devices in a fleet among the releases that were signed for them; no more.
//!
//! The configuration is checked whole, and all its faults are told at once:
//!
//! ```
//! use ampoule_server::config::Config;
//!
//! let text = "[devices]\nlisten = \"here\"\n[store]\npath = \"state\"\nqueue_len = 0\n";
//! let faults = Config::parse(text, std::path::Path::new("")).unwrap_err();
//! let said: Vec<String> = faults.iter().map(ToString::to_string).collect();
//! assert!(said[0].starts_with("line 2: devices.listen \"here\" is not an address"));
//! assert!(said.contains(&"line 5: store.queue_len is 0, expected 1 to 1048576".into()));
//! assert!(said.contains(&"tree.path is missing".into()));
//! ```

pub mod accounts;
pub mod admin;
pub mod audit;
pub mod blob;
pub mod bucket;
pub mod cell;
pub mod cli;
pub mod config;
pub mod ctl;
mod descriptors;
pub mod director;
pub mod door;
pub mod error;
pub mod est;
pub mod file;
pub mod fleet;
pub mod http;
pub mod identity;
pub mod keeper;
pub mod log;
pub mod metrics;
pub mod online;
pub mod pki;
pub mod published;
pub mod rollout;
pub mod rollouts;
pub mod run;
pub mod secrets;
pub mod serve;
pub mod store;
pub mod strangers;
pub mod tls;
mod to_its_end;
