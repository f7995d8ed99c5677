//! The storage port over the file system of this machine.

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::ports::{Access, Kind, Storage, StoredFile};

/// The magic number of FAT, as `statfs` tells it (statfs(2), `MSDOS_SUPER_MAGIC`).
///
/// There a name lies beside the file's length and first cluster. Linux writes these when it writes
/// the *file*, not when its folder is synced: after a rename and a sync of the folder the medium may
/// hold the new name of an empty file. So on FAT the whole file system is synced, files first.
const FAT: rustix::fs::FsWord = 0x4d44;

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

    /// Of a block device the page cache is passed by (`O_DIRECT`): pages that the system could not
    /// drop, because somebody else looks at the device, are not the medium. Files are read as ever,
    /// after [`StoredFile::forget_cached`].
    fn open_medium(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        let file = self.open(path, Access::Read)?;
        if !fs::metadata(path)?.file_type().is_block_device() {
            return Ok(file);
        }
        Ok(match DirectFile::open(path, file.len()?) {
            Ok(direct) => Box::new(direct),
            // A driver that has no such way.
            Err(_) => file,
        })
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
            Some(Kind::File) => remove_file(path),
            Some(Kind::Link | Kind::Device) => fs::remove_file(path),
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
        let folder = File::open(path)?;
        if is_fat(&folder)? {
            return Ok(rustix::fs::syncfs(&folder)?);
        }
        folder.sync_all()
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

    fn like(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (old, new) = (fs::symlink_metadata(from)?, fs::symlink_metadata(to)?);
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            std::os::unix::fs::lchown(to, Some(old.uid()), Some(old.gid()))?;
        }
        if old.file_type().is_symlink() {
            return Ok(());
        }
        // After the owner, whose change takes some bits away.
        fs::set_permissions(to, old.permissions())
    }

    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }
}

fn is_fat(file: &File) -> io::Result<bool> {
    Ok(rustix::fs::fstatfs(file)?.f_type == FAT)
}

/// Removes a file. On FAT its name first, for good, and only then its clusters: in another order, a cut
/// leaves a name whose bytes are the next file's. A file that is open keeps its clusters.
fn remove_file(path: &Path) -> io::Result<()> {
    // A pipe is not waited for; what cannot be opened can be removed all the same.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let held = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let held = held.ok();
    fs::remove_file(path)?;
    match &held {
        Some(file) if is_fat(file)? => Ok(rustix::fs::syncfs(file)?),
        Some(_) | None => Ok(()),
    }
}

/// Bytes to which places, lengths and memory are aligned: a multiple of every sector there is.
const ALIGNMENT: usize = 4096;
/// Bytes read from a medium at once.
const DIRECT_LEN: usize = 1 << 20;

/// A block device that is read past the page cache.
struct DirectFile {
    file: File,
    len: u64,
    /// Where reads go first; longer than one read, so that an aligned place is in it.
    memory: RefCell<Vec<u8>>,
}

impl DirectFile {
    fn open(path: &Path, len: u64) -> io::Result<Self> {
        let flags = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(path)?;
        let direct = Self {
            file,
            len,
            memory: RefCell::new(vec![0; DIRECT_LEN + ALIGNMENT]),
        };
        // Some drivers say no at the first read alone.
        direct.read_at(&mut [0], 0)?;
        Ok(direct)
    }
}

impl StoredFile for DirectFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.len)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut memory = self.memory.borrow_mut();
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        let ahead = usize::try_from(offset % ALIGNMENT as u64).map_err(io::Error::other)?;
        let wanted = (ahead + buf.len())
            .next_multiple_of(ALIGNMENT)
            .min(DIRECT_LEN);
        let memory = memory
            .get_mut(start..start + wanted)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let found = self.file.read_at(memory, offset - ahead as u64)?;
        let bytes = memory.get(ahead..found).unwrap_or_default();
        let count = bytes.len().min(buf.len());
        buf[..count].copy_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn write_at(&mut self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn set_len(&mut self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn forget_cached(&self) -> io::Result<()> {
        Ok(())
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
        // fdatasync: the data, and what of the metadata is needed to read it (the length). On a
        // block device it ends with a flush of the device's own cache; closing alone does not.
        self.file.sync_data()
    }

    fn begin_sync(&self, offset: u64, len: u64) {
        // Linux begins to write dirty pages that it is told are not needed, and does not wait.
        let len = std::num::NonZeroU64::new(len);
        let _ = rustix::fs::fadvise(&self.file, offset, len, rustix::fs::Advice::DontNeed);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A block device needs root (`agent/tests/device/medium.rs`); the aligned reads do not.
    #[test]
    fn past_the_cache_every_place_and_length_reads_the_same() {
        const LEN: usize = 3 * DIRECT_LEN + 700;
        let program = std::env::current_exe().expect("a path");
        // Beside the program: a file system in memory has no way past the cache.
        let folder = tempfile::tempdir_in(program.parent().expect("a folder")).expect("writes");
        let path = folder.path().join("medium");
        let content: Vec<u8> = (0..LEN)
            .map(|at| u8::try_from(at / 7 % 251).expect("below 251"))
            .collect();
        fs::write(&path, &content).expect("writes");
        let direct = DirectFile::open(&path, LEN as u64).expect("a disk that can be read directly");
        for (offset, len) in [
            (0, 1),
            (4095, 2),
            (5, 9000),
            (0, LEN),
            (1, DIRECT_LEN),
            (DIRECT_LEN - 1, DIRECT_LEN + 2),
            (LEN - 3, 3),
        ] {
            let mut found = vec![0; len];
            direct
                .read_exact_at(&mut found, offset as u64)
                .expect("reads");
            assert!(found == content[offset..offset + len], "{offset} {len}");
        }
        direct
            .read_exact_at(&mut [0; 2], LEN as u64 - 1)
            .expect_err("the end");
    }
}
