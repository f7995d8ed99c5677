//! The verified artifact as the files that a module is given.

use std::io::Read;
use std::path::{Component, Path};

use super::folder::Folder;
use super::{ModuleError, Order};
use crate::install::Cursor;
use crate::ports::{Access, Storage};

/// Files of one payload: stops an archive that fills the disk with names.
const FILES_MAX: usize = 1024;
/// Bytes copied at once.
const PIECE_LEN: usize = 64 << 10;

/// The artifact, whole and verified.
pub(super) struct Payload<'a> {
    storage: &'a dyn Storage,
    artifact: &'a Path,
    /// Its name in the release.
    name: &'a str,
    length: u64,
}

/// Takes a file of the payload: its name, length and content; `false` ends it.
pub(super) type Take<'t> = dyn FnMut(&str, u64, &mut dyn Read) -> Result<bool, ModuleError> + 't;

impl<'a> Payload<'a> {
    pub(super) fn of(order: &Order<'a>) -> Result<Self, ModuleError> {
        let path = order.part.artifact.path.as_str();
        let payload = Self {
            storage: order.storage,
            artifact: order.place.slot_path(order.part.slot),
            name: path.rsplit('/').next().unwrap_or(path),
            length: order.part.artifact.length,
        };
        // All names are looked at before the first byte of one is given away.
        payload.each(&mut |_, _, _| Ok(true))?;
        Ok(payload)
    }

    /// Gives each file away, in order.
    pub(super) fn each(&self, take: &mut Take<'_>) -> Result<(), ModuleError> {
        let open = self.storage.open(self.artifact, Access::Read);
        let file = open.map_err(ModuleError::io("read", self.artifact))?;
        let mut content = Cursor::new(file).take(self.length);
        let is_archive = Path::new(self.name)
            .extension()
            .is_some_and(|ending| ending == "tar");
        if !is_archive {
            return take(self.name, self.length, &mut content).map(|_| ());
        }
        let wrong = |what: String| ModuleError::Payload {
            path: self.name.to_owned(),
            what,
        };
        let read = |error: std::io::Error| wrong(format!("cannot be unpacked: {error}"));
        let mut archive = tar::Archive::new(content);
        for (count, entry) in archive.entries().map_err(read)?.enumerate() {
            if count >= FILES_MAX {
                return Err(wrong(format!("has more than {FILES_MAX} files")));
            }
            let mut entry = entry.map_err(read)?;
            let path = entry.path().map_err(read)?.into_owned();
            if entry.header().entry_type().is_dir() && plain(&path).is_none() {
                // The folder itself, as tar writes it for ".".
                continue;
            }
            let name = plain(&path).filter(|_| entry.header().entry_type().is_file());
            let Some(name) = name else {
                let path = path.display();
                return Err(wrong(format!(
                    "has \"{path}\", which is no plain file in it"
                )));
            };
            let size = entry.size();
            if !take(&name, size, &mut entry)? {
                break;
            }
        }
        Ok(())
    }

    /// Puts the files where a module finds them that reads no streams.
    pub(super) fn store(&self, folder: &Folder) -> Result<(), ModuleError> {
        folder.make_dir("files")?;
        self.each(&mut |name, _, content| {
            let name = format!("files/{name}");
            let mut file = folder.create(&name)?;
            let mut piece = vec![0; PIECE_LEN];
            loop {
                let read = content.read(&mut piece);
                let count = read.map_err(ModuleError::io("read", self.artifact))?;
                if count == 0 {
                    break;
                }
                folder.write(&name, &mut file, &piece[..count])?;
            }
            folder.sync(&name, &file)?;
            Ok(true)
        })?;
        folder.sync_dir("files")?;
        folder.sync_dir("")
    }
}

/// A name that stays where it is put, and on its line.
fn plain(path: &Path) -> Option<String> {
    let mut segments = path
        .components()
        .filter(|segment| *segment != Component::CurDir);
    let (Some(Component::Normal(name)), None) = (segments.next(), segments.next()) else {
        return None;
    };
    let name = name.to_str()?;
    (!name.chars().any(char::is_control)).then(|| name.to_owned())
}
