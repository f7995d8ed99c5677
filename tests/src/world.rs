//! A repository, a device and a clock.

use std::collections::BTreeMap;

use ampoule_protocol::client::Trusted;
use ampoule_protocol::json;
use ampoule_protocol::time::UtcTime;

use crate::device::{Device, Refused};
use crate::sim::{DAWN, RepositorySimulator};

/// The versions that a device trusts, as its store says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Versions {
    /// Root.
    pub root: Option<u64>,
    /// Timestamp.
    pub timestamp: Option<u64>,
    /// Snapshot.
    pub snapshot: Option<u64>,
    /// Top-level targets.
    pub targets: Option<u64>,
    /// Delegated roles by the stem of their file.
    pub delegated: BTreeMap<String, u64>,
}

impl Versions {
    /// These four, nothing delegated.
    pub fn of(root: u64, timestamp: u64, snapshot: u64, targets: u64) -> Self {
        Self {
            root: Some(root),
            timestamp: Some(timestamp),
            snapshot: Some(snapshot),
            targets: Some(targets),
            delegated: BTreeMap::new(),
        }
    }

    /// Those of a device.
    pub fn trusted_by(device: &Device) -> Self {
        let mut versions = Self::default();
        for (name, bytes) in &device.store.files {
            let value = json::parse(bytes).ok();
            let version = value
                .as_ref()
                .and_then(|v| v.member("signed")?.member("version")?.as_u64());
            match name.as_str() {
                "root.json" => versions.root = version,
                "timestamp.json" => versions.timestamp = version,
                "snapshot.json" => versions.snapshot = version,
                "targets.json" => versions.targets = version,
                // A record of the time, not of trust.
                "bundle.json" => {}
                other => {
                    let stem = other.trim_end_matches(".json").to_owned();
                    versions.delegated.insert(stem, version.unwrap_or(0));
                }
            }
        }
        versions
    }
}

/// See the module's head.
#[derive(Clone)]
pub struct World {
    /// The repository, to be bent.
    pub repo: RepositorySimulator,
    /// The device.
    pub device: Device,
    /// What its clock says.
    pub now: UtcTime,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// A fresh repository and a device that knows its first root, at [`DAWN`].
    pub fn new() -> Self {
        Self::of(RepositorySimulator::new())
    }

    /// A device for this repository.
    ///
    /// # Panics
    /// Where the repository published no root.
    pub fn of(repo: RepositorySimulator) -> Self {
        let root = repo.tree.get("metadata/1.root.json").expect("a first root");
        let now = UtcTime::parse(DAWN).expect("a time");
        Self {
            device: Device::new(root),
            repo,
            now,
        }
    }

    /// A world whose device has refreshed once.
    ///
    /// # Panics
    /// Where a fresh repository is refused, which is what the caller builds on.
    pub fn refreshed() -> Self {
        let mut world = Self::new();
        world.refresh().expect("a fresh repository is trusted");
        world
    }

    /// The device refreshes from the repository's tree.
    ///
    /// # Errors
    /// Whatever the device refuses.
    pub fn refresh(&mut self) -> Result<Trusted, Refused> {
        self.device.refresh(&self.repo.tree, self.now)
    }

    /// The device refreshes, looks `path` up and downloads it.
    ///
    /// # Errors
    /// Whatever the device refuses.
    pub fn download(&mut self, path: &str) -> Result<Vec<u8>, Refused> {
        let mut trusted = self.refresh()?;
        self.device.download(&mut trusted, &self.repo.tree, path)
    }

    /// The code with which a refresh is refused.
    ///
    /// # Panics
    /// Where it is not.
    pub fn refusal(&mut self) -> String {
        self.refresh()
            .expect_err("the device takes what it must refuse")
            .code
    }

    /// The code with which a download is refused.
    ///
    /// # Panics
    /// Where it is not.
    pub fn download_refusal(&mut self, path: &str) -> String {
        self.download(path)
            .expect_err("the device takes what it must refuse")
            .code
    }

    /// What the device trusts.
    pub fn trusted(&self) -> Versions {
        Versions::trusted_by(&self.device)
    }

    /// Time passes.
    pub fn wait_secs(&mut self, secs: i64) {
        self.now = self.now.plus_secs(secs);
    }
}
