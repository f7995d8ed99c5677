//! A disk in memory that can lose power after any operation.
//!
//! What was not synced is, write by write, kept, lost or torn in the middle; names that were not
//! synced are all lost, all kept, or kept up to the middle.
//!
//! A folder that is on FAT keeps the bytes of a file apart from its name. A new file whose bytes were not
//! synced may show those of a file that was removed before. A rename that was not synced may have
//! left both names, or neither; and where it went over another file, that one's name may have stayed,
//! whose clusters are free: what the next new file says, it says too. A name that is removed is gone
//! before its clusters are free ([`ampoule_agent::disk::Disk`]).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ampoule_agent::ports::{Access, Kind, Storage, StoredFile};

/// What becomes of one write that was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Lost,
    Kept,
    Torn,
    /// What lay there before, which was another file's.
    Stale,
}

#[derive(Debug, Clone)]
enum Node {
    File(usize),
    Link(PathBuf),
}

#[derive(Debug, Clone)]
enum Write {
    Bytes { offset: usize, bytes: Vec<u8> },
    Len(usize),
}

#[derive(Debug, Clone, Default)]
struct Inode {
    durable: Vec<u8>,
    now: Vec<u8>,
    is_device: bool,
    is_on_fat: bool,
    /// FAT: its clusters are free, and the next new file takes them.
    is_free: bool,
}

#[derive(Debug, Clone)]
enum Naming {
    Set(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

#[derive(Debug, Clone, Default)]
struct State {
    inodes: Vec<Inode>,
    writes: Vec<(usize, Write)>,
    durable: BTreeMap<PathBuf, Node>,
    now: BTreeMap<PathBuf, Node>,
    namings: Vec<Naming>,
    operations: usize,
    cut_after: Option<usize>,
    syncs: usize,
    swallowed_sync: Option<usize>,
    /// What is on FAT: this folder, and no other.
    fat: Option<PathBuf>,
    /// FAT: the bytes of the file that was removed last.
    stale: Vec<u8>,
}

/// What may become of names that were not synced.
const NAMES: usize = 3;
/// The same on FAT, where a rename was among them.
const NAMES_FAT: usize = 5;

/// The disk; clones share it, [`SimDisk::copy`] does not.
#[derive(Clone, Default)]
pub(crate) struct SimDisk(Rc<RefCell<State>>);

impl Write {
    fn apply(&self, data: &mut Vec<u8>, fate: Fate) {
        match (self, fate) {
            // What is stale is the disk's to know.
            (_, Fate::Lost | Fate::Stale) | (Self::Len(_), Fate::Torn) => {}
            (Self::Len(len), Fate::Kept) => data.resize(*len, 0),
            (Self::Bytes { offset, bytes }, Fate::Kept | Fate::Torn) => {
                let len = if fate == Fate::Torn {
                    bytes.len() / 2
                } else {
                    bytes.len()
                };
                let end = offset + len;
                if data.len() < end {
                    data.resize(end, 0);
                }
                data[*offset..end].copy_from_slice(&bytes[..len]);
            }
        }
    }
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Self::Set(path, node) => drop(names.insert(path.clone(), node.clone())),
            Self::Remove(path) => drop(names.remove(path)),
            Self::Rename(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
        }
    }

    fn folder(&self) -> Option<&Path> {
        match self {
            Self::Set(path, _) | Self::Remove(path) | Self::Rename(_, path) => path.parent(),
        }
    }
}

impl State {
    /// Counts an operation, or fails it because the power is gone.
    fn operate(&mut self) -> io::Result<()> {
        if self.cut_after.is_some_and(|cut| self.operations >= cut) {
            return Err(io::Error::other("the power is gone"));
        }
        self.operations += 1;
        Ok(())
    }

    fn is_swallowed(&mut self) -> bool {
        self.syncs += 1;
        self.swallowed_sync == Some(self.syncs - 1)
    }

    fn name(&mut self, naming: Naming) {
        naming.apply(&mut self.now);
        self.namings.push(naming);
    }

    fn is_on_fat(&self, path: &Path) -> bool {
        self.fat.as_ref().is_some_and(|fat| path.starts_with(fat))
    }

    fn fates(&self, inode: usize) -> &'static [Fate] {
        let all = &[Fate::Lost, Fate::Kept, Fate::Torn, Fate::Stale];
        &all[..3 + usize::from(self.inodes[inode].is_on_fat)]
    }

    /// The last rename that is not durable yet.
    fn rename(&self) -> Option<(PathBuf, PathBuf)> {
        self.namings.iter().rev().find_map(|naming| match naming {
            Naming::Rename(from, to) if self.is_on_fat(to) => Some((from.clone(), to.clone())),
            Naming::Rename(..) | Naming::Set(..) | Naming::Remove(_) => None,
        })
    }

