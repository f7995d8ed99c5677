//! The network port over HTTP/1.1 and mutual TLS: one connection, blocking, no redirects but the
//! one kind that the device's own configuration asks for ([`LinkHost`]).
//!
//! - Every answer is length-capped, and cut off when it is slow: by the average over a window, and
//!   by a stall (slow retrieval attack).
//! - Downloads ask for a range and check that the answer is the one asked for.
//! - [`BundleFile`] is the same port over a file that was carried to the device.
//! - A server that says when to come again is obeyed, within [`RETRY_AFTER_MAX_SECS`].

mod backoff;
mod bucket;
mod bundle;
mod error;
pub mod est;
mod http;
mod identity;
mod links;
mod pace;
mod renew;
mod tls;

pub use backoff::{Backoff, jitter};
pub use bucket::Bucket;
pub use bundle::{BundleError, BundleFile};
pub use error::NetError;
pub use http::{HttpNetwork, HttpSettings};
pub(crate) use identity::certificates;
pub use identity::{Identity, IdentityError};
pub use links::{HOSTS_MAX, LinkHost};
pub use pace::{Pace, Paced};
pub use renew::{Renewal, certify};
pub use tls::Shown;

/// The longest wait that a server may ask for: a day, so that a wrong header strands nobody.
pub const RETRY_AFTER_MAX_SECS: u64 = 86_400;
