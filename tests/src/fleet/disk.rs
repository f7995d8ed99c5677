//! A disk in memory for one of many devices: it loses power after an operation, and what many
//! devices have alike (images, metadata of the image repository) is kept once.
//!
//! Every write is durable at once; `power::disk` is the disk that knows what was synced.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};

use ampoule_agent::ports::{Access, Kind, Storage, StoredFile};

/// Shorter files are not worth a look into the table.
const SHARED_LEN_MIN: usize = 512;

/// The content that disks have in common.
#[derive(Default)]
pub(super) struct Common(RefCell<HashMap<u64, Vec<Weak<Vec<u8>>>>>);

impl Common {
    fn share(&self, content: &mut Rc<Vec<u8>>) {
        if content.len() < SHARED_LEN_MIN {
            return;
        }
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        let mut all = self.0.borrow_mut();
        let alike = all.entry(hasher.finish()).or_default();
        alike.retain(|known| known.strong_count() > 0);
        match alike
            .iter()
            .filter_map(Weak::upgrade)
            .find(|known| known == content)
        {
            Some(known) => *content = known,
            None => alike.push(Rc::downgrade(content)),
        }
    }
}

/// The disk; clones share it.
#[derive(Clone)]
pub(super) struct Disk(Rc<Medium>);

struct Medium {
    files: RefCell<BTreeMap<PathBuf, Rc<Vec<u8>>>>,
    common: Rc<Common>,
    /// Operations until the power fails.
    left: Cell<Option<usize>>,
}

impl Disk {
    pub(super) fn new(common: Rc<Common>) -> Self {
        Self(Rc::new(Medium {
            files: RefCell::default(),
            common,
            left: Cell::new(None),
        }))
    }

    pub(super) fn plant(&self, path: &Path, content: Vec<u8>) {
        let mut content = Rc::new(content);
        self.0.common.share(&mut content);
        self.0.files.borrow_mut().insert(path.to_owned(), content);
    }

    pub(super) fn content(&self, path: &Path) -> Option<Rc<Vec<u8>>> {
        self.0.files.borrow().get(path).cloned()
    }

    /// The power fails after `more` operations; with nothing it stays, or comes back.
    pub(super) fn power(&self, more: Option<usize>) {
        self.0.left.set(more);
    }

    pub(super) fn is_off(&self) -> bool {
        self.0.left.get() == Some(0)
    }
}

impl Medium {
    fn powered(&self) -> io::Result<()> {
        if self.left.get() == Some(0) {
            return Err(io::Error::other("the power failed"));
        }
        Ok(())
    }

    /// One more operation that changes something.
    fn change(&self) -> io::Result<()> {
        self.powered()?;
        if let Some(left) = self.left.get() {
            self.left.set(Some(left - 1));
        }
        self.powered()
    }
}

impl Storage for Disk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn StoredFile>> {
        self.0.powered()?;
        let is_there = self.0.files.borrow().contains_key(path);
        match (access, is_there) {
            (Access::Read | Access::Write, false) => return Err(io::ErrorKind::NotFound.into()),
            (Access::Read | Access::Write | Access::Make, true) => {}
            (Access::Make, false) | (Access::Create, _) => {
                self.0.change()?;
                let empty = Rc::default();
                self.0.files.borrow_mut().insert(path.to_owned(), empty);
            }
        }
        let (medium, path) = (self.0.clone(), path.to_owned());
        Ok(Box::new(Open { medium, path }))
    }

    fn kind(&self, path: &Path) -> io::Result<Option<Kind>> {
        self.0.powered()?;
        let files = self.0.files.borrow();
        if files.contains_key(path) {
            return Ok(Some(Kind::File));
        }
        let is_folder = files.keys().any(|file| file.starts_with(path));
        Ok(is_folder.then_some(Kind::Folder))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.change()?;
        let mut files = self.0.files.borrow_mut();
        let moved = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), moved);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.change()?;
        self.0
            .files
            .borrow_mut()
            .retain(|file, _| !file.starts_with(path));
        Ok(())
    }

    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        self.0.powered()
    }

    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        self.0.change()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.0.powered()?;
        let files = self.0.files.borrow();
        let below = files.keys().filter_map(|file| file.strip_prefix(path).ok());
        let names = below.filter_map(|below| below.iter().next());
        let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into()).collect();
        names.dedup();
        Ok(names)
    }

    fn symlink(&self, _target: &Path, _link: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read_link(&self, _link: &Path) -> io::Result<Option<PathBuf>> {
        self.0.powered().map(|()| None)
    }

    fn set_mode(&self, _path: &Path, _mode: u32) -> io::Result<()> {
        self.0.powered()
    }
}

struct Open {
    medium: Rc<Medium>,
    path: PathBuf,
}

impl Open {
    fn change(&self, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        self.medium.change()?;
        let mut files = self.medium.files.borrow_mut();
        let content = files.get_mut(&self.path).ok_or(io::ErrorKind::NotFound)?;
        change(Rc::make_mut(content));
        Ok(())
    }

    fn content(&self) -> io::Result<Rc<Vec<u8>>> {
        self.medium.powered()?;
        let files = self.medium.files.borrow();
        let content = files.get(&self.path).cloned();
        Ok(content.ok_or(io::ErrorKind::NotFound)?)
    }
}

impl StoredFile for Open {
    fn len(&self) -> io::Result<u64> {
        Ok(self.content()?.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.content()?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let rest = content.get(offset..).unwrap_or_default();
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        self.change(|content| {
            let end = offset + bytes.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[offset..end].copy_from_slice(bytes);
        })
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.change(|content| content.resize(len, 0))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.medium.change()?;
        let mut files = self.medium.files.borrow_mut();
        let content = files.get_mut(&self.path).ok_or(io::ErrorKind::NotFound)?;
        self.medium.common.share(content);
        Ok(())
    }

    fn forget_cached(&self) -> io::Result<()> {
        self.medium.powered()
    }
}
