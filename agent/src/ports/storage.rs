//! The storage port: every byte the agent keeps goes through it, so that a simulated disk can
//! stand behind it and lose power after each operation.
//!
//! What is assumed of the medium: a file is durable after [`StoredFile::sync`], its name after
//! [`Storage::sync_dir`] of its folder; a rename is atomic; a write that was not synced may be
//! kept, lost or torn.

use std::io;
use std::path::{Path, PathBuf};

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To read.
    Read,
    /// To read and write what is there.
    Write,
    /// To write, made where it is missing, as it is where it is there.
    Make,
    /// To write, made anew and empty.
    Create,
}

/// What stands under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A block device.
    Device,
}

/// Files, folders and devices.
pub trait Storage {
    /// Opens a file or block device.
    ///
    /// # Errors
    /// As the system says; `NotFound` where it is missing.
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn StoredFile>>;
    /// Opens what is on the medium, to read it: past what the system has in memory, where it can.
    ///
    /// # Errors
    /// As the system says.
    fn open_medium(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        self.open(path, Access::Read)
    }
    /// What stands there; `None` for nothing.
    ///
    /// # Errors
    /// As the system says.
    fn kind(&self, path: &Path) -> io::Result<Option<Kind>>;
    /// Renames within a folder or file system, replacing what is there.
    ///
    /// # Errors
    /// As the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file, link or whole folder; nothing is wrong if it is not there.
    ///
    /// # Errors
    /// As the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a folder and its parents.
    ///
    /// # Errors
    /// As the system says.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// As the system says.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a folder, sorted.
    ///
    /// # Errors
    /// As the system says.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Makes a symbolic link.
    ///
    /// # Errors
    /// As the system says.
    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()>;
    /// Where a symbolic link leads; `None` where there is none.
    ///
    /// # Errors
    /// As the system says.
    fn read_link(&self, link: &Path) -> io::Result<Option<PathBuf>>;
    /// Sets the permission bits of a file.
    ///
    /// # Errors
    /// As the system says.
    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()>;

    /// Gives `to` the owner of `from`, and its permission bits where it is no link.
    ///
    /// # Errors
    /// As the system says.
    fn like(&self, from: &Path, to: &Path) -> io::Result<()> {
        let _ = (from, to);
        Ok(())
    }

    /// Bytes that are free where `path` is or would be, and bytes that it takes itself; `None`
    /// where that cannot be known.
    ///
    /// # Errors
    /// As the system says.
    fn room(&self, _path: &Path) -> io::Result<Option<(u64, u64)>> {
        Ok(None)
    }

    /// The whole of a small file; `None` where it is missing.
    ///
    /// # Errors
    /// A file longer than `max_len`, and as the system says.
    fn read(&self, path: &Path, max_len: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match self.open(path, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let len = file.len()?;
        if len > max_len {
            return Err(io::Error::other(format!(
                "file has {len} bytes, expected at most {max_len}"
            )));
        }
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(Some(bytes))
    }
}

/// An open file or block device.
pub trait StoredFile {
    /// Its length in bytes; for a block device, its size.
    ///
    /// # Errors
    /// As the system says.
    fn len(&self) -> io::Result<u64>;
    /// Reads at a place; fewer bytes than asked for, at the end of the file.
    ///
    /// # Errors
    /// As the system says.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all bytes at a place.
    ///
    /// # Errors
    /// As the system says.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts or extends a file; block devices keep their size.
    ///
    /// # Errors
    /// As the system says.
    fn set_len(&mut self, len: u64) -> io::Result<()>;
    /// Makes its bytes durable.
    ///
    /// # Errors
    /// As the system says; nothing that was written since the last sync is sure then.
    fn sync(&mut self) -> io::Result<()>;
    /// Lets the medium begin to write `len` bytes from `offset`, so that a later
    /// [`StoredFile::sync`] waits for less. Nothing is sure by it.
    fn begin_sync(&self, _offset: u64, _len: u64) {}
    /// Drops what is cached, so that the next read comes from the medium.
    ///
    /// # Errors
    /// As the system says.
    fn forget_cached(&self) -> io::Result<()>;

    /// Tells the medium that nothing from `offset` to the end of a block device is needed any more;
    /// a medium that cannot be told so is left as it is.
    ///
    /// # Errors
    /// As the system says.
    fn discard(&mut self, _offset: u64) -> io::Result<()> {
        Ok(())
    }

    /// Whether it has no bytes.
    ///
    /// # Errors
    /// As the system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills the buffer from a place.
    ///
    /// # Errors
    /// `UnexpectedEof` where the file ends before.
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            let count = self.read_at(buf, offset)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buf = &mut buf[count..];
            offset += count as u64;
        }
        Ok(())
    }
}

/// Replaces a small file as one act: temporary file, sync, rename, sync of the folder.
///
/// # Errors
/// As the system says; the old file stands then.
pub fn replace(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let temporary = folder.join(name);
    let mut file = storage.open(&temporary, Access::Create)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    drop(file);
    storage.rename(&temporary, path)?;
    storage.sync_dir(folder)
}
