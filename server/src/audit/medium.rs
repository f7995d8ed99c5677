//! The folder of a log, as few operations as it takes: one seam, so that a test can cut between
//! any two of them.
//!
//! Media assumptions:
//! 1. Bytes of a file are on the disk when its sync returned, and not before.
//! 2. Names in a folder are on the disk when the folder's sync returned, and not before.
//! 3. A rename within a folder is there whole or not at all.
//! 4. After a sync that failed, nothing is known; the log is not written again by this process. A
//!    place that is shared says itself what it took, and is asked.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// See the module's head. Paths are relative, with `/` between segments.
pub trait Medium: Send {
    /// A whole file; `None` where there is none.
    ///
    /// # Errors
    /// The disk failed, or the file is longer than `len_max` (`FileTooLarge`).
    fn read(&self, path: &str, len_max: usize) -> io::Result<Option<Vec<u8>>>;

    /// Whether there is a file or folder of that name.
    ///
    /// # Errors
    /// The disk failed.
    fn exists(&self, path: &str) -> io::Result<bool>;

    /// Makes a folder in one that is there; one that exists stays.
    ///
    /// # Errors
    /// The disk failed.
    fn make_folder(&mut self, path: &str) -> io::Result<()>;

    /// Writes a file, in place of one that is there; not synced.
    ///
    /// # Errors
    /// The disk failed.
    fn write(&mut self, path: &str, bytes: &[u8]) -> io::Result<()>;

    /// Syncs a file.
    ///
    /// # Errors
    /// The disk failed.
    fn sync(&mut self, path: &str) -> io::Result<()>;

    /// Renames a file within its folder; not synced.
    ///
    /// # Errors
    /// The disk failed.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Syncs the names in a folder; `""` is the log's own.
    ///
    /// # Errors
    /// The disk failed.
    fn sync_folder(&mut self, path: &str) -> io::Result<()>;

    /// Removes a folder and the files in it; nothing where there is none.
    ///
    /// # Errors
    /// The disk failed.
    fn remove_folder(&mut self, path: &str) -> io::Result<()>;

    /// Whether other servers write here too.
    fn is_shared(&self) -> bool {
        false
    }

    /// Waits for the turn to write, among those who do. It ends with the sync of the root, or with
    /// [`Self::release`]; what was written since it began is there then whole or not at all.
    ///
    /// # Errors
    /// The place cannot be reached.
    fn turn(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Gives the turn back; nothing was written in it.
    fn release(&mut self) {}
}

/// A folder of the file system.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// This one, which is there.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        path.split('/')
            .filter(|segment| !segment.is_empty())
            .fold(self.path.clone(), |at, segment| at.join(segment))
    }
}

impl Medium for Folder {
    fn read(&self, path: &str, len_max: usize) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.at(path)) {
            Err(error) if is_absent(&error) => return Ok(None),
            other => other?,
        };
        let mut bytes = Vec::new();
        let read = file.take(len_max as u64 + 1).read_to_end(&mut bytes)?;
        if read > len_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(Some(bytes))
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        self.at(path).try_exists()
    }

    fn make_folder(&mut self, path: &str) -> io::Result<()> {
        match fs::create_dir(self.at(path)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    fn write(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        File::create(self.at(path))?.write_all(bytes)
    }

    fn sync(&mut self, path: &str) -> io::Result<()> {
        // fsync is about the file, whichever descriptor it is asked through. Windows wants one
        // that may write.
        File::options().write(true).open(self.at(path))?.sync_all()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.at(from), self.at(to))
    }

    fn sync_folder(&mut self, path: &str) -> io::Result<()> {
        if cfg!(unix) {
            return File::open(self.at(path))?.sync_all();
        }
        Ok(())
    }

    fn remove_folder(&mut self, path: &str) -> io::Result<()> {
        match fs::remove_dir_all(self.at(path)) {
            Err(error) if is_absent(&error) => Ok(()),
            other => other,
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
