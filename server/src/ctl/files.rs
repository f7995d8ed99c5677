//! Files that a person's machine keeps: read with a bound, replaced whole, secrets for their owner.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use super::CtlError;

/// A file of at most `len_max` bytes; `None` where there is none.
pub(super) fn read(path: &Path, len_max: u64) -> Result<Option<Vec<u8>>, CtlError> {
    let read = || -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut bytes = Vec::new();
        if file.take(len_max + 1).read_to_end(&mut bytes)? as u64 > len_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(Some(bytes))
    };
    read().map_err(CtlError::file("read", path))
}

/// A file that has to be there.
pub(super) fn expect(path: &Path, len_max: u64) -> Result<Vec<u8>, CtlError> {
    let absent = || CtlError::file("read", path)(io::ErrorKind::NotFound.into());
    read(path, len_max)?.ok_or_else(absent)
}

/// Puts a file in its place, durably: written beside, synced, renamed, and its folder synced.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), CtlError> {
    let mut beside = path.file_name().unwrap_or_default().to_os_string();
    beside.push(".new");
    let beside = path.with_file_name(beside);
    let write = || -> io::Result<()> {
        let _ = fs::remove_file(&beside);
        let mut file = owners_own(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        if cfg!(unix) {
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        Ok(())
    };
    write().map_err(CtlError::file("write", path))
}

/// Writes a new file, and refuses to touch one that is there.
pub(super) fn create(path: &Path, bytes: &[u8]) -> Result<(), CtlError> {
    let write = || -> io::Result<()> {
        let mut file = owners_own(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(CtlError::file("create", path))
}

/// On Windows a user's files are the user's own by the folder they are in.
fn owners_own(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
