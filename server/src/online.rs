//! The one online key: signs the image timestamp again before it lapses.
//!
//! The timestamp says, for a short while, what is newest. The signer's own lives for days; ours
//! for hours, so that withholding updates is noticed soon. What the key may vouch for is only a
//! snapshot that the signer's timestamp in the tree names, and before a new timestamp is served
//! the tree is read with it as a device would read it ([`Refresh`]), from the trusted root down.
//!
//! Invariants:
//! - A timestamp is durable in the server's folder before a device sees it, and its version is
//!   above every one before, across restarts too.
//! - The snapshot it names never has a lower version than the one before.
//! - Where any of this fails, the old timestamp stays.

mod home;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ampoule_protocol::client::{Answer, Find, LocalName, Refresh, Search as _, Step};
use ampoule_protocol::limits::Lengths;
use ampoule_protocol::metadata::{Envelope, Payload, RoleType, Root, Timestamp};
use ampoule_protocol::name::{RoleName, TargetPath};
use ampoule_protocol::paths::{self, METADATA_DIR, TIMESTAMP_FILE};
use ampoule_protocol::repo::Draft;
use ampoule_protocol::sign::{self, Sign};
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::trust::{KeyRing, Rotating, TrustedSet, TrustedTarget, UpdateStart};
use ampoule_protocol::version::MetaVersion;

use crate::config;
use crate::error::ServerError;
use crate::rollouts::HOLD_SECS;
pub use home::Home;

/// Reading the tree costs more the longer metadata is; a server has the memory of many devices.
const LENGTHS: Lengths = Lengths {
    root: 4 << 20,
    timestamp: 64 << 10,
    bundle: 0,
    snapshot: 64 << 20,
    targets: 256 << 20,
};

/// The key, and what it signed last.
pub struct OnlineTimestamp {
    key: Box<dyn Sign + Send + Sync>,
    tree: Tree,
    home: Home,
    expiry: Duration,
    refresh_before: Duration,
    last: Option<Signed>,
}

/// What is to be served.
pub struct Fresh {
    /// The timestamp.
    pub bytes: Vec<u8>,
    /// Unix time from which on it is served: others must have heard of it.
    pub from: i64,
}

/// A timestamp as signed.
struct Signed {
    bytes: Vec<u8>,
    timestamp: Timestamp,
    /// The version of the record that holds it, where servers share a store.
    record: u64,
}

/// The published tree, read as a device reads it.
pub(crate) struct Tree {
    folder: PathBuf,
    root: Option<PathBuf>,
}

impl OnlineTimestamp {
    /// Reads the key, and the timestamp that was signed last from the server's folder.
    ///
    /// # Errors
    /// The key cannot be used, or the last timestamp cannot be read.
    pub fn load(
        config: &config::Timestamp,
        tree: &config::Tree,
        home: Home,
    ) -> Result<Self, ServerError> {
        let last = home.read()?;
        Ok(Self {
            key: load_key("timestamp key", &config.key)?,
            tree: Tree {
                folder: tree.path.clone(),
                root: tree.root.clone(),
            },
            home,
            expiry: config.expiry,
            refresh_before: config.refresh_before,
            last,
        })
    }

    /// What was signed last, if anything.
    pub fn last(&self) -> Option<&[u8]> {
        self.last.as_ref().map(|signed| signed.bytes.as_slice())
    }

    /// Whether the last timestamp should be replaced at `now` though nothing was published.
    pub fn is_due(&self, now: UtcTime) -> bool {
        let before = i64::try_from(self.refresh_before.as_secs()).unwrap_or(i64::MAX);
        self.last
            .as_ref()
            .is_none_or(|last| now.plus_secs(before) >= last.timestamp.common.expires)
    }

    /// Unix time from which on the last one may be served.
    pub fn from(&self) -> i64 {
        let signed_at = self.last.as_ref().and_then(|last| last.timestamp.signed_at);
        let held = self.is_shared().then_some(signed_at).flatten();
        held.map_or(0, |at| at.unix().saturating_add(HOLD_SECS))
    }

    /// Whether another server may sign as well.
    pub fn is_shared(&self) -> bool {
        matches!(self.home, Home::Shared(_))
    }

