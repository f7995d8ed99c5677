//! Once a second: the certificates, the published tree, the timestamp.
//!
//! Runs on the main thread, away from those that serve devices. It may block for a moment; nobody
//! waits for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use ampoule_protocol::digest::Digest;
use ampoule_protocol::paths::{METADATA_DIR, TIMESTAMP_FILE};
use ampoule_protocol::time::UtcTime;

use crate::audit::{Act, Record};
use crate::error::ServerError;
use crate::online::{Fresh, OnlineTimestamp};
use crate::rollouts::APART_SECS;
use crate::serve::Shared;
use crate::tls::{Look, Reloaded};

/// How often the keeper looks.
pub const TICK: Duration = Duration::from_secs(1);
/// How long it waits after a failed attempt to sign, so that a lasting fault costs little.
const RETRY_SECS: i64 = 10;
/// How often the fleet's ticket keys are read; well within the time after which a new one counts.
const TICKETS_SECS: i64 = 10;

/// What the keeper has seen.
pub struct Keeper {
    shared: Arc<Shared>,
    online: Option<OnlineTimestamp>,
    timestamp_file: PathBuf,
    seen: Stamp,
    failed: Option<(UtcTime, Stamp)>,
    /// When the fleet's ticket keys were read last, Unix time.
    tickets_at: i64,
    /// The snapshot version that the audit log has heard of since the server began.
    publication: Option<u64>,
    /// Signed, and not to be served yet.
    waiting: Option<Fresh>,
}

/// What tells that the tree's timestamp was replaced, without reading it.
type Stamp = Option<(SystemTime, u64)>;

impl Keeper {
    /// Looks for the first time.
    ///
    /// # Errors
    /// There is nothing that could be served: the tree does not verify, or the timestamp key is
    /// not the one that its root names.
    pub fn start(
        shared: Arc<Shared>,
        online: Option<OnlineTimestamp>,
    ) -> Result<Self, ServerError> {
        let timestamp_file = shared
            .published
            .folder()
            .join(METADATA_DIR)
            .join(TIMESTAMP_FILE);
        if let Some(last) = online.as_ref().and_then(OnlineTimestamp::last) {
            shared.published.set_timestamp(last.to_vec());
        }
        let from = online.as_ref().map_or(0, OnlineTimestamp::from);
        let mut waiting = None;
        if shared.now().unix() < from {
            // Another server may serve the one before it still.
            shared.changing_from.store(0, Ordering::Relaxed);
            let bytes = online.as_ref().and_then(OnlineTimestamp::last);
            waiting = bytes.map(|bytes| Fresh {
                bytes: bytes.to_vec(),
                from,
            });
        }
        let had_one = online
            .as_ref()
            .is_some_and(|online| online.last().is_some());
        let mut keeper = Self {
            shared,
            online,
            timestamp_file,
            seen: None,
            failed: None,
            tickets_at: i64::MIN,
            publication: None,
            waiting,
        };
        keeper.look_at_tickets();
        match keeper.tend() {
            Err(error) if !had_one => Err(error),
            Err(error) => {
                keeper.trouble(&error);
                Ok(keeper)
            }
            Ok(()) => Ok(keeper),
        }
    }

    /// Looks again.
    pub fn tick(&mut self) {
        self.look_at_certificates(Look::IfChanged);
        // What it would wait for is away.
        let deaf = self.shared.rollouts.behind().is_some();
        if !deaf {
            self.look_at_tickets();
        }
        let waits = |(until, stamp)| self.shared.now() < until && stamp == self.stamp();
        if deaf || self.failed.is_some_and(waits) {
            return;
        }
        match self.tend() {
            Ok(()) => {
                self.failed = None;
                self.shared.log.over("timestamp");
            }
            Err(error) => self.trouble(&error),
        }
    }

    /// Reads the fleet's ticket keys; where they cannot be read, those that are known stay.
    fn look_at_tickets(&mut self) {
        let shared = &self.shared;
        let (Some(tickets), Some(sealer)) = (&shared.tickets, &shared.sealer) else {
            return;
        };
        let now = shared.now().unix();
        if now < self.tickets_at.saturating_add(TICKETS_SECS) {
            return;
        }
        self.tickets_at = now;
        match tickets.refresh(&*shared.store, sealer, now) {
            Ok(()) => shared.log.over("tickets"),
            Err(error) => shared.log.trouble(
                "tickets",
                format_args!("devices make full handshakes, the ticket keys stay: {error}"),
            ),
        }
    }

