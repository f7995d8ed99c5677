//! The storage port over the file system of this machine.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::ports::{Access, Kind, Storage, StoredFile};

/// The file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

struct DiskFile {
    file: File,
    is_device: bool,
}

impl Storage for Disk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn StoredFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match access {
            Access::Read => &mut options,
            Access::Write => options.write(true),
            Access::Make => options.write(true).create(true).truncate(false),
            Access::Create => options.write(true).create(true).truncate(true),
        };
        let file = options.open(path)?;
        let is_device = file.metadata()?.file_type().is_block_device();
        Ok(Box::new(DiskFile { file, is_device }))
    }

    fn kind(&self, path: &Path) -> io::Result<Option<Kind>> {
        let kind = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata.file_type(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(match () {
            () if kind.is_symlink() => Kind::Link,
            () if kind.is_dir() => Kind::Folder,
            () if kind.is_block_device() => Kind::Device,
            () => Kind::File,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match self.kind(path)? {
            None => Ok(()),
            Some(Kind::Folder) => fs::remove_dir_all(path),
            Some(Kind::File | Kind::Link | Kind::Device) => fs::remove_file(path),
        }
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        File::open(path)?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        std::os::unix::fs::symlink(target, link)
    }

    fn read_link(&self, link: &Path) -> io::Result<Option<PathBuf>> {
        match fs::read_link(link) {
            Ok(target) => Ok(Some(target)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn room(&self, path: &Path) -> io::Result<Option<(u64, u64)>> {
        let held = match fs::metadata(path) {
            Ok(metadata) => metadata.blocks().saturating_mul(512),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        for place in path.ancestors() {
            let place = if place.as_os_str().is_empty() {
                Path::new(".")
            } else {
                place
            };
            match rustix::fs::statvfs(place) {
                Ok(found) => {
                    return Ok(Some((found.f_bavail.saturating_mul(found.f_frsize), held)));
                }
                Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }
}

impl StoredFile for DiskFile {
    fn len(&self) -> io::Result<u64> {
        if self.is_device {
            // The metadata of a block device says 0.
            return (&self.file).seek(SeekFrom::End(0));
        }
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        if self.is_device {
            return Ok(());
        }
        self.file.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        // fdatasync: the data, and what of the metadata is needed to read it (the length).
        self.file.sync_data()
    }

    fn discard(&mut self, offset: u64) -> io::Result<()> {
        use rustix::fs::FallocateFlags as Flags;
        let rest = self.len()?.saturating_sub(offset);
        if !self.is_device || rest == 0 {
            return Ok(());
        }
        // On a block device the kernel turns a punched hole into a deallocation, and refuses where
        // the device has none.
        let flags = Flags::PUNCH_HOLE | Flags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, flags, offset, rest) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn forget_cached(&self) -> io::Result<()> {
        // Clean pages are dropped; the caller synced before. File systems without the call (and
        // memory file systems) have no medium beneath to read from.
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
        Ok(())
    }
}