    /// Looks at the tree, and signs where it names a new snapshot or the last timestamp is due.
    /// What comes is new, and durable already; another server may have signed it.
    ///
    /// # Errors
    /// The tree does not verify, or the key is not the one that the root names, or the disk
    /// failed; the last timestamp stays.
    pub fn tend(&mut self, now: UtcTime) -> Result<Option<Fresh>, ServerError> {
        if let Some(theirs) = self.theirs()? {
            return Ok(Some(self.adopt(theirs)));
        }
        // A clock set back must not make a timestamp that looks older than the last one.
        let signed_last = self.last.as_ref().and_then(|last| last.timestamp.signed_at);
        let now = signed_last.map_or(now, |last| now.max(last));
        let root = self.tree.newest_root()?;
        let ring = KeyRing::of_root(root.root(), RoleType::Timestamp);
        let Some(published) = self.tree.timestamp(&ring)? else {
            return Ok(None);
        };
        if let Some(last) = &self.last {
            let (new, old) = (published.snapshot.version, last.timestamp.snapshot.version);
            if new < old {
                let fault = format!("its snapshot version {new} is older than {old}");
                return Err(self.tree.fault(fault));
            }
            let trusted = ring
                .verify::<Timestamp>("timestamp", &last.envelope()?)
                .is_ok();
            if trusted && published.snapshot == last.timestamp.snapshot && !self.is_due(now) {
                return Ok(None);
            }
        }
        let signed = self.sign(&published, now)?;
        self.rehearse(root.root(), &signed, now)?;
        let Some(record) = self.home.keep(&signed.bytes, self.last.as_ref())? else {
            // Another server was first; the next look finds what it signed.
            return Ok(None);
        };
        Ok(Some(self.adopt(Signed { record, ..signed })))
    }

    /// Signs what would be signed at `now`, reads the tree with it as a device does, and keeps
    /// nothing.
    ///
    /// # Errors
    /// As [`Self::tend`].
    pub fn try_out(&self, now: UtcTime) -> Result<(), ServerError> {
        let root = self.tree.newest_root()?;
        let ring = KeyRing::of_root(root.root(), RoleType::Timestamp);
        let Some(published) = self.tree.timestamp(&ring)? else {
            return Ok(());
        };
        let signed = self.sign(&published, now)?;
        self.rehearse(root.root(), &signed, now)
    }

    /// What another server signed since.
    fn theirs(&self) -> Result<Option<Signed>, ServerError> {
        let Home::Shared(_) = self.home else {
            return Ok(None);
        };
        let known = self.last.as_ref().map(|last| last.record);
        let theirs = self.home.read()?;
        Ok(theirs.filter(|theirs| Some(theirs.record) != known))
    }

    fn adopt(&mut self, signed: Signed) -> Fresh {
        let bytes = signed.bytes.clone();
        // Before the first one nobody serves another.
        let first = self.last.replace(signed).is_none();
        let from = if first { 0 } else { self.from() };
        Fresh { bytes, from }
    }

    fn sign(&self, published: &Timestamp, now: UtcTime) -> Result<Signed, ServerError> {
        let fault = |error: &dyn std::error::Error| ServerError::Timestamp(error.to_string());
        let secs = i64::try_from(self.expiry.as_secs()).unwrap_or(i64::MAX);
        let mut timestamp = Timestamp::new(now.plus_secs(secs), published.snapshot.clone());
        timestamp.signed_at = Some(now);
        let last = self.last.as_ref().map(|last| last.timestamp.common.version);
        let highest = last.map_or(published.common.version, |v| {
            v.max(published.common.version)
        });
        timestamp.common.version = highest
            .next()
            .ok_or_else(|| ServerError::Timestamp("its version is the last there is".into()))?;
        let mut draft = Draft::new(&timestamp);
        draft.sign(&*self.key).map_err(|error| fault(&error))?;
        Ok(Signed {
            bytes: draft.to_bytes(),
            timestamp,
            record: 0,
        })
    }

    /// Reads the tree with the new timestamp as a device does that has seen the last one.
    fn rehearse(&self, root: &Root, signed: &Signed, now: UtcTime) -> Result<(), ServerError> {
        let fault = |fault: &dyn std::error::Error| self.tree.fault(fault.to_string());
        let ring = KeyRing::of_root(root, RoleType::Timestamp);
        if let Err(error) = ring.verify::<Timestamp>("timestamp", &signed.envelope()?) {
            return Err(ServerError::Timestamp(error.to_string()));
        }
        let start = UpdateStart::new(Some(now), UtcTime::EPOCH);
        let newest = self
            .tree
            .metadata(&paths::root_file(root.common.version), LENGTHS.root)?;
        let newest = newest.ok_or_else(|| self.tree.fault("its newest root is gone".into()))?;
        let mut refresh = Refresh::begin(&newest, start, LENGTHS).map_err(|error| fault(&error))?;
        loop {
            let bytes = match refresh.step().map_err(|error| fault(&error))? {
                Step::Done => break,
                Step::Store(..) => {
                    refresh
                        .answer(Answer::Stored)
                        .map_err(|error| fault(&error))?;
                    continue;
                }
                Step::Load(name) => self.seen(&name)?,
                Step::Fetch(wanted) if wanted.file == TIMESTAMP_FILE => Some(signed.bytes.clone()),
                Step::Fetch(wanted) => self.tree.metadata(&wanted.file, wanted.max_len)?,
            };
            let answer = bytes.as_deref().map_or(Answer::NotFound, Answer::Bytes);
            refresh.answer(answer).map_err(|error| fault(&error))?;
        }
        let trusted = refresh
            .finish()
            .ok_or_else(|| self.tree.fault("it has no end".into()))?;
        self.tree.is_whole(trusted.set())
    }

