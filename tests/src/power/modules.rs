//! An update module as a program over the simulated disk: it installs one file, keeps what was there
//! before, and puts that back.
//!
//! As naive as modules are: a second `ArtifactInstall` would take the new file for the old one. That it
//! is never called twice is the agent's to see to.

use std::io;
use std::path::{Path, PathBuf};

use ampoule_agent::install::Place;
use ampoule_agent::module::{ModuleError, Modules, Order};
use ampoule_agent::ports::{Storage, replace};

use super::disk::SimDisk;
use super::life::DATA_DIR;

/// Bytes of a file that a module reads at most.
const FILE_LEN_MAX: u64 = 1 << 20;

pub(super) struct SimModules {
    pub(super) disk: SimDisk,
    /// Whether what it installs takes a restart.
    pub(super) restarts: bool,
}

impl SimModules {
    fn folder(place: &Place) -> PathBuf {
        Path::new(DATA_DIR)
            .join("modules")
            .join(place.component.as_str())
    }

    /// Copies a file whole, where there is one.
    fn copy(&self, from: &Path, to: &Path) -> Result<(), ModuleError> {
        let copied = self.disk.read(from, FILE_LEN_MAX).and_then(|bytes| {
            let replaced = bytes.map(|bytes| replace(&self.disk, to, &bytes));
            replaced.unwrap_or(Ok(()))
        });
        copied.map_err(|source| failed(to, source))
    }

    /// Made anew, and durable.
    fn make(&self, folder: &Path) -> io::Result<()> {
        self.disk.remove(folder)?;
        self.disk.create_dir(folder)?;
        let above = folder.ancestors().skip(1).take(2);
        above
            .into_iter()
            .try_for_each(|folder| self.disk.sync_dir(folder))
    }
}

fn failed(path: &Path, source: io::Error) -> ModuleError {
    ModuleError::Io {
        act: "copy",
        path: path.to_owned(),
        source,
    }
}

impl Modules for SimModules {
    fn download(&mut self, order: &Order<'_>) -> Result<(), ModuleError> {
        let folder = Self::folder(order.place);
        self.make(&folder)
            .map_err(|source| failed(&folder, source))?;
        let artifact = order.place.slot_path(order.part.slot);
        self.copy(artifact, &folder.join("payload"))
    }

    fn ask(&mut self, _place: &Place, question: &'static str) -> Result<String, ModuleError> {
        let answer = match question {
            "SupportsRollback" => "Yes",
            "NeedsArtifactReboot" if self.restarts => "Automatic",
            _ => "No",
        };
        Ok(answer.to_owned())
    }

    fn call(&mut self, place: &Place, state: &'static str) -> Result<(), ModuleError> {
        let folder = Self::folder(place);
        match state {
            "ArtifactInstall" => {
                self.copy(&place.visible, &folder.join("before"))?;
                self.copy(&folder.join("payload"), &place.visible)
            }
            "ArtifactRollback" => self.copy(&folder.join("before"), &place.visible),
            _ => Ok(()),
        }
    }

    fn forget(&mut self, place: &Place) -> Result<(), ModuleError> {
        let folder = Self::folder(place);
        let removed = self.disk.remove(&folder).and_then(|()| {
            let above = folder.parent().unwrap_or(Path::new(DATA_DIR));
            match self.disk.kind(above)? {
                Some(_) => self.disk.sync_dir(above),
                None => Ok(()),
            }
        });
        removed.map_err(|source| failed(&folder, source))
    }
}
