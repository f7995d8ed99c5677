//! The log of a server: its folder, its key, and the record of what people do.
//!
//! ```text
//!   audit/          checkpoint, tile/…, key (the verifier key): may be copied and served
//!   audit.key       the signing key: only its owner's
//! ```
//!
//! Servers that share a store share the log too, and its key: the files are the store's, the key
//! is a sealed record of it ([`shared_key`]) or a file that each of them has, and in the folder is
//! what this server saw (`seen`).

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ampoule_protocol::sign::Ed25519Key;
use ampoule_protocol::time::UtcTime;
use zeroize::Zeroizing;

use super::entry::{Outcome, Record};
use super::log::Log;
use super::medium::{Folder, Medium};
use super::note::{Kind, NOTE_LEN_MAX, Signer};
use super::queue::{Audit, Place, When, Writing};
use super::witness::grew;
use super::{Act, AuditError, Checkpoint, shared_key};
use crate::config::{self, Config};
use crate::error::ServerError;
use crate::file::{self, Readers};
use crate::log::Log as Said;
use crate::secrets::Sealer;
use crate::store::Store;

/// Bytes of a key file.
const KEY_LEN_MAX: u64 = 4096;
/// The file that tells readers which key signs.
const KEY_FILE: &str = "key";
/// The file in which a server keeps what it saw of a log that it shares: one that was set back to an
/// older state is not gone on with.
const SEEN_FILE: &str = "seen";
const OTHER_KEY: &str = "the audit log that servers share is signed with another key than this \
     server's; give all of them one [audit] key, or one key file in [secrets]";
/// How often it is written while the log grows.
const SEEN_EVERY: Duration = Duration::from_secs(10);

/// Opens the log, and begins one where there is none. It is the store's where several servers share
/// one, and in its folder otherwise.
///
/// # Errors
/// The key cannot be used, the log does not hang together, or does not begin with what this server
/// saw of it.
pub fn open(
    config: &config::Audit,
    store: &Arc<dyn Store>,
    sealer: Option<&Sealer>,
) -> Result<(Log, Place), ServerError> {
    std::fs::create_dir_all(&config.path).map_err(ServerError::file("create", &config.path))?;
    file::sync_folder_of(&config.path).map_err(ServerError::file("sync", &config.path))?;
    let shared = store.audit_files().filter(|_| !config.is_own);
    let key = match (&shared, sealer) {
        (Some(_), Some(sealer)) if !config.has_key => shared_key::get(&**store, sealer)?,
        _ => key(&config.key)?,
    };
    let signer = Signer::new(&config.origin, Kind::Note, key)?;
    let verifier = format!("{}\n", signer.verifier());
    let told = config.path.join(KEY_FILE);
    let opened = if let Some(files) = shared {
        open_shared(config, store, files, signer)?
    } else {
        let log = Log::open(Box::new(Folder::new(&config.path)), signer)?;
        (log, Place::Folder(config.path.clone()))
    };
    if std::fs::read_to_string(&told).ok().as_ref() != Some(&verifier) {
        file::replace(&told, verifier.as_bytes(), Readers::All)?;
    }
    Ok(opened)
}

fn open_shared(
    config: &config::Audit,
    store: &Arc<dyn Store>,
    files: Box<dyn Medium>,
    signer: Signer,
) -> Result<(Log, Place), ServerError> {
    let log = Log::open(files, signer).map_err(|error| match error {
        AuditError::Unsigned(_) => ServerError::Refused(OTHER_KEY.into()),
        other => other.into(),
    })?;
    let place = Place::Store(store.clone());
    if let Some(known) = seen(config, &log)? {
        let now = Checkpoint::verify(log.checkpoint().as_bytes(), log.verifier())?;
        grew(&*place.files(), &known, &now)?;
    }
    Ok((log, place))
}

/// What this server saw of a log that it shares, when it ran before.
fn seen(config: &config::Audit, log: &Log) -> Result<Option<Checkpoint>, ServerError> {
    let path = config.path.join(SEEN_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let note = file::read_text(&path, NOTE_LEN_MAX as u64)?;
    Ok(Some(Checkpoint::verify(note.as_bytes(), log.verifier())?))
}

/// The log's key; made where there is none yet.
fn key(path: &Path) -> Result<Ed25519Key, ServerError> {
    if !path.exists() {
        let key = new_key()?;
        file::create(path, key.to_pkcs8_pem().as_bytes(), Readers::Owner)?;
    }
    let pem = Zeroizing::new(file::read_text(path, KEY_LEN_MAX)?);
    Ed25519Key::from_pkcs8_pem(&pem).map_err(|error| ServerError::pki("audit key", path, error))
}

pub(super) fn new_key() -> Result<Ed25519Key, ServerError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed)
        .map_err(|error| ServerError::Tls(format!("no random bytes: {error}")))?;
    Ed25519Key::from_seed(&seed).map_err(|error| ServerError::Tls(error.to_string()))
}

/// Opens the log and starts its thread.
///
/// # Errors
/// As [`open`], or the system gives no thread.
pub fn start(
    config: &config::Audit,
    store: &Arc<dyn Store>,
    sealer: Option<&Sealer>,
    said: Arc<Said>,
) -> Result<(Audit, Writing), ServerError> {
    let (log, place) = open(config, store, sealer)?;
    let is_shared = log.is_shared();
    let complain = move |error: &AuditError| {
        let until = if is_shared {
            "it is reached again"
        } else {
            "the server restarts"
        };
        said.warn(format_args!(
            "{}; nothing that has to be written down is done until {until}",
            ampoule_protocol::error::chain(error, None).replace('\n', "; ")
        ));
    };
    let seen = config.path.join(SEEN_FILE);
    let mut kept: Option<Instant> = None;
    let keep = move |note: &str, when: When| {
        let is_due = when == When::Ended || kept.is_none_or(|at| at.elapsed() >= SEEN_EVERY);
        if is_shared && is_due {
            // What was seen before proves as much, of less.
            let _ = file::replace(&seen, note.as_bytes(), Readers::All);
            kept = Some(Instant::now());
        }
    };
    let started = Audit::start(log, place, &config.witnesses, keep, complain);
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
    config: &Config,
    store: &Arc<dyn Store>,
    record: Option<Record>,
    now: UtcTime,
    act: impl FnOnce() -> Result<T, ServerError>,
) -> Result<T, ServerError> {
    let Some(record) = record else { return act() };
    let sealer = Sealer::configured(config)?;
    let (mut log, _) = open(&config.audit, store, sealer.as_ref())?;
    let mut write = |outcome| {
        let record = record.clone().outcome(outcome);
        log.append_made(&|first| vec![record.to_bytes(first, now)])
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

/// The record that a server began to write. It has a number of its own: of servers that share a log,
/// two may begin within a second.
pub fn started() -> Record {
    let mut number = [0; 8];
    // Without randomness nothing else starts either.
    let _ = getrandom::fill(&mut number);
    Record::new(Act::Start, "server")
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("instance", format!("{:016x}", u64::from_be_bytes(number)))
}
