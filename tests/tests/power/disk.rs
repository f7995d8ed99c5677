//! A disk that loses power.
//!
//! Each file and each folder has two states: what the system sees, and what is durable. A sync
//! makes one file's bytes durable, a folder sync makes the names in that one folder durable,
//! nothing else does. After the cut every operation fails, reads too, until the disk is powered
//! again; what was not synced is then, by [`Unsynced`], kept, lost, torn, or kept as names alone.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ampoule_agent::ports::{Access, Kind, Storage, StoredFile};

/// What becomes of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsynced {
    /// It reached the medium all the same.
    Kept,
    /// Nothing of it did.
    Lost,
    /// Names did, and the first half of the bytes written to each file.
    Torn,
    /// Names did, and no bytes: a rename that overtook its data.
    NamesOnly,
}

impl Unsynced {
    pub(crate) const ALL: [Self; 4] = [Self::Kept, Self::Lost, Self::Torn, Self::NamesOnly];
}

#[derive(Debug, Clone, Default)]
struct Bytes {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Writes since the last sync, in order.
    pending: Vec<(usize, Vec<u8>)>,
}

#[derive(Debug, Clone)]
enum Node {
    File(usize),
    Folder,
    Link(PathBuf),
}

#[derive(Debug, Clone, Default)]
struct Medium {
    files: Vec<Bytes>,
    live: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    /// Operations that change something, so far.
    operations: usize,
    /// The power fails after this many.
    cut_after: Option<usize>,
    /// Every slot that was opened for writing.
    written: Vec<PathBuf>,
    /// A planted mistake.
    broken: Option<BrokenSync>,
}

/// A planted mistake: syncs that do nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BrokenSync {
    /// Of every file.
    Files,
    /// Of one folder.
    Folder(PathBuf),
}

/// The disk; clones share it.
#[derive(Clone, Default)]
pub(crate) struct SimDisk(Rc<RefCell<Medium>>);

fn no_power() -> io::Error {
    io::Error::other("the power is off")
}

impl Medium {
    fn powered(&self) -> io::Result<()> {
        match self.cut_after {
            Some(cut) if self.operations >= cut => Err(no_power()),
            _ => Ok(()),
        }
    }

    /// Counts an operation that is about to change something.
    fn change(&mut self) -> io::Result<()> {
        self.powered()?;
        self.operations += 1;
        Ok(())
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.live.get(path) {
            Some(Node::File(id)) => Ok(*id),
            Some(_) => Err(io::Error::other("no file")),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl SimDisk {
    /// A copy of its own.
    pub(crate) fn fork(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone())))
    }

    /// Puts a durable file there, as the factory does.
    pub(crate) fn plant(&self, path: &str, content: &[u8]) {
        let mut medium = self.0.borrow_mut();
        let id = medium.files.len();
        let (live, durable) = (content.to_vec(), content.to_vec());
        medium.files.push(Bytes {
            live,
            durable,
            pending: Vec::new(),
        });
        for folder in Path::new(path).ancestors().skip(1) {
            medium.live.insert(folder.to_owned(), Node::Folder);
            medium.durable.insert(folder.to_owned(), Node::Folder);
        }
        medium.live.insert(path.into(), Node::File(id));
        medium.durable.insert(path.into(), Node::File(id));
    }

    /// What is in a file now; `None` where it is missing.
    pub(crate) fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let medium = self.0.borrow();
        let id = medium.file(path).ok()?;
        Some(medium.files[id].live.clone())
    }

    /// Operations so far.
    pub(crate) fn operations(&self) -> usize {
        self.0.borrow().operations
    }

    /// The power fails after `more` operations from now.
    pub(crate) fn cut_after(&self, more: usize) {
        let mut medium = self.0.borrow_mut();
        medium.cut_after = Some(medium.operations + more);
    }

    /// Whether the power has failed.
    pub(crate) fn is_off(&self) -> bool {
        self.0.borrow().powered().is_err()
    }

    /// Plants a mistake.
    pub(crate) fn break_syncs(&self, broken: BrokenSync) {
        self.0.borrow_mut().broken = Some(broken);
    }

    /// Powers the disk again.
    pub(crate) fn power_on(&self, unsynced: Unsynced) {
        let mut medium = self.0.borrow_mut();
        medium.cut_after = None;
        let Medium {
            files,
            live,
            durable,
            ..
        } = &mut *medium;
        match unsynced {
            Unsynced::Lost => live.clone_from(durable),
            Unsynced::Kept | Unsynced::Torn | Unsynced::NamesOnly => durable.clone_from(live),
        }
        for bytes in files {
            match unsynced {
                Unsynced::Kept => {}
                Unsynced::Lost | Unsynced::NamesOnly => bytes.live.clone_from(&bytes.durable),
                Unsynced::Torn => tear(bytes),
            }
            bytes.durable.clone_from(&bytes.live);
            bytes.pending.clear();
        }
    }

    /// The files that were opened for writing since the last call.
    pub(crate) fn take_written(&self) -> Vec<PathBuf> {
        std::mem::take(&mut self.0.borrow_mut().written)
    }
}

