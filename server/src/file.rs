//! Files that must survive a power cut: written beside, synced, renamed, and the folder synced.
//!
//! After [`replace`] returns, a reader finds the new bytes, also after a power cut; before, the
//! old ones. Nobody ever finds a part.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::ServerError;

/// Who may read a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Its owner only: keys.
    Owner,
    /// Everybody: certificates, metadata.
    All,
}

impl Readers {
    const fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::All => 0o644,
        }
    }
}

/// Puts `bytes` at `path` in place of what may be there.
///
/// # Errors
/// Any of the steps failed; then the old file is whole.
pub fn replace(path: &Path, bytes: &[u8], readers: Readers) -> Result<(), ServerError> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let beside = path.with_file_name(name);
    let write = || -> io::Result<()> {
        // A file left over from a crash may have other rights than we want.
        let _ = fs::remove_file(&beside);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(readers.mode())
            .open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        sync_folder_of(path)
    };
    write().map_err(ServerError::file("write", path))
}

/// A text that is at most `len_max` bytes long.
///
/// # Errors
/// It cannot be read, is longer, or is no text.
pub fn read_text(path: &Path, len_max: u64) -> Result<String, ServerError> {
    let read = || -> io::Result<String> {
        let mut text = String::new();
        let read = File::open(path)?
            .take(len_max + 1)
            .read_to_string(&mut text)?;
        if read as u64 > len_max {
            return Err(io::Error::other(format!(
                "it is longer than {len_max} bytes"
            )));
        }
        Ok(text)
    };
    read().map_err(ServerError::file("read", path))
}

/// Writes a new file and refuses to touch one that is there.
///
/// # Errors
/// The file exists, or cannot be written.
pub fn create(path: &Path, bytes: &[u8], readers: Readers) -> Result<(), ServerError> {
    let open = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(readers.mode())
        .open(path);
    let mut file = match open {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(ServerError::Exists(path.to_path_buf()));
        }
        other => other.map_err(ServerError::file("create", path))?,
    };
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| sync_folder_of(path))
        .map_err(ServerError::file("write", path))
}

/// Makes the entries of the folder that holds `path` durable.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replace_leaves_whole_files_and_create_none_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        create(&path, b"one", Readers::Owner).unwrap();
        assert!(matches!(
            create(&path, b"two", Readers::All),
            Err(ServerError::Exists(_))
        ));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        replace(&path, b"three", Readers::All).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no file is left beside"
        );
    }
}
