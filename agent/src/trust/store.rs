//! The durable store of trusted metadata.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ampoule_protocol::client::LocalName;
use ampoule_protocol::error::{Coded, Guilty};
use ampoule_protocol::paths;
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::trust::TrustedSet;

use crate::ports::{Storage, replace};

/// Bytes of a stored file that are read at most; nothing longer is ever stored.
const STORED_LEN_MAX: u64 = 64 << 20;

/// The store failed.
#[derive(Debug, thiserror::Error)]
#[error("failed to {act} metadata \"{path}\"")]
pub struct StoreError {
    /// What was tried.
    pub act: &'static str,
    /// Which file.
    pub path: PathBuf,
    source: io::Error,
}

impl Coded for StoreError {
    fn code(&self) -> &'static str {
        "metadata-store-io"
    }

    fn guilty(&self) -> Guilty {
        Guilty::Device
    }
}

/// A folder of trusted metadata.
pub struct MetadataStore {
    storage: Rc<dyn Storage>,
    folder: PathBuf,
}

impl MetadataStore {
    /// Opens the store in `folder`, which is made where it is missing.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub fn open(storage: Rc<dyn Storage>, folder: &Path) -> Result<Self, StoreError> {
        let store = Self {
            storage,
            folder: folder.to_owned(),
        };
        let history = store.folder.join("root_history");
        let made = store.storage.create_dir(&history);
        made.and_then(|()| store.storage.sync_dir(&store.folder))
            .map_err(|source| StoreError {
                act: "make the folder of",
                path: history,
                source,
            })?;
        Ok(store)
    }

    /// Takes the root that the device was made with, unless there is a trusted one already: a
    /// root that was rotated since must not come back.
    ///
    /// A stored root that rotted (its own keys do not sign it any more) would end all updates: the
    /// newest whole one of the history takes its place, and only where there is none the one that
    /// the device was made with.
    ///
    /// # Errors
    /// As the storage says.
    pub fn init(&self, root: &[u8]) -> Result<(), StoreError> {
        let is_whole = |bytes: &Vec<u8>| TrustedSet::begin(bytes).is_ok();
        if self.root()?.as_ref().is_some_and(is_whole) {
            return Ok(());
        }
        for version in self.history()? {
            let past = self.read(&history_name(version))?;
            if let Some(past) = past.filter(is_whole) {
                return self.write("root.json", &past);
            }
        }
        self.write("root.json", root)
    }

    /// The versions of the roots that were trusted, newest first.
    fn history(&self) -> Result<Vec<u64>, StoreError> {
        let path = self.folder.join("root_history");
        let names = self.storage.list(&path).map_err(|source| StoreError {
            act: "list the roots of",
            path,
            source,
        })?;
        let version = |name: &String| name.strip_suffix(".root.json")?.parse().ok();
        let mut versions: Vec<u64> = names.iter().filter_map(version).collect();
        versions.sort_unstable_by(|a, b| b.cmp(a));
        Ok(versions)
    }

    /// The newest trusted root.
    ///
    /// # Errors
    /// As the storage says.
    pub fn root(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.read("root.json")
    }

    /// A stored file.
    ///
    /// # Errors
    /// As the storage says.
    pub fn load(&self, name: &LocalName) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(&file_name(name))
    }

    /// Makes a file durable, replacing what was there.
    ///
    /// # Errors
    /// As the storage says; the old file stands then.
    pub fn store(&self, name: &LocalName, bytes: &[u8]) -> Result<(), StoreError> {
        if let LocalName::Root(version) = name {
            // The history first: `root.json` is never newer than what the history can explain.
            self.write(&history_name(version.get()), bytes)?;
        }
        self.write(&file_name(name), bytes)
    }

    /// When the last trusted timestamp or bundle was signed, whichever is later and says so.
    pub fn signed_at(&self) -> Option<UtcTime> {
        let signed_at = |name, member| {
            let bytes = self.load(&name).ok().flatten()?;
            super::signed_at(&bytes, member)
        };
        let timestamp = signed_at(LocalName::Timestamp, super::SIGNED_AT);
        timestamp.max(signed_at(LocalName::Bundle, super::BUNDLE_SIGNED_AT))
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.folder.join(name);
        let read = self.storage.read(&path, STORED_LEN_MAX);
        read.map_err(|source| StoreError {
            act: "read",
            path,
            source,
        })
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.folder.join(name);
        let written = replace(self.storage.as_ref(), &path, bytes);
        written.map_err(|source| StoreError {
            act: "write",
            path,
            source,
        })
    }
}

fn history_name(version: u64) -> String {
    format!("root_history/{version}.root.json")
}

fn file_name(name: &LocalName) -> String {
    match name {
        LocalName::Root(_) => "root.json".to_owned(),
        LocalName::Timestamp => "timestamp.json".to_owned(),
        LocalName::Bundle => paths::BUNDLE_FILE.to_owned(),
        LocalName::Snapshot => "snapshot.json".to_owned(),
        LocalName::Targets(role) => format!("{}.json", role.file_stem()),
    }
}
