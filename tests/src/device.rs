//! A device as far as trust goes: the client rules of `protocol`, over a store in memory.
//!
//! The agent's own store on disk is tested with the agent; this one is quick enough for a hundred
//! thousand mutants and can be cut before any write.

use std::collections::BTreeMap;

use ampoule_protocol::client::{
    self, Answer, Find, LocalName, Refresh, Releases, Search, Step, Trusted, Wanted,
};
use ampoule_protocol::digest::Digest;
use ampoule_protocol::error::{Coded, Guilty};
use ampoule_protocol::limits::Lengths;
use ampoule_protocol::name::{ProductName, TargetPath};
use ampoule_protocol::paths;
use ampoule_protocol::release::{FileRef, Release};
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::tree::{BlockTree, TreeError};
use ampoule_protocol::trust::{TrustError, TrustedTarget, UpdateStart};

use crate::sim::Tree;

/// Why a device did not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The stable code.
    pub code: String,
    /// Whose fault.
    pub guilty: Guilty,
    /// The sentence.
    pub text: String,
}

impl Refused {
    /// By one of our rules.
    pub fn by(error: &dyn Coded) -> Self {
        Self {
            code: error.code().into(),
            guilty: error.guilty(),
            text: error.to_string(),
        }
    }

    fn new(code: &str, guilty: Guilty, text: String) -> Self {
        Self {
            code: code.into(),
            guilty,
            text,
        }
    }
}

impl From<TrustError> for Refused {
    fn from(error: TrustError) -> Self {
        Self::by(&error)
    }
}

/// What comes back for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// These bytes.
    Bytes(Vec<u8>),
    /// There is no such file.
    NotFound,
    /// More bytes than were allowed, so reading stopped.
    TooLong,
}

/// A source of files by their path in the published tree.
pub trait Source {
    /// At most `max_len` bytes of `path`.
    fn fetch(&mut self, path: &str, max_len: u64) -> Fetched;
}

impl Source for &Tree {
    fn fetch(&mut self, path: &str, max_len: u64) -> Fetched {
        match self.get(path) {
            None => Fetched::NotFound,
            Some(bytes) if bytes.len() as u64 > max_len => Fetched::TooLong,
            Some(bytes) => Fetched::Bytes(bytes.clone()),
        }
    }
}

impl<F: FnMut(&str, u64) -> Fetched> Source for F {
    fn fetch(&mut self, path: &str, max_len: u64) -> Fetched {
        self(path, max_len)
    }
}

/// The device's store: bytes as they were served, by the names the agent gives its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Store {
    /// `root.json`, `timestamp.json`, …
    pub files: BTreeMap<String, Vec<u8>>,
    /// Writes left before the power fails; none means that it does not.
    pub writes_left: Option<usize>,
}

/// The name of a stored file.
pub fn stored_name(name: &LocalName) -> String {
    match name {
        LocalName::Root(_) => "root.json".into(),
        LocalName::Timestamp => paths::TIMESTAMP_FILE.into(),
        LocalName::Bundle => paths::BUNDLE_FILE.into(),
        LocalName::Snapshot => paths::snapshot_file(None),
        LocalName::Targets(role) => paths::role_file(role, None),
    }
}

/// What a device would run now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The release.
    pub release: Release,
    /// The digest of its image, every block of which was checked.
    pub image: Digest,
}

/// See the module's head.
#[derive(Debug, Clone)]
pub struct Device {
    /// What it keeps.
    pub store: Store,
    /// Its bounds.
    pub lengths: Lengths,
    /// The requests that it made, in order.
    pub requests: Vec<String>,
}

impl Device {
    /// With this root, put there at manufacture.
    pub fn new(root: &[u8]) -> Self {
        let files = BTreeMap::from([("root.json".to_owned(), root.to_vec())]);
        let store = Store {
            files,
            writes_left: None,
        };
        Self {
            store,
            lengths: Lengths::DEFAULT,
            requests: Vec::new(),
        }
    }

    /// One refresh from `source` at the time `now`.
    ///
    /// # Errors
    /// Whatever the device refuses; what it stored before stays.
    pub fn refresh(&mut self, source: impl Source, now: UtcTime) -> Result<Trusted, Refused> {
        self.refresh_at(source, UpdateStart::new(Some(now), UtcTime::EPOCH))
    }