    fn outcomes_of_names(&self) -> usize {
        match (self.namings.is_empty(), self.rename()) {
            (true, _) => 1,
            (false, None) => NAMES,
            (false, Some(_)) => NAMES_FAT,
        }
    }

    /// Makes of the names that were not synced what this outcome makes of them.
    fn keep_names(&mut self, outcome: usize) {
        let before = self.durable.clone();
        let rename = self.rename();
        let namings = std::mem::take(&mut self.namings);
        let all = namings.len();
        let kept = [0, all, all.div_ceil(2), all, all][outcome % NAMES_FAT];
        for naming in &namings[..kept] {
            naming.apply(&mut self.durable);
        }
        let Some((from, to)) = rename.filter(|_| outcome >= NAMES) else {
            return;
        };
        let (new, old) = (self.durable.get(&to).cloned(), before.get(&to).cloned());
        if outcome > NAMES {
            self.durable.remove(&to);
            return;
        }
        self.durable.extend(new.map(|new| (from, new)));
        if let Some(Node::File(inode)) = old {
            self.inodes[inode].is_free = true;
            self.durable.insert(to, Node::File(inode));
        }
    }

    /// A new file takes clusters that are free, and with them the bytes of whatever names them.
    fn take_free(&mut self, of: usize) {
        let bytes = self.inodes[of].now.clone();
        if !self.inodes[of].is_on_fat {
            return;
        }
        let older = self.inodes.iter_mut().take(of);
        for inode in older.filter(|inode| inode.is_free) {
            inode.now.clone_from(&bytes);
            inode.durable.clone_from(&bytes);
        }
    }

    fn inode(&self, path: &Path) -> Option<usize> {
        match self.now.get(path)? {
            Node::File(inode) => Some(*inode),
            Node::Link(to) => self.inode(&path.parent()?.join(to)),
        }
    }
}

impl SimDisk {
    /// A disk on which this folder is on FAT.
    pub(crate) fn with_fat(folder: &str) -> Self {
        let disk = Self::default();
        disk.0.borrow_mut().fat = Some(folder.into());
        disk
    }

    /// Puts a file there, durable, as a factory does.
    pub(crate) fn put(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        self.place(path.as_ref(), bytes, false);
    }

    /// Puts a block device there.
    pub(crate) fn put_device(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        self.place(path.as_ref(), bytes, true);
    }

    fn place(&self, path: &Path, bytes: &[u8], is_device: bool) {
        let mut state = self.0.borrow_mut();
        let inode = Inode {
            durable: bytes.to_vec(),
            now: bytes.to_vec(),
            is_device,
            is_on_fat: state.is_on_fat(path),
            is_free: false,
        };
        state.inodes.push(inode);
        let node = Node::File(state.inodes.len() - 1);
        state.now.insert(path.to_owned(), node.clone());
        state.durable.insert(path.to_owned(), node);
    }

    /// What stands there now; `None` for nothing.
    pub(crate) fn bytes(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let state = self.0.borrow();
        state
            .inode(path.as_ref())
            .map(|inode| state.inodes[inode].now.clone())
    }

    /// A disk of its own with the same content, and with power.
    pub(crate) fn copy(&self) -> Self {
        let mut state = self.0.borrow().clone();
        state.cut_after = None;
        state.swallowed_sync = None;
        state.operations = 0;
        state.syncs = 0;
        Self(Rc::new(RefCell::new(state)))
    }

    /// Takes the content of another one.
    pub(crate) fn become_copy_of(&self, other: &Self) {
        let state = other.copy().0.take();
        *self.0.borrow_mut() = state;
    }

    /// Cuts the power after so many operations from now.
    pub(crate) fn cut_after(&self, operations: usize) {
        let mut state = self.0.borrow_mut();
        state.cut_after = Some(state.operations + operations);
    }

    /// Plants a mistake: from now on, does nothing at this sync, and says that it did.
    pub(crate) fn swallow_sync(&self, sync: Option<usize>) {
        let mut state = self.0.borrow_mut();
        state.syncs = 0;
        state.swallowed_sync = sync;
    }

    pub(crate) fn operations(&self) -> usize {
        self.0.borrow().operations
    }

    pub(crate) fn syncs(&self) -> usize {
        self.0.borrow().syncs
    }

    /// How many outcomes a power cut has now.
    pub(crate) fn outcomes(&self) -> usize {
        let state = self.0.borrow();
        let writes = state.writes.len();
        assert!(
            writes < 8,
            "{writes} writes without a sync: too many to enumerate"
        );
        let fates = |(inode, _): &(usize, Write)| state.fates(*inode).len();
        state.writes.iter().map(fates).product::<usize>() * state.outcomes_of_names()
    }

