//! What a probe knows across restarts, and what it found: `boot-probe.json` in the agent's folder.
//!
//! ```json
//! {"format":1,"under_way":{"component":"rootfs","default":"a","stage":"armed","attempts":2,
//!  "restarts":1,"seen":[1],"since":"2026-11-28T13:00:00Z"},"found":[]}
//! ```
//!
//! Replaced as one act, before what it says is done. A file that cannot be read is no file: a probe
//! can be run again, and a device must not stop for it.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ampoule_protocol::device::BootProbe;
use ampoule_protocol::name::ComponentName;
use ampoule_protocol::time::UtcTime;
use serde::{Deserialize, Serialize};

use crate::machine::Slot;
use crate::ports::{Storage, replace};

/// Bytes of the file that are read at most.
const FILE_LEN_MAX: u64 = 64 << 10;
/// What was found of so many components is kept.
const FOUND_MAX: usize = 16;

/// A finding, as the inventory tells it too.
pub type Evidence = BootProbe;

/// How far a probe is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "stage")]
pub enum Stage {
    /// The other slot is being filled with what runs.
    Copying,
    /// It is armed, or is about to be.
    Armed,
    /// There is a verdict; the arming is being taken back.
    Ending {
        /// Whether the loader does what it must.
        passed: bool,
        /// What was seen.
        detail: String,
    },
}

/// A probe under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Whose loader is looked at.
    pub component: ComponentName,
    /// The slot that ran when it began, and is to run when it ends.
    pub default: Slot,
    /// How far it is.
    #[serde(flatten)]
    pub stage: Stage,
    /// Boots that the loader was given.
    pub attempts: u32,
    /// Restarts that were asked for.
    pub restarts: u32,
    /// Boots left, as the loader said at each boot into the trial; each less than the one before.
    pub seen: Vec<u32>,
    /// When it began.
    pub since: UtcTime,
}

impl Record {
    /// Of a probe that begins.
    pub const fn new(component: ComponentName, default: Slot, since: UtcTime) -> Self {
        Self {
            component,
            default,
            stage: Stage::Copying,
            attempts: super::ATTEMPTS,
            restarts: 0,
            seen: Vec::new(),
            since,
        }
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Content {
    format: u32,
    #[serde(default)]
    under_way: Option<Record>,
    #[serde(default)]
    found: Vec<Evidence>,
}

/// The file.
#[derive(Clone)]
pub struct Records {
    storage: Rc<dyn Storage>,
    path: PathBuf,
}

impl Records {
    /// In the agent's folder.
    pub fn new(storage: Rc<dyn Storage>, data_dir: &Path) -> Self {
        Self {
            storage,
            path: data_dir.join("boot-probe.json"),
        }
    }

    fn content(&self) -> io::Result<Content> {
        let bytes = self.storage.read(&self.path, FILE_LEN_MAX)?;
        let content = bytes.and_then(|bytes| serde_json::from_slice::<Content>(&bytes).ok());
        Ok(content
            .filter(|content| content.format == 1)
            .unwrap_or_default())
    }

    fn write(&self, mut content: Content) -> io::Result<()> {
        content.format = 1;
        let bytes = serde_json::to_vec(&content)?;
        replace(self.storage.as_ref(), &self.path, &bytes)
    }

    /// The probe under way.
    ///
    /// # Errors
    /// As the storage says.
    pub fn under_way(&self) -> io::Result<Option<Record>> {
        Ok(self.content()?.under_way)
    }

    /// What was found, one of each component.
    ///
    /// # Errors
    /// As the storage says.
    pub fn found(&self) -> io::Result<Vec<Evidence>> {
        Ok(self.content()?.found)
    }

    /// Makes a step of the probe durable.
    ///
    /// # Errors
    /// As the storage says; nothing may be acted on then.
    pub fn keep(&self, record: &Record) -> io::Result<()> {
        let mut content = self.content()?;
        if content.under_way.as_ref() == Some(record) {
            return Ok(());
        }
        content.under_way = Some(record.clone());
        self.write(content)
    }

    /// Ends the probe under way with what was found, or without.
    ///
    /// # Errors
    /// As the storage says.
    pub fn end(&self, found: Option<Evidence>) -> io::Result<()> {
        let mut content = self.content()?;
        content.under_way = None;
        if let Some(found) = found {
            content
                .found
                .retain(|older| older.component != found.component);
            content.found.push(found);
            let excess = content.found.len().saturating_sub(FOUND_MAX);
            content.found.drain(..excess);
        }
        self.write(content)
    }
}
