//! The log of a server: its folder, its key, and the record of what people do.
//!
//! ```text
//!   audit/          checkpoint, tile/…, key (the verifier key): may be copied and served
//!   audit.key       the signing key: only its owner's
//! ```

use std::future::Future;
use std::path::Path;

use ampoule_protocol::sign::Ed25519Key;
use ampoule_protocol::time::UtcTime;
use zeroize::Zeroizing;

use super::entry::{Outcome, Record};
use super::log::Log;
use super::medium::Folder;
use super::note::{Kind, Signer};
use super::queue::{Audit, Writing};
use super::{Act, AuditError};
use crate::config;
use crate::error::ServerError;
use crate::file::{self, Readers};
use crate::log::Log as Said;

/// Bytes of a key file.
const KEY_LEN_MAX: u64 = 4096;
/// The file that tells readers which key signs.
const KEY_FILE: &str = "key";

/// Opens the log, and begins one where there is none.
///
/// # Errors
/// The key cannot be used, or the log does not hang together.
pub fn open(config: &config::Audit) -> Result<Log, ServerError> {
    std::fs::create_dir_all(&config.path).map_err(ServerError::file("create", &config.path))?;
    file::sync_folder_of(&config.path).map_err(ServerError::file("sync", &config.path))?;
    let signer = Signer::new(&config.origin, Kind::Note, key(&config.key)?)?;
    let verifier = format!("{}\n", signer.verifier());
    let log = Log::open(Box::new(Folder::new(&config.path)), signer)?;
    let told = config.path.join(KEY_FILE);
    if std::fs::read_to_string(&told).ok().as_ref() != Some(&verifier) {
        file::replace(&told, verifier.as_bytes(), Readers::All)?;
    }
    Ok(log)
}

/// The log's key; made where there is none yet.
fn key(path: &Path) -> Result<Ed25519Key, ServerError> {
    if !path.exists() {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed)
            .map_err(|error| ServerError::Tls(format!("no random bytes: {error}")))?;
        let key = Ed25519Key::from_seed(&seed);
        let key = key.map_err(|error| ServerError::Tls(error.to_string()))?;
        file::create(path, key.to_pkcs8_pem().as_bytes(), Readers::Owner)?;
    }
    let pem = Zeroizing::new(file::read_text(path, KEY_LEN_MAX)?);
    Ed25519Key::from_pkcs8_pem(&pem).map_err(|error| ServerError::pki("audit key", path, error))
}

/// Opens the log and starts its thread.
///
/// # Errors
/// As [`open`], or the system gives no thread.
pub fn start(
    config: &config::Audit,
    said: std::sync::Arc<Said>,
) -> Result<(Audit, Writing), ServerError> {
    let log = open(config)?;
    let complain = move |error: &AuditError| {
        said.warn(format_args!(
            "{}; nothing that has to be written down is done until the server restarts",
            ampoule_protocol::error::chain(error, None).replace('\n', "; ")
        ));
    };
    let started = Audit::start(log, &config.path, complain);
    started.map_err(|source| ServerError::System {
        act: "start a thread",
        source,
    })
}

impl Audit {
    /// Does `act` between two records of it: that it is about to be done, and how it ended.
    ///
    /// # Errors
    /// The log cannot be written: then `act` was not done, or what it did is in the log as
    /// intended.
    pub async fn around<T>(
        &self,
        record: Record,
        now: impl Fn() -> UtcTime,
        act: impl Future<Output = T>,
        is_done: impl FnOnce(&T) -> bool,
    ) -> Result<T, AuditError> {
        let intended = record.clone().outcome(Outcome::Intended);
        self.record(intended, now()).await?;
        let ended = act.await;
        let outcome = if is_done(&ended) {
            Outcome::Done
        } else {
            Outcome::Refused
        };
        self.record(record.outcome(outcome), now()).await?;
        Ok(ended)
    }
}

/// Does `act` between two records, where no server runs and the store is ours.
///
/// # Errors
/// The log cannot be written.
pub fn by_hand<T>(
    config: &config::Audit,
    record: Option<Record>,
    now: UtcTime,
    act: impl FnOnce() -> Result<T, ServerError>,
) -> Result<T, ServerError> {
    let Some(record) = record else { return act() };
    let mut log = open(config)?;
    let mut write = |outcome| {
        let bytes = record.clone().outcome(outcome).to_bytes(log.size(), now);
        log.append(&[bytes])
    };
    write(Outcome::Intended)?;
    let ended = act();
    write(if ended.is_ok() {
        Outcome::Done
    } else {
        Outcome::Refused
    })?;
    ended
}

/// The record that a server began to write.
pub fn started() -> Record {
    Record::new(Act::Start, "server").with("version", env!("CARGO_PKG_VERSION"))
}