/// Half of each write that was not synced.
fn tear(bytes: &mut Bytes) {
    let mut torn = bytes.durable.clone();
    for (offset, piece) in &bytes.pending {
        let half = &piece[..piece.len() / 2];
        put(&mut torn, *offset, half);
    }
    bytes.live = torn;
}

fn put(content: &mut Vec<u8>, offset: usize, piece: &[u8]) {
    if content.len() < offset + piece.len() {
        content.resize(offset + piece.len(), 0);
    }
    content[offset..offset + piece.len()].copy_from_slice(piece);
}

struct SimFile {
    disk: SimDisk,
    id: usize,
}

impl Storage for SimDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn StoredFile>> {
        let mut medium = self.0.borrow_mut();
        medium.powered()?;
        if access != Access::Read {
            medium.written.push(path.to_owned());
        }
        let found = medium.file(path);
        let id = match (access, found) {
            (Access::Read | Access::Write, found) => found?,
            (Access::Make, Ok(id)) => id,
            (Access::Create, Ok(id)) => {
                // A truncation of a file that is there; nothing of it is durable yet.
                medium.change()?;
                medium.files[id].live.clear();
                id
            }
            (Access::Make | Access::Create, Err(_)) => {
                medium.change()?;
                medium.files.push(Bytes::default());
                let id = medium.files.len() - 1;
                medium.live.insert(path.to_owned(), Node::File(id));
                id
            }
        };
        Ok(Box::new(SimFile {
            disk: self.clone(),
            id,
        }))
    }

    fn kind(&self, path: &Path) -> io::Result<Option<Kind>> {
        let medium = self.0.borrow();
        medium.powered()?;
        Ok(medium.live.get(path).map(|node| match node {
            Node::File(_) => Kind::File,
            Node::Folder => Kind::Folder,
            Node::Link(_) => Kind::Link,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut medium = self.0.borrow_mut();
        medium.change()?;
        let node = medium.live.remove(from).ok_or(io::ErrorKind::NotFound)?;
        medium.live.insert(to.to_owned(), node);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut medium = self.0.borrow_mut();
        medium.change()?;
        medium.live.retain(|name, _| !name.starts_with(path));
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut medium = self.0.borrow_mut();
        medium.powered()?;
        for folder in path.ancestors() {
            if !medium.live.contains_key(folder) {
                medium.change()?;
                medium.live.insert(folder.to_owned(), Node::Folder);
            }
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut medium = self.0.borrow_mut();
        medium.change()?;
        if medium.broken == Some(BrokenSync::Folder(path.to_owned())) {
            return Ok(());
        }
        let Medium { live, durable, .. } = &mut *medium;
        durable.retain(|name, _| name.parent() != Some(path) || live.contains_key(name));
        for (name, node) in live.iter().filter(|(name, _)| name.parent() == Some(path)) {
            durable.insert(name.clone(), node.clone());
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let medium = self.0.borrow();
        medium.powered()?;
        let inside = medium
            .live
            .keys()
            .filter(|name| name.parent() == Some(path));
        let name = |path: &PathBuf| {
            path.file_name()
                .map(|name| name.to_string_lossy().into_owned())
        };
        Ok(inside.filter_map(name).collect())
    }

    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        let mut medium = self.0.borrow_mut();
        medium.change()?;
        medium
            .live
            .insert(link.to_owned(), Node::Link(target.to_owned()));
        Ok(())
    }

    fn read_link(&self, link: &Path) -> io::Result<Option<PathBuf>> {
        let medium = self.0.borrow();
        medium.powered()?;
        Ok(match medium.live.get(link) {
            Some(Node::Link(target)) => Some(target.clone()),
            _ => None,
        })
    }

    fn set_mode(&self, _path: &Path, _mode: u32) -> io::Result<()> {
        self.0.borrow().powered()
    }
}

impl StoredFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        let medium = self.disk.0.borrow();
        medium.powered()?;
        Ok(medium.files[self.id].live.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let medium = self.disk.0.borrow();
        medium.powered()?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let rest = medium.files[self.id].live.get(offset..).unwrap_or_default();
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut medium = self.disk.0.borrow_mut();
        medium.change()?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let file = &mut medium.files[self.id];
        put(&mut file.live, offset, bytes);
        file.pending.push((offset, bytes.to_vec()));
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let mut medium = self.disk.0.borrow_mut();
        medium.change()?;
        let len = usize::try_from(len).map_err(io::Error::other)?;
        medium.files[self.id].live.resize(len, 0);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut medium = self.disk.0.borrow_mut();
        medium.change()?;
        if medium.broken == Some(BrokenSync::Files) {
            return Ok(());
        }
        let file = &mut medium.files[self.id];
        file.durable.clone_from(&file.live);
        file.pending.clear();
        Ok(())
    }

    fn forget_cached(&self) -> io::Result<()> {
        self.disk.0.borrow().powered()
    }
}
