//! The operators' door: an HTTPS listener of its own, with the API that people, programs and the
//! console act through.
//!
//! ```text
//!   TLS 1.3 --> who (session, or client certificate) --> right (one table) --> handler
//!   handler --> the same questions as the server's own socket (crate::admin) --> the same acts
//!   each act that changes something: in the audit log before it is done, and after
//! ```
//!
//! Deny by default: a route that is not in the table of rights is answered to nobody, and a role
//! has no right that the table does not give it.
//!
//! Invariants:
//! - Who acts is what session or certificate say; nothing in a body can name somebody else.
//! - An act that cannot be taken back needs a fresh code, and the digest of what the person has
//!   seen; a certificate has no code and cannot do it.
//! - Nobody takes two steps of one rollout's chain (`crate::rollout::chain`).

mod accounts;
pub mod api;
mod asks;
mod audit;
mod devices;
mod extract;
mod listen;
mod page;
pub mod rights;
pub mod roles;
mod rollouts;
mod session;
mod tls;
mod who;
pub mod words;

use std::sync::Arc;

use ampoule_protocol::time::UtcTime;

use crate::accounts::{AccountError, Accounts};
use crate::http::problem::Problem;
use crate::serve::Shared;

use hyper::StatusCode;
pub use listen::start;
pub use tls::certificates;

/// Bytes of one request's body.
pub const BODY_LEN_MAX: usize = 256 << 10;
/// Things in one page of a list.
pub const PAGE_LEN_MAX: usize = 1000;

/// What all requests share.
pub struct Door {
    /// The server behind it.
    pub shared: Arc<Shared>,
    /// Who may come in.
    pub accounts: Accounts,
}

impl Door {
    fn now(&self) -> UtcTime {
        self.shared.now()
    }
}

impl From<AccountError> for Problem {
    fn from(error: AccountError) -> Self {
        let (status, code) = match &error {
            AccountError::Wrong => (StatusCode::UNAUTHORIZED, "login-refused"),
            AccountError::NoSession => (StatusCode::UNAUTHORIZED, "no-session"),
            AccountError::Code => (StatusCode::FORBIDDEN, "code-refused"),
            AccountError::Unknown(_) => (StatusCode::NOT_FOUND, "unknown-account"),
            AccountError::Exists(_) => (StatusCode::CONFLICT, "account-exists"),
            AccountError::Bad(_) => (StatusCode::BAD_REQUEST, "bad-account"),
            AccountError::Locked(secs) => {
                let secs = u64::try_from(*secs).unwrap_or(1);
                return Self::too_many(&error.to_string(), secs);
            }
            AccountError::Busy => return Self::unavailable("busy", &error.to_string(), 5),
            AccountError::Store(_) | AccountError::Damaged(_) | AccountError::Seal(_) => {
                return Self::unavailable(
                    "accounts-unavailable",
                    "accounts cannot be read now",
                    60,
                );
            }
        };
        Self::new(status, code, error.to_string())
    }
}
