//! A disk that loses power, fills up, fails and rots.
//!
//! Each file and each folder has two states: what the system sees, and what is durable. A sync
//! makes one file's bytes durable, a folder sync makes the names in that one folder durable,
//! nothing else does. After a cut every operation fails, reads too, until the disk is powered again
//! in one of the outcomes of [`Unsynced`].
//!
//! A sync that fails loses what it was to keep: the pages are clean then and hold what the medium
//! does not have, until they are forgotten ([`StoredFile::forget_cached`]). Real kernels do that.
//!
//! At each operation that is about to change something a recorder may be told, so that one life
//! yields the states after a cut at each of its operations.
//!
//! [`StoredFile::forget_cached`]: ampoule_agent::ports::StoredFile::forget_cached

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::cut::Unsynced;
use super::medium::{Blob, Medium, Naming, Node, Recorder, What, spoil};
use super::mistake::Mistake;

/// How an operation fails while the power is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The change number so many fails once with an input/output error.
    BadWrite(usize),
    /// The read number so many fails once with an input/output error.
    BadRead(usize),
    /// From the change number so many on there is no space, until somebody makes some.
    Full(usize),
}

/// The disk; clones share it.
#[derive(Clone, Default)]
pub struct SimDisk(pub(super) Rc<RefCell<Medium>>);

impl SimDisk {
    pub(super) fn of(medium: Medium) -> Self {
        Self(Rc::new(RefCell::new(medium)))
    }

    /// A copy of its own, which is not recorded.
    pub fn fork(&self) -> Self {
        let mut medium = self.0.borrow().clone();
        medium.recorder = None;
        Self::of(medium)
    }

    /// Puts a durable file there, as the factory does.
    pub fn plant(&self, path: impl AsRef<Path>, content: &[u8]) {
        let node = self.0.borrow_mut().add(path.as_ref(), Blob::of(content));
        self.plant_node(path.as_ref(), node);
    }

    /// Puts a durable link there.
    pub fn plant_link(&self, path: &str, target: &str) {
        self.plant_node(Path::new(path), Node::Link(target.into()));
    }

    fn plant_node(&self, path: &Path, node: Node) {
        let folder = path.parent().unwrap_or(Path::new("/"));
        if self.0.borrow().live.folder(folder).is_none() {
            let made = self.0.borrow_mut().new_folder();
            self.plant_node(folder, made);
        }
        let mut medium = self.0.borrow_mut();
        if let Some((folder, name)) = medium.live.place(path) {
            let what = What::Set(name, node);
            put_name(&mut medium, &Naming { folder, what });
        }
    }

    /// What is in a file now, where links lead; `None` where it is missing.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        self.blob(path).map(|blob| blob.bytes.clone())
    }

    pub(super) fn blob(&self, path: &Path) -> Option<Rc<Blob>> {
        let medium = self.0.borrow();
        let id = medium.file(path).ok()?;
        Some(medium.inodes[id].live.clone())
    }

    /// The paths of all files.
    pub fn files(&self) -> Vec<PathBuf> {
        let medium = self.0.borrow();
        let all = medium.live.all().into_iter();
        all.filter(|(_, node)| matches!(node, Node::File(_)))
            .map(|(path, _)| path)
            .collect()
    }

    /// Flips a bit of a file, in its middle, for good.
    pub fn rot(&self, path: &Path) {
        let mut medium = self.0.borrow_mut();
        let Ok(id) = medium.file(path) else { return };
        let inode = &mut medium.inodes[id];
        spoil(&mut inode.durable);
        inode.live = inode.durable.clone();
    }

    /// Removes a file for good.
    pub fn lose(&self, path: impl AsRef<Path>) {
        let mut medium = self.0.borrow_mut();
        if let Some((folder, name)) = medium.live.place(path.as_ref()) {
            let what = What::Remove(name);
            put_name(&mut medium, &Naming { folder, what });
        }
    }

    /// Changes and reads so far.
    pub fn counts(&self) -> (usize, usize) {
        let medium = self.0.borrow();
        (medium.operations, medium.reads)
    }

    /// Whether the power has failed.
    pub fn is_off(&self) -> bool {
        self.0.borrow().powered().is_err()
    }

    /// The power fails after `more` operations from now.
    pub fn cut_after(&self, more: usize) {
        let mut medium = self.0.borrow_mut();
        medium.cut_after = Some(medium.operations + more);
    }

    /// The same medium after a cut now.
    pub fn power_cycle(&self, unsynced: Unsynced) -> Self {
        Self::of(self.0.borrow().after_cut(unsynced))
    }

    /// Fails as told, counted from now; `None` mends it.
    pub fn fail(&self, fault: Option<Fault>) {
        let mut medium = self.0.borrow_mut();
        let (operations, reads) = (medium.operations, medium.reads);
        medium.fault = fault.map(|fault| match fault {
            Fault::BadWrite(more) => Fault::BadWrite(operations + more),
            Fault::BadRead(more) => Fault::BadRead(reads + more),
            Fault::Full(more) => Fault::Full(operations + more),
        });
    }

    /// Plants a mistake, for good.
    pub fn plant_mistake(&self, mistake: Mistake) {
        self.0.borrow_mut().mistake = Some(mistake);
    }

    /// The mistake that was planted.
    pub fn mistake(&self) -> Option<Mistake> {
        self.0.borrow().mistake
    }

    /// From now on nobody may open these files for writing.
    pub fn guard(&self, files: Vec<PathBuf>) {
        self.0.borrow_mut().guarded = files;
    }

    /// Notes what must not be.
    pub fn sin(&self, what: String) {
        self.0.borrow_mut().sins.push(what);
    }

    /// What was done that must not be.
    pub fn sins(&self) -> Vec<String> {
        self.0.borrow().sins.clone()
    }

    pub(super) fn record(&self, recorder: Option<Recorder>) {
        self.0.borrow_mut().recorder = recorder;
    }
}

/// Changes a name for good.
fn put_name(medium: &mut Medium, naming: &Naming) {
    naming.apply(&mut medium.live);
    naming.apply(&mut medium.durable);
}
