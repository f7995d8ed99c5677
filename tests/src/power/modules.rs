//! Update modules as programs over the simulated disk.
//!
//! One is as naive as modules are: it installs a file, keeps what was there before, and puts that back;
//! a second `ArtifactInstall` would take the new file for the old one. That it is never called twice is
//! the agent's to see to. The other is ours, `ampoule-in-place`: the power fails inside of it, too.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ampoule_agent::in_place::{InPlace, InPlaceConfig, InPlaceError};
use ampoule_agent::install::Place;
use ampoule_agent::module::{ModuleError, Modules, Order};
use ampoule_agent::ports::{Access, Storage, replace};
use ampoule_protocol::release::Install;

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

    /// The files of an archive, durable.
    fn unpack(&self, artifact: &Path, folder: &Path) -> Result<(), ModuleError> {
        let unpacked = self.disk.read(artifact, FILE_LEN_MAX).and_then(|bytes| {
            self.disk.create_dir(folder)?;
            let mut archive = tar::Archive::new(io::Cursor::new(bytes.unwrap_or_default()));
            for entry in archive.entries()? {
                let mut entry = entry?;
                let mut content = Vec::new();
                entry.read_to_end(&mut content)?;
                let mut file = self
                    .disk
                    .open(&folder.join(entry.path()?), Access::Create)?;
                file.write_at(&content, 0)?;
                file.sync()?;
            }
            self.disk.sync_dir(folder)?;
            self.disk.sync_dir(folder.parent().unwrap_or(folder))
        });
        unpacked.map_err(|source| failed(folder, source))
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

/// Whether the image of this component is rewritten where it stands.
pub(super) fn is_in_place(place: &Place) -> bool {
    matches!(&place.install, Install::Module(name) if name.as_str() == "in-place")
}

/// One call of `ampoule-in-place`.
pub(super) fn call_in_place(
    disk: &SimDisk,
    place: &Place,
    state: &'static str,
) -> Result<(), InPlaceError> {
    let config = InPlaceConfig {
        image: place.visible.clone(),
        state: Path::new(DATA_DIR).join("in-place"),
        memory_max: 16 << 20,
        scratch_max: 1 << 20,
        restart: false,
    };
    let module = InPlace {
        storage: disk,
        config: &config,
        work: &SimModules::folder(place),
    };
    module.call(state).map(|_| ())
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
        if is_in_place(order.place) {
            return self.unpack(artifact, &folder.join("files"));
        }
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
        if is_in_place(place) {
            let called = call_in_place(&self.disk, place, state);
            return called.map_err(|error| ModuleError::Failed {
                module: "in-place".to_owned(),
                state,
                how: error.to_string(),
                output: String::new(),
            });
        }
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