    /// What a device that followed us has stored.
    fn seen(&self, name: &LocalName) -> Result<Option<Vec<u8>>, ServerError> {
        match (name, &self.last) {
            (LocalName::Timestamp, Some(last)) => Ok(Some(last.bytes.clone())),
            (LocalName::Snapshot, Some(last)) => {
                let file = paths::snapshot_file(Some(last.timestamp.snapshot.version));
                self.tree.metadata(&file, LENGTHS.snapshot)
            }
            _ => Ok(None),
        }
    }
}

impl Signed {
    fn parse(bytes: Vec<u8>) -> Result<Self, ServerError> {
        let fault = |error: String| {
            ServerError::Timestamp(format!(
                "the last one in the server's folder is bad: {error}"
            ))
        };
        let envelope = Envelope::parse(&bytes).map_err(|error| fault(error.to_string()))?;
        let timestamp = Timestamp::from_signed(envelope.unverified())
            .map_err(|error| fault(error.to_string()))?;
        Ok(Self {
            bytes,
            timestamp,
            record: 0,
        })
    }

    fn envelope(&self) -> Result<Envelope, ServerError> {
        Envelope::parse(&self.bytes).map_err(|error| ServerError::Timestamp(error.to_string()))
    }
}

impl Tree {
    /// The tree that the configuration names.
    pub(crate) fn of(config: &config::Tree) -> Self {
        Self {
            folder: config.path.clone(),
            root: config.root.clone(),
        }
    }

    /// A target, as a device that reads the tree with this timestamp comes to trust it.
    ///
    /// # Errors
    /// The tree does not verify, or the disk failed.
    pub(crate) fn find(
        &self,
        timestamp: &[u8],
        path: &TargetPath,
        now: UtcTime,
    ) -> Result<Option<TrustedTarget>, ServerError> {
        let fault = |fault: &dyn std::error::Error| self.fault(fault.to_string());
        let start = UpdateStart::new(Some(now), UtcTime::EPOCH);
        let (_, root) = match &self.root {
            Some(path) => {
                let bytes = std::fs::read(path).map_err(ServerError::file("read", path))?;
                (String::new(), bytes)
            }
            None => self.first_root()?,
        };
        let fetch = |wanted: &ampoule_protocol::client::Wanted| match wanted.file.as_str() {
            TIMESTAMP_FILE => Ok(Some(timestamp.to_vec())),
            name => self.metadata(name, wanted.max_len),
        };
        let mut refresh = Refresh::begin(&root, start, LENGTHS).map_err(|error| fault(&error))?;
        loop {
            let bytes = match refresh.step().map_err(|error| fault(&error))? {
                Step::Done => break,
                Step::Store(..) => {
                    refresh
                        .answer(Answer::Stored)
                        .map_err(|error| fault(&error))?;
                    continue;
                }
                Step::Load(_) => None,
                Step::Fetch(wanted) => fetch(&wanted)?,
            };
            let answer = bytes.as_deref().map_or(Answer::NotFound, Answer::Bytes);
            refresh.answer(answer).map_err(|error| fault(&error))?;
        }
        let no_end = || self.fault("it has no end".into());
        let mut trusted = refresh.finish().ok_or_else(no_end)?;
        let mut find = Find::new(path.clone());
        loop {
            let bytes = match find.step(&trusted).map_err(|error| fault(&error))? {
                Step::Done => return Ok(find.found().cloned()),
                Step::Store(..) => {
                    let stored = find.answer(&mut trusted, Answer::Stored);
                    stored.map_err(|error| fault(&error))?;
                    continue;
                }
                Step::Load(_) => None,
                Step::Fetch(wanted) => fetch(&wanted)?,
            };
            let answer = bytes.as_deref().map_or(Answer::NotFound, Answer::Bytes);
            find.answer(&mut trusted, answer)
                .map_err(|error| fault(&error))?;
        }
    }

