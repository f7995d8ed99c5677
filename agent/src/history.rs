//! The device's own memory of its updates, for people: one JSON line per update that ended.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::machine::Report;
use crate::ports::{Access, Storage};

/// Bytes after which a new file is begun; one old file is kept beside it.
const HISTORY_LEN_MAX: u64 = 1 << 20;

/// The history of one device.
pub struct History {
    storage: Rc<dyn Storage>,
    path: PathBuf,
}

impl History {
    /// In this folder.
    pub fn new(storage: Rc<dyn Storage>, folder: &Path) -> Self {
        Self {
            storage,
            path: folder.join("history.jsonl"),
        }
    }

    /// Adds an update that ended. A cut between the journal and this line may lose or repeat it;
    /// receipts, which count, are made from the journal alone.
    ///
    /// # Errors
    /// As the storage says.
    pub fn add(&self, report: &Report) -> io::Result<()> {
        let mut line = serde_json::to_vec(report).map_err(io::Error::other)?;
        line.push(b'\n');
        let mut file = self.storage.open(&self.path, Access::Make)?;
        let end = file.len()?;
        if end + line.len() as u64 > HISTORY_LEN_MAX {
            drop(file);
            self.storage
                .rename(&self.path, &self.path.with_extension("old"))?;
            file = self.storage.open(&self.path, Access::Create)?;
        }
        let end = file.len()?;
        file.write_at(&line, end)?;
        file.sync()?;
        self.storage
            .sync_dir(self.path.parent().unwrap_or(Path::new(".")))
    }

    /// All updates that ended, oldest first; lines that a cut tore are left out.
    ///
    /// # Errors
    /// As the storage says.
    pub fn all(&self) -> io::Result<Vec<Report>> {
        let mut reports = Vec::new();
        for path in [self.path.with_extension("old"), self.path.clone()] {
            let bytes = self
                .storage
                .read(&path, 2 * HISTORY_LEN_MAX)?
                .unwrap_or_default();
            let lines = bytes.split(|byte| *byte == b'\n');
            reports.extend(lines.filter_map(|line| serde_json::from_slice::<Report>(line).ok()));
        }
        reports.dedup_by_key(|report| report.seq);
        Ok(reports)
    }
}
