//! The work folder of a module: what it may read, made from our signed description.
//!
//! ```text
//!   version, current_artifact_{name,group}, current_device_type     one line each
//!   header/{artifact_name,artifact_group,payload_type}              bare values
//!   header/{header-info,type-info,meta-data}                        JSON
//!   tmp/                                                            the module's own
//!   stream-next, streams/                                           pipes, during Download
//!   files/                                                          where those were not read
//! ```

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use ampoule_protocol::release::Install;
use serde_json::json;

use super::{ModuleError, Order};

/// A work folder.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Made anew, and durable.
    pub(super) fn make(path: &Path, order: &Order<'_>) -> Result<Self, ModuleError> {
        remove(path)?;
        let folder = Self(path.to_owned());
        folder.make_dir("tmp")?;
        folder.make_dir("header")?;
        let plan = order.plan;
        let name = |version: &str| format!("{}-{version}", order.product);
        let before = order.part.before.as_ref();
        let before = before.and_then(|image| image.version.as_ref());
        let before = before.map(|version| name(&version.to_string()) + "\n");
        let name = name(&plan.version.to_string());
        let module = match &order.part.install {
            Install::Module(module) => module.as_str(),
            Install::Slot | Install::Tree | Install::File => "",
        };
        let info = json!({
            "payloads": [{"type": module}],
            "artifact_provides": {"artifact_name": name},
            "artifact_depends": {"device_type": [order.hardware.as_str()]},
        });
        let meta_data = order.part.meta_data.as_deref().unwrap_or("{}");
        for (path, content) in [
            ("version", "3\n".to_owned()),
            ("current_artifact_name", before.unwrap_or_default()),
            ("current_artifact_group", String::new()),
            ("current_device_type", format!("{}\n", order.hardware)),
            ("header/artifact_name", name),
            ("header/artifact_group", String::new()),
            ("header/payload_type", module.to_owned()),
            ("header/header-info", info.to_string()),
            ("header/type-info", json!({"type": module}).to_string()),
            ("header/meta-data", meta_data.to_owned()),
        ] {
            let mut file = folder.create(path)?;
            folder.write(path, &mut file, content.as_bytes())?;
            folder.sync(path, &file)?;
        }
        for path in ["header", "tmp", ""] {
            folder.sync_dir(path)?;
        }
        Ok(folder)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() {
            return self.0.clone();
        }
        self.0.join(name)
    }

    pub(super) fn make_dir(&self, name: &str) -> Result<(), ModuleError> {
        let path = self.path(name);
        fs::create_dir_all(&path).map_err(ModuleError::io("make", &path))
    }

    pub(super) fn create(&self, name: &str) -> Result<File, ModuleError> {
        let path = self.path(name);
        File::create(&path).map_err(ModuleError::io("write", &path))
    }

    pub(super) fn write(
        &self,
        name: &str,
        file: &mut File,
        bytes: &[u8],
    ) -> Result<(), ModuleError> {
        let path = self.path(name);
        file.write_all(bytes)
            .map_err(ModuleError::io("write", &path))
    }

    pub(super) fn sync(&self, name: &str, file: &File) -> Result<(), ModuleError> {
        let path = self.path(name);
        file.sync_all().map_err(ModuleError::io("sync", &path))
    }

    pub(super) fn sync_dir(&self, name: &str) -> Result<(), ModuleError> {
        let path = self.path(name);
        File::open(&path)
            .and_then(|folder| folder.sync_all())
            .map_err(ModuleError::io("sync", &path))
    }

    pub(super) fn make_streams(&self) -> Result<(), ModuleError> {
        self.make_dir("streams")?;
        self.make_pipe("stream-next")
    }

    /// A named pipe; a new one, where there was one before.
    pub(super) fn make_pipe(&self, name: &str) -> Result<(), ModuleError> {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let path = self.path(name);
        self.remove_pipe(name)?;
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .map_err(|error| ModuleError::io("make", &path)(error.into()))
    }

    /// Takes a pipe's name away: who has it open goes on, nobody opens it again.
    pub(super) fn remove_pipe(&self, name: &str) -> Result<(), ModuleError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(ModuleError::io("remove", &path)(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(super) fn remove_streams(&self) -> Result<(), ModuleError> {
        self.remove_pipe("stream-next")?;
        remove(&self.path("streams"))
    }
}

/// Removes a folder with all that is in it; nothing is wrong if it is not there.
pub(super) fn remove(path: &Path) -> Result<(), ModuleError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(ModuleError::io("remove", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