    fn fault(&self, fault: String) -> ServerError {
        ServerError::Tree {
            path: self.folder.clone(),
            fault,
        }
    }

    /// A metadata file of at most `max_len` bytes; `None` where there is none.
    fn metadata(&self, name: &str, max_len: u64) -> Result<Option<Vec<u8>>, ServerError> {
        let path = self.folder.join(METADATA_DIR).join(name);
        let len = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ServerError::file("read", &path)(error)),
        };
        if len > max_len {
            return Err(self.fault(format!("{name:?} has {len} bytes, {max_len} are allowed")));
        }
        std::fs::read(&path)
            .map(Some)
            .map_err(ServerError::file("read", &path))
    }

    /// The end of the root chain.
    fn newest_root(&self) -> Result<TrustedSet<Rotating>, ServerError> {
        let fault =
            |name: &str, error: &dyn std::error::Error| self.fault(format!("{name:?}: {error}"));
        let (name, first) = match &self.root {
            Some(path) => {
                let bytes = std::fs::read(path).map_err(ServerError::file("read", path))?;
                (path.to_string_lossy().into_owned(), bytes)
            }
            None => self.first_root()?,
        };
        let mut root = TrustedSet::begin(&first).map_err(|error| fault(&name, &error))?;
        while let Some(version) = root.next_version() {
            let name = paths::root_file(version);
            let Some(bytes) = self.metadata(&name, LENGTHS.root)? else {
                break;
            };
            root = root.rotate(&bytes).map_err(|error| fault(&name, &error))?;
        }
        Ok(root)
    }

    /// The lowest version of root in the tree.
    fn first_root(&self) -> Result<(String, Vec<u8>), ServerError> {
        let folder = self.folder.join(METADATA_DIR);
        let entries = std::fs::read_dir(&folder).map_err(ServerError::file("read", &folder))?;
        let lowest = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|name| name.strip_suffix(".root.json")?.parse().ok())
            .filter_map(MetaVersion::new)
            .min()
            .ok_or_else(|| self.fault("it has no root".into()))?;
        let name = paths::root_file(lowest);
        let bytes = self.metadata(&name, LENGTHS.root)?;
        Ok((
            name,
            bytes.ok_or_else(|| self.fault("its root is gone".into()))?,
        ))
    }

    /// The signer's timestamp, signed by the keys that root names. It may have lapsed: ours takes
    /// its place. `None` where nothing was published yet.
    fn timestamp(&self, ring: &KeyRing<'_>) -> Result<Option<Timestamp>, ServerError> {
        let Some(bytes) = self.metadata(TIMESTAMP_FILE, LENGTHS.timestamp)? else {
            return Ok(None);
        };
        let envelope = Envelope::parse(&bytes)
            .map_err(|error| self.fault(format!("{TIMESTAMP_FILE:?}: {error}")))?;
        ring.verify::<Timestamp>("timestamp", &envelope)
            .map_err(|error| self.fault(error.to_string()))?;
        Timestamp::from_signed(envelope.unverified())
            .map(Some)
            .map_err(|error| self.fault(error.to_string()))
    }

    /// Every metadata file that the snapshot names is there as named: a device could read it.
    fn is_whole(
        &self,
        set: &TrustedSet<ampoule_protocol::trust::Complete>,
    ) -> Result<(), ServerError> {
        for (name, meta) in &set.snapshot().meta {
            let role = name
                .strip_suffix(".json")
                .and_then(|role| RoleName::parse(role).ok());
            let role = role.ok_or_else(|| self.fault(format!("{name:?} names no role")))?;
            let name = paths::role_file(&role, set.file_version(meta.version));
            let bytes = self.metadata(&name, LENGTHS.targets)?;
            let bytes = bytes.ok_or_else(|| self.fault(format!("{name:?} is missing")))?;
            if !meta.fits(&bytes) {
                return Err(self.fault(format!("{name:?} is not what the snapshot names")));
            }
        }
        Ok(())
    }
}

/// Reads a PKCS#8 PEM key.
pub(crate) fn load_key(
    what: &'static str,
    path: &Path,
) -> Result<Box<dyn Sign + Send + Sync>, ServerError> {
    let pem = std::fs::read_to_string(path).map_err(ServerError::file("read", path))?;
    sign::from_pkcs8_pem(&pem).map_err(|error| ServerError::pki(what, path, error))
}

/// Whether the key file can be used; for `--check-config`.
///
/// # Errors
/// It cannot.
pub fn check_key(what: &'static str, path: &Path) -> Result<(), ServerError> {
    load_key(what, path).map(drop)
}