    /// The same, at a time that may be a floor only.
    pub fn refresh_at(
        &mut self,
        source: impl Source,
        start: UpdateStart,
    ) -> Result<Trusted, Refused> {
        self.refresh_from(client::Source::Repository, source, start)
    }

    /// The same from a bundle, whose statement is `metadata/bundle.json` of `source`.
    ///
    /// # Errors
    /// Whatever the device refuses.
    pub fn refresh_bundle(
        &mut self,
        source: impl Source,
        now: UtcTime,
    ) -> Result<Trusted, Refused> {
        let start = UpdateStart::new(Some(now), UtcTime::EPOCH);
        self.refresh_from(client::Source::Bundle, source, start)
    }

    fn refresh_from(
        &mut self,
        kind: client::Source,
        mut source: impl Source,
        start: UpdateStart,
    ) -> Result<Trusted, Refused> {
        let root = self
            .store
            .files
            .get("root.json")
            .cloned()
            .unwrap_or_default();
        let mut refresh = Refresh::begin_from(kind, &root, start, self.lengths)?;
        loop {
            match refresh.step()? {
                Step::Load(name) => {
                    let bytes = self.store.files.get(&stored_name(&name)).cloned();
                    refresh.answer(answer(bytes.as_deref()))?;
                }
                Step::Fetch(wanted) => {
                    let bytes = self.fetch(&mut source, &wanted)?;
                    refresh.answer(answer(bytes.as_deref()))?;
                }
                Step::Store(name, bytes) => {
                    self.write(&name, bytes)?;
                    refresh.answer(Answer::Stored)?;
                }
                Step::Done => break,
            }
        }
        Ok(refresh
            .finish()
            .expect("a refresh that is done has its result"))
    }

    /// Looks `path` up.
    ///
    /// # Errors
    /// No role describes it; a role is refused.
    pub fn find(
        &mut self,
        trusted: &mut Trusted,
        mut source: impl Source,
        path: &str,
    ) -> Result<TrustedTarget, Refused> {
        self.find_in(trusted, &mut source, path)
    }

    fn find_in(
        &mut self,
        trusted: &mut Trusted,
        source: &mut impl Source,
        path: &str,
    ) -> Result<TrustedTarget, Refused> {
        let path = TargetPath::parse(path)
            .map_err(|error| Refused::new("bad-path", Guilty::Operator, error.to_string()))?;
        let mut find = Find::new(path.clone());
        self.converse(&mut find, trusted, source)?;
        let text = format!("no role describes \"{path}\"");
        let unknown = Refused::new("target-unknown", Guilty::Repository, text);
        find.found().cloned().ok_or(unknown)
    }

    /// Looks `path` up and downloads it.
    ///
    /// # Errors
    /// No role describes it; a role or the content is refused.
    pub fn download(
        &mut self,
        trusted: &mut Trusted,
        mut source: impl Source,
        path: &str,
    ) -> Result<Vec<u8>, Refused> {
        let target = self.find_in(trusted, &mut source, path)?;
        let path = target.path().clone();
        let hashes = trusted
            .set()
            .root()
            .consistent_snapshot
            .then_some(&target.file().hashes);
        let file = format!(
            "{}/{}",
            paths::TARGETS_DIR,
            paths::target_file(&path, hashes)
        );
        self.requests.push(file.clone());
        let refused = |code: &str, what: &str| {
            Refused::new(
                code,
                Guilty::Repository,
                format!("target \"{path}\" {what}"),
            )
        };
        match source.fetch(&file, target.file().length) {
            Fetched::NotFound => Err(refused("target-missing", "is not served")),
            Fetched::TooLong => Err(refused("target-too-long", "is longer than described")),
            Fetched::Bytes(bytes) => {
                let fits = bytes.len() as u64 == target.file().length
                    && target.file().hashes.verify(&bytes);
                if fits {
                    Ok(bytes)
                } else {
                    Err(refused("target-mismatch", "is another file"))
                }
            }
        }
    }

