//! Writing so that a crash leaves the old file or the new one, and never half of one.
//!
//! Media assumptions, numbered so that they can be questioned:
//! 1. A rename within one folder is atomic: after a crash the name means the old or the new file.
//! 2. Bytes reach the medium when `fsync` of their file has returned, not before.
//! 3. A name reaches the medium when `fsync` of its folder has returned, not before.
//! 4. Nothing is said about the order of what was not synced.
//!
//! Hence the one sequence by which this crate puts a file in place ([`put`]):
//!
//! ```text
//! open(".NAME.part", O_CREAT | O_TRUNC)   a name no reader looks at
//! write(bytes)
//! fsync(".NAME.part")                      bytes before the name (2, 4)
//! rename(".NAME.part", "NAME")             old or new (1)
//! fsync(folder)                            the name, before anything relies on it (3)
//! ```
//!
//! A crash leaves at most a `.part` file, which the next writer truncates and [`sweep`] removes.
//! Writers exclude one another by a lock (see [`crate::lock`]), so the fixed name is safe.
//!
//! Gap: Windows has no folder sync; there a rename is as durable as NTFS makes it.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::error::DiskError;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everyone the folder lets in: metadata and artifacts are public.
    Shared,
    /// The owner alone (mode 0600): keys.
    Private,
}

