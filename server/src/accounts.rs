//! People who operate: accounts, what they prove themselves with, and their sessions.
//!
//! ```text
//!   create -> Invited --(invitation, password)--> --(first code)--> Active <-> Disabled
//!   login:   password (argon2id) and a code (TOTP, RFC 6238) or a recovery code -> session
//!   acts that cannot be taken back ask for one more code, which is used up by that one act
//! ```
//!
//! What is stored: hashes of passwords, invitations, recovery codes and session ids; seeds of
//! second factors, sealed. A thief of the store has no session and no second factor.
//!
//! Invariants:
//! - A code is accepted once: the step of the last one is stored, and only later ones count.
//! - Attempts are counted before they are judged, so that many at once are not more than one by
//!   one.
//! - A session ends with its time, with a logout, and with every change of its account's roles,
//!   standing or secrets.
//! - An answer does not tell whether the name, the password or the code was wrong.

mod enter;
mod keep;
mod manage;
pub mod password;
mod row;
pub mod totp;

use std::sync::Arc;

use ampoule_protocol::name::DeviceId;
use tokio::sync::Semaphore;

use crate::secrets::{SealError, Sealer};
use crate::store::writer::Writer;
use crate::store::{Store, StoreError};

pub use enter::{Entered, Second};
pub use manage::{Activation, Invitation};
pub use row::{Account, Session, Standing};

/// The name of an account; made of what a device id may be made of.
pub type AccountName = DeviceId;

/// Accounts of one server.
pub const ACCOUNTS_MAX: usize = 1000;
/// Hashes of passwords that are made at once; each takes 19 MiB.
const HASHING_MAX: usize = 2;
/// Logins that wait for one of those; more are refused.
const WAITING_MAX: usize = 32;

/// The accounts of a server.
pub struct Accounts {
    store: Arc<dyn Store>,
    writer: Writer,
    sealer: Arc<Sealer>,
    hashing: Semaphore,
    waiting: Semaphore,
    session_secs: i64,
}

impl Accounts {
    /// Kept in this store; a session lives `session_secs`.
    pub fn new(
        store: Arc<dyn Store>,
        writer: Writer,
        sealer: Arc<Sealer>,
        session_secs: i64,
    ) -> Self {
        Self {
            store,
            writer,
            sealer,
            hashing: Semaphore::new(HASHING_MAX),
            waiting: Semaphore::new(WAITING_MAX),
            session_secs,
        }
    }
}

/// Why somebody is not let in, or an account not changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Which of the three is not said.
    #[error("name, password or code is wrong")]
    Wrong,
    /// Too many wrong ones.
    #[error("too many attempts were wrong; the next may come in {0} s")]
    Locked(i64),
    /// The session is over, or never was.
    #[error("there is no such session, or it is over: log in")]
    NoSession,
    /// The code is wrong, was used before, or is from another time.
    #[error("the code is wrong, was used before, or is from another time")]
    Code,
    /// There is no such account.
    #[error("there is no account {0:?}")]
    Unknown(String),
    /// There is one of that name, or the first has been made.
    #[error("{0}")]
    Exists(String),
    /// What was asked for cannot be.
    #[error("{0}")]
    Bad(String),
    /// Too much at once.
    #[error("more people log in than can be checked now")]
    Busy,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record of the store cannot be read.
    #[error("an account in the store is damaged: {0}")]
    Damaged(String),
    /// A seed cannot be sealed or unsealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}