    /// Refreshes, chooses the newest release of `product`, downloads its image and checks it block
    /// by block: all that a device does before it writes.
    ///
    /// # Errors
    /// Whatever the device refuses.
    pub fn install(
        &mut self,
        mut source: impl Source + Copy,
        now: UtcTime,
        product: &ProductName,
    ) -> Result<Installed, Refused> {
        let mut trusted = self.refresh(source, now)?;
        let mut search = Releases::new(product.clone());
        self.converse(&mut search, &mut trusted, &mut source)?;
        let mut newest: Option<Release> = None;
        for target in search.found(&trusted) {
            let release = Release::of_target(&target).map_err(|error| Refused::by(&error))?;
            if newest
                .as_ref()
                .is_none_or(|other| other.rollback_index < release.rollback_index)
            {
                newest = Some(release);
            }
        }
        let none = || Refused::new("no-release", Guilty::Repository, format!("for {product}"));
        let release = newest.ok_or_else(none)?;
        let component = release.components.first().ok_or_else(none)?;
        let blocks = |error: TreeError| {
            Refused::new("block-mismatch", Guilty::Repository, error.to_string())
        };
        let mut get = |file: &FileRef| self.download(&mut trusted, source, file.path.as_str());
        let leaves = get(&component.blocks.leaves)?;
        let shape = component.shape().map_err(blocks)?;
        let tree =
            BlockTree::from_leaves(shape, &component.blocks.root, &leaves).map_err(blocks)?;
        let image = get(&component.artifact)?;
        let block_len = component.blocks.block_len as usize;
        for (index, block) in (0..).zip(image.chunks(block_len)) {
            tree.check(index, block).map_err(blocks)?;
        }
        Ok(Installed {
            image: Digest::of(&image),
            release,
        })
    }

    /// Drives `search` to its end.
    fn converse(
        &mut self,
        search: &mut impl Search,
        trusted: &mut Trusted,
        source: &mut impl Source,
    ) -> Result<(), Refused> {
        loop {
            match search.step(trusted)? {
                Step::Load(name) => {
                    let bytes = self.store.files.get(&stored_name(&name)).cloned();
                    search.answer(trusted, answer(bytes.as_deref()))?;
                }
                Step::Fetch(wanted) => {
                    let bytes = self.fetch(source, &wanted)?;
                    search.answer(trusted, answer(bytes.as_deref()))?;
                }
                Step::Store(name, bytes) => {
                    self.write(&name, bytes)?;
                    search.answer(trusted, Answer::Stored)?;
                }
                Step::Done => return Ok(()),
            }
        }
    }

    fn fetch(
        &mut self,
        source: &mut impl Source,
        wanted: &Wanted,
    ) -> Result<Option<Vec<u8>>, Refused> {
        self.requests.push(wanted.file.clone());
        let path = format!("{}/{}", paths::METADATA_DIR, wanted.file);
        match source.fetch(&path, wanted.max_len) {
            Fetched::Bytes(bytes) => Ok(Some(bytes)),
            Fetched::NotFound => Ok(None),
            Fetched::TooLong => {
                let text = format!(
                    "\"{}\" is longer than {} bytes",
                    wanted.file, wanted.max_len
                );
                Err(Refused::new("metadata-too-long", Guilty::Repository, text))
            }
        }
    }

    fn write(&mut self, name: &LocalName, bytes: Vec<u8>) -> Result<(), Refused> {
        if let Some(left) = &mut self.store.writes_left {
            if *left == 0 {
                let text = "the power failed".to_owned();
                return Err(Refused::new("power-cut", Guilty::Device, text));
            }
            *left -= 1;
        }
        self.store.files.insert(stored_name(name), bytes);
        Ok(())
    }

    /// A digest over all that it keeps: equal digests, equal trust.
    pub fn fingerprint(&self) -> Digest {
        let mut all = Vec::new();
        for (name, bytes) in &self.store.files {
            all.extend_from_slice(name.as_bytes());
            all.extend_from_slice(Digest::of(bytes).as_bytes());
        }
        Digest::of(&all)
    }
}

fn answer(bytes: Option<&[u8]>) -> Answer<'_> {
    bytes.map_or(Answer::NotFound, Answer::Bytes)
}