    /// The disk after the cut, in one of its outcomes.
    pub(crate) fn after_cut(&self, outcome: usize) -> Self {
        let disk = self.copy();
        let mut state = disk.0.borrow_mut();
        let mut rest = outcome;
        for (inode, write) in std::mem::take(&mut state.writes) {
            let fates = state.fates(inode);
            let fate = fates[rest % fates.len()];
            rest /= fates.len();
            if fate == Fate::Stale {
                let State { inodes, stale, .. } = &mut *state;
                inodes[inode].durable.clone_from(stale);
            }
            write.apply(&mut state.inodes[inode].durable, fate);
        }
        state.keep_names(rest);
        state.now = state.durable.clone();
        for inode in &mut state.inodes {
            inode.now.clone_from(&inode.durable);
        }
        drop(state);
        disk
    }
}

struct SimFile {
    disk: SimDisk,
    inode: usize,
}

impl Storage for SimDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn StoredFile>> {
        let mut state = self.0.borrow_mut();
        let inode = match (state.inode(path), access) {
            (Some(inode), Access::Create) => {
                state.operate()?;
                state.inodes[inode].now.clear();
                state.writes.push((inode, Write::Len(0)));
                inode
            }
            (Some(inode), _) => inode,
            (None, Access::Read | Access::Write) => return Err(io::ErrorKind::NotFound.into()),
            (None, Access::Make | Access::Create) => {
                state.operate()?;
                let is_on_fat = state.is_on_fat(path);
                state.inodes.push(Inode {
                    is_on_fat,
                    ..Inode::default()
                });
                let inode = state.inodes.len() - 1;
                state.name(Naming::Set(path.to_owned(), Node::File(inode)));
                inode
            }
        };
        Ok(Box::new(SimFile {
            disk: self.clone(),
            inode,
        }))
    }

    fn kind(&self, path: &Path) -> io::Result<Option<Kind>> {
        let state = self.0.borrow();
        Ok(match state.now.get(path) {
            Some(Node::File(inode)) if state.inodes[*inode].is_device => Some(Kind::Device),
            Some(Node::File(_)) => Some(Kind::File),
            Some(Node::Link(_)) => Some(Kind::Link),
            None if state.now.keys().any(|name| name.starts_with(path)) => Some(Kind::Folder),
            None => None,
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        state.operate()?;
        if !state.now.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.name(Naming::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        state.operate()?;
        if let Some(inode) = state.inode(path).filter(|_| state.is_on_fat(path)) {
            let State { inodes, stale, .. } = &mut *state;
            stale.clone_from(&inodes[inode].now);
        }
        state.name(Naming::Remove(path.to_owned()));
        Ok(())
    }

    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        state.operate()?;
        if state.is_swallowed() {
            return Ok(());
        }
        let (synced, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut state.namings)
            .into_iter()
            .partition(|naming| naming.folder() == Some(path));
        for naming in synced {
            naming.apply(&mut state.durable);
        }
        state.namings = rest;
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.0.borrow();
        let inside = state.now.keys().filter(|name| name.parent() == Some(path));
        let names = inside.filter_map(|name| name.file_name()?.to_str().map(str::to_owned));
        Ok(names.collect())
    }

    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        state.operate()?;
        state.name(Naming::Set(link.to_owned(), Node::Link(target.to_owned())));
        Ok(())
    }

    fn read_link(&self, link: &Path) -> io::Result<Option<PathBuf>> {
        Ok(match self.0.borrow().now.get(link) {
            Some(Node::Link(to)) => Some(to.clone()),
            Some(Node::File(_)) | None => None,
        })
    }

    fn set_mode(&self, _path: &Path, _mode: u32) -> io::Result<()> {
        Ok(())
    }
}

impl StoredFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.0.borrow().inodes[self.inode].now.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.0.borrow();
        let data = &state.inodes[self.inode].now;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let rest = data.get(offset..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.0.borrow_mut();
        state.operate()?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let write = Write::Bytes {
            offset,
            bytes: bytes.to_vec(),
        };
        write.apply(&mut state.inodes[self.inode].now, Fate::Kept);
        state.writes.push((self.inode, write));
        state.take_free(self.inode);
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.disk.0.borrow_mut();
        state.operate()?;
        let write = Write::Len(usize::try_from(len).map_err(io::Error::other)?);
        write.apply(&mut state.inodes[self.inode].now, Fate::Kept);
        state.writes.push((self.inode, write));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.0.borrow_mut();
        state.operate()?;
        if state.is_swallowed() {
            return Ok(());
        }
        let inode = self.inode;
        state.writes.retain(|(other, _)| *other != inode);
        let Inode { durable, now, .. } = &mut state.inodes[inode];
        durable.clone_from(now);
        Ok(())
    }

    fn forget_cached(&self) -> io::Result<()> {
        Ok(())
    }
}