    /// Loads certificates again.
    pub fn look_at_certificates(&self, when: Look) {
        self.tell("", self.shared.tls.look(when));
        if let Some(tls) = &self.shared.operators_tls {
            self.tell("the operators' ", tls.look(when));
        }
    }

    fn tell(&self, whose: &str, reloaded: Reloaded) {
        let log = &self.shared.log;
        match reloaded {
            Reloaded::Unchanged => {}
            Reloaded::New => log.note(format_args!("{whose}certificates loaded anew")),
            Reloaded::Kept(error) => {
                log.warn(format_args!(
                    "{whose}new certificates are bad, the old ones stay: {error}"
                ));
            }
        }
    }

    fn trouble(&mut self, error: &ServerError) {
        self.failed = Some((self.shared.now().plus_secs(RETRY_SECS), self.stamp()));
        self.shared
            .log
            .trouble("timestamp", format_args!("the timestamp stays: {error}"));
    }

    fn stamp(&self) -> Stamp {
        let metadata = std::fs::metadata(&self.timestamp_file).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    }

    fn serve_what_waited(&mut self, now: UtcTime) {
        let ready = |fresh: &mut Fresh| now.unix() >= fresh.from;
        if let Some(fresh) = self.waiting.take_if(ready) {
            self.shared.published.forget();
            self.shared.published.warm();
            self.publication = recorded(&self.shared, &fresh.bytes, self.publication);
            self.shared.published.set_timestamp(fresh.bytes);
            let changing = &self.shared.changing_from;
            changing.store(i64::MAX, Ordering::Relaxed);
        }
    }

    fn tend(&mut self) -> Result<(), ServerError> {
        let now = self.shared.now();
        let stamp = self.stamp();
        let changed = stamp != self.seen;
        let due = self
            .online
            .as_ref()
            .is_some_and(|online| online.is_due(now) || online.is_shared());
        if !changed && !due {
            return Ok(());
        }
        match &mut self.online {
            Some(online) => {
                if let Some(fresh) = online.tend(now)? {
                    self.shared
                        .log
                        .note(format_args!("the timestamp was signed"));
                    if fresh.from > 0 {
                        let from = fresh.from.saturating_sub(APART_SECS);
                        let changing = &self.shared.changing_from;
                        changing.fetch_min(from, Ordering::Relaxed);
                    }
                    self.waiting = Some(fresh);
                }
                self.serve_what_waited(now);
            }
            None if stamp.is_some() => {
                let bytes = std::fs::read(&self.timestamp_file)
                    .map_err(ServerError::file("read", &self.timestamp_file))?;
                self.shared.published.forget();
                self.shared.published.warm();
                self.publication = recorded(&self.shared, &bytes, self.publication);
                self.shared.published.set_timestamp(bytes);
            }
            None => {}
        }
        self.seen = stamp;
        if stamp.is_none() {
            self.shared
                .log
                .trouble("empty", format_args!("nothing is published yet"));
        }
        Ok(())
    }
}

/// Writes a publication down that was not heard of before. The timestamp is signed again many
/// times a day; what it vouches for is what was published.
fn recorded(shared: &Shared, timestamp: &[u8], heard: Option<u64>) -> Option<u64> {
    let words: serde_json::Value = serde_json::from_slice(timestamp).unwrap_or_default();
    let snapshot = &words["signed"]["meta"]["snapshot.json"];
    let version = snapshot["version"].as_u64();
    if version.is_none() || version == heard {
        return heard;
    }
    let record = Record::new(Act::Publish, "server")
        .about("tree", "image")
        .digest(Digest::of(timestamp))
        .with("snapshot", snapshot);
    // Where the log is full or broken that has been said, and nothing was done by us.
    match shared.audit.note(record, shared.now()) {
        Ok(()) => version,
        Err(_) => heard,
    }
}