/// The storage operations whose order matters. Object-safe, so that a test can cut between any
/// two of them.
pub trait Disk {
    /// Makes one folder; an existing one is fine.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Creates or truncates `path` and copies all of `source` into it; not synced.
    fn write(&self, path: &Path, source: &mut dyn Read, access: Access) -> io::Result<u64>;
    /// Returns when the bytes of `path` are on the medium.
    fn sync_file(&self, path: &Path) -> io::Result<()>;
    /// Gives the file another name in the same folder, replacing what had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Returns when the names in `path` are on the medium.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes a file; an absent one is fine.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The file system of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            other => other,
        }
    }

    fn write(&self, path: &Path, source: &mut dyn Read, access: Access) -> io::Result<u64> {
        if access == Access::Private {
            // A left-over part file may carry wider rights, and O_CREAT would keep them.
            self.remove(path)?;
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        if access == Access::Private {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        let mut file = options.open(path)?;
        let copied = io::copy(source, &mut file)?;
        file.flush()?;
        Ok(copied)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)?
            .sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    #[cfg(unix)]
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    #[cfg(not(unix))]
    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// Puts `bytes` at `path` by the sequence of the module header.
pub fn put(disk: &dyn Disk, path: &Path, bytes: &[u8], access: Access) -> Result<(), DiskError> {
    put_from(disk, path, &mut { bytes }, access).map(drop)
}

/// Like [`put`], from a stream; returns how many bytes it held.
pub fn put_from(
    disk: &dyn Disk,
    path: &Path,
    source: &mut dyn Read,
    access: Access,
) -> Result<u64, DiskError> {
    let part = part_of(path);
    let copied = disk
        .write(&part, source, access)
        .map_err(DiskError::at("write", path))?;
    Incoming { part }.place(disk, path)?;
    Ok(copied)
}

/// Bytes that were written under no name yet: their name depends on them.
pub struct Incoming {
    part: PathBuf,
}

impl Incoming {
    /// Writes `source` to the part file of `path`, the first half of the sequence.
    pub fn write(disk: &dyn Disk, path: &Path, source: &mut dyn Read) -> Result<Self, DiskError> {
        let part = part_of(path);
        disk.write(&part, source, Access::Shared)
            .map_err(DiskError::at("write", path))?;
        Ok(Self { part })
    }

    /// Gives them their name in the same folder, the second half of the sequence.
    pub fn place(self, disk: &dyn Disk, path: &Path) -> Result<(), DiskError> {
        disk.sync_file(&self.part)
            .map_err(DiskError::at("sync", path))?;
        disk.rename(&self.part, path)
            .map_err(DiskError::at("rename a file to", path))?;
        disk.sync_dir(folder_of(path))
            .map_err(DiskError::at("sync the folder of", path))
    }
}

/// Moves a finished file to another folder: by renaming, or by copying where the folders lie on
/// different file systems. The new name is durable before the old one goes.
pub fn relocate(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), DiskError> {
    match disk.rename(from, to) {
        Ok(()) => {
            disk.sync_dir(folder_of(to))
                .map_err(DiskError::at("sync the folder of", to))?;
            disk.sync_dir(folder_of(from))
                .map_err(DiskError::at("sync the folder of", from))
        }
        Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {
            let mut source = fs::File::open(from).map_err(DiskError::at("read", from))?;
            put_from(disk, to, &mut source, Access::Shared)?;
            remove(disk, from)
        }
        Err(e) => Err(DiskError::at("move a file to", to)(e)),
    }
}

/// Makes `path` and what is missing above it, each folder's name synced into its parent.
pub fn create_dirs(disk: &dyn Disk, path: &Path) -> Result<(), DiskError> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    create_dirs(disk, folder_of(path))?;
    disk.create_dir(path)
        .map_err(DiskError::at("make the folder", path))?;
    disk.sync_dir(folder_of(path))
        .map_err(DiskError::at("sync the folder of", path))
}

/// Removes a file and syncs its folder.
pub fn remove(disk: &dyn Disk, path: &Path) -> Result<(), DiskError> {
    disk.remove(path).map_err(DiskError::at("remove", path))?;
    disk.sync_dir(folder_of(path))
        .map_err(DiskError::at("sync the folder of", path))
}

/// Removes `.part` files that a crash left in `folder`. To be called under the folder's lock.
pub fn sweep(disk: &dyn Disk, folder: &Path) -> Result<(), DiskError> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry.map_err(DiskError::at("list", folder))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(PART) {
            disk.remove(&entry.path())
                .map_err(DiskError::at("remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// Reads a whole file, but no more than `len_max` bytes (endless data by accident or design).
pub fn read(path: &Path, len_max: u64) -> Result<Vec<u8>, DiskError> {
    let file = fs::File::open(path).map_err(DiskError::at("read", path))?;
    let mut bytes = Vec::new();
    file.take(len_max + 1)
        .read_to_end(&mut bytes)
        .map_err(DiskError::at("read", path))?;
    if bytes.len() as u64 > len_max {
        return Err(DiskError::TooLong {
            path: path.to_owned(),
            len_max,
        });
    }
    Ok(bytes)
}

/// Like [`read`], with an absent file as `None`.
pub fn read_if_there(path: &Path, len_max: u64) -> Result<Option<Vec<u8>>, DiskError> {
    match read(path, len_max) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(DiskError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

const PART: &str = ".part";

/// The folder a file lies in; `.` for a bare name.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn part_of(path: &Path) -> PathBuf {
    let name = path
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    path.with_file_name(format!(".{name}{PART}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn put_replaces_and_leaves_no_part_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        put(&RealDisk, &path, b"old", Access::Shared).unwrap();
        put(&RealDisk, &path, b"new", Access::Shared).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    #[cfg(unix)]
    fn a_private_file_is_the_owners_alone_even_over_a_wide_part_file() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k.key");
        fs::write(part_of(&path), b"left over").unwrap();
        put(&RealDisk, &path, b"secret", Access::Private).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn sweep_removes_part_files_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".a.json.part", "b.part", ".hidden"] {
            fs::write(dir.path().join(name), b"x").unwrap();
        }
        sweep(&RealDisk, dir.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, [".hidden", "b.part"]);
    }

    #[test]
    fn reading_stops_at_the_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, b"12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert!(matches!(read(&path, 4), Err(DiskError::TooLong { .. })));
        assert!(
            read_if_there(&dir.path().join("absent"), 4)
                .unwrap()
                .is_none()
        );
    }
}
