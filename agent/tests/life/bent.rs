//! The real disk, which counts what changes it, fills up and loses its power as a test says.

use std::io;
use std::path::{Path, PathBuf};

use ampoule_agent::disk::Disk;
use ampoule_agent::ports::{Access, Kind, Storage, StoredFile};

use crate::world::Shared;

/// The real disk, with as much room as the test says.
pub(crate) struct Bent(pub(crate) Shared);

impl Storage for Bent {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn StoredFile>> {
        if access != Access::Read {
            self.0.borrow_mut().change()?;
        }
        let file = Disk.open(path, access)?;
        Ok(Box::new(BentFile(file, self.0.clone())))
    }
    fn room(&self, _path: &Path) -> io::Result<Option<(u64, u64)>> {
        Ok(self.0.borrow().room.map(|free| (free, 0)))
    }
    fn kind(&self, path: &Path) -> io::Result<Option<Kind>> {
        Disk.kind(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.borrow_mut().change()?;
        Disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.borrow_mut().change()?;
        Disk.remove(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        Disk.create_dir(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        Disk.sync_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        Disk.list(path)
    }
    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        self.0.borrow_mut().change()?;
        Disk.symlink(target, link)
    }
    fn read_link(&self, link: &Path) -> io::Result<Option<PathBuf>> {
        Disk.read_link(link)
    }
    fn like(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.like(from, to)
    }
    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        Disk.set_mode(path, mode)
    }
}

struct BentFile(Box<dyn StoredFile>, Shared);

impl StoredFile for BentFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.1.borrow_mut().change()?;
        if let Some(takes) = &mut self.1.borrow_mut().takes {
            // The journal is small and goes on; an image does not.
            if bytes.len() == 4096 {
                let left = takes.checked_sub(4096).ok_or(io::ErrorKind::StorageFull)?;
                *takes = left;
            }
        }
        self.0.write_at(bytes, offset)
    }
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.1.borrow_mut().change()?;
        self.0.set_len(len)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync()
    }
    fn forget_cached(&self) -> io::Result<()> {
        self.0.forget_cached()
    }
}
