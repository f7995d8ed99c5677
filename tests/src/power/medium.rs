//! What a [`SimDisk`](super::disk::SimDisk) is made of: bytes, files, names, and which of them are
//! durable.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use super::cut::{Fate, Unsynced, torn_len};
use super::disk::Fault;
use super::mistake::Mistake;

/// Bytes that are shared until they are changed, with their fingerprint.
#[derive(Debug, Default)]
pub(super) struct Blob {
    pub(super) bytes: Vec<u8>,
    fingerprint: Cell<Option<u64>>,
}

impl Clone for Blob {
    fn clone(&self) -> Self {
        Self {
            bytes: self.bytes.clone(),
            fingerprint: Cell::new(None),
        }
    }
}

impl Blob {
    pub(super) fn of(bytes: &[u8]) -> Rc<Self> {
        Rc::new(Self {
            bytes: bytes.to_vec(),
            fingerprint: Cell::new(None),
        })
    }

    pub(super) fn fingerprint(&self) -> u64 {
        if let Some(found) = self.fingerprint.get() {
            return found;
        }
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.bytes);
        self.fingerprint.set(Some(hasher.finish()));
        hasher.finish()
    }
}

/// The bytes, to be changed; the fingerprint goes.
pub(super) fn change(blob: &mut Rc<Blob>) -> &mut Vec<u8> {
    let blob = Rc::make_mut(blob);
    blob.fingerprint.set(None);
    &mut blob.bytes
}

/// A write that was not synced.
#[derive(Debug, Clone)]
pub(super) enum Write {
    Bytes(usize, Rc<[u8]>),
    Len(usize),
}

impl Write {
    pub(super) fn apply(&self, to: &mut Rc<Blob>, fate: Fate) {
        match (self, fate) {
            (_, Fate::Lost) | (Self::Len(_), Fate::Torn) => {}
            (Self::Len(len), Fate::Kept) => change(to).resize(*len, 0),
            (Self::Bytes(offset, bytes), Fate::Kept) => put(change(to), *offset, bytes),
            (Self::Bytes(offset, bytes), Fate::Torn) => {
                put(change(to), *offset, &bytes[..torn_len(bytes.len())]);
            }
        }
    }
}

fn put(content: &mut Vec<u8>, offset: usize, piece: &[u8]) {
    let end = offset + piece.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(piece);
}

#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    pub(super) live: Rc<Blob>,
    pub(super) durable: Rc<Blob>,
    /// Writes since the last sync, each with its number.
    pub(super) pending: Vec<(u64, Write)>,
    /// Where it was opened last; for mistakes, which go by paths.
    pub(super) path: PathBuf,
}

/// What stands under a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Node {
    /// The file of this number.
    File(usize),
    /// The folder of this number.
    Folder(usize),
    /// A link, and where it leads.
    Link(PathBuf),
}

/// The folder that all paths begin in.
const ROOT: usize = 0;

/// Names: those of each folder, by its number. A folder that is made anew under an old name is
/// another one.
#[derive(Debug, Clone, Default)]
pub(super) struct Names(BTreeMap<(usize, OsString), Node>);

impl Names {
    /// The folder of this path, links followed; `None` where there is none.
    pub(super) fn folder(&self, path: &Path) -> Option<usize> {
        let mut folder = ROOT;
        for segment in path.components() {
            if let Component::Normal(name) = segment {
                folder = self.enter(folder, name)?;
            }
        }
        Some(folder)
    }

    fn enter(&self, folder: usize, name: &OsStr) -> Option<usize> {
        match self.0.get(&(folder, name.to_owned()))? {
            Node::Folder(inside) => Some(*inside),
            Node::Link(target) => self.enter(folder, target.as_os_str()),
            Node::File(_) => None,
        }
    }

    /// Folder and name of a path.
    pub(super) fn place(&self, path: &Path) -> Option<(usize, OsString)> {
        let folder = self.folder(path.parent()?)?;
        Some((folder, path.file_name()?.to_owned()))
    }

    pub(super) fn get(&self, path: &Path) -> Option<&Node> {
        self.0.get(&self.place(path)?)
    }

    pub(super) fn set(&mut self, folder: usize, name: OsString, node: Node) {
        self.0.insert((folder, name), node);
    }

    pub(super) fn inside(&self, folder: usize) -> impl Iterator<Item = (&OsString, &Node)> {
        let names = self
            .0
            .range((folder, OsString::new())..(folder + 1, OsString::new()));
        names.map(|((_, name), node)| (name, node))
    }

    /// Everything that can be come to, by its path.
    pub(super) fn all(&self) -> Vec<(PathBuf, &Node)> {
        let mut all = Vec::new();
        let mut folders = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, folder)) = folders.pop() {
            for (name, node) in self.inside(folder) {
                let path = path.join(name);
                if let Node::Folder(inside) = node {
                    folders.push((path.clone(), *inside));
                }
                all.push((path, node));
            }
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}

/// A change of one folder's names.
#[derive(Debug, Clone)]
pub(super) struct Naming {
    pub(super) folder: usize,
    pub(super) what: What,
}

/// What is changed.
#[derive(Debug, Clone)]
pub(super) enum What {
    Set(OsString, Node),
    Remove(OsString),
    Rename(OsString, OsString),
}

impl Naming {
    pub(super) fn apply(&self, names: &mut Names) {
        let of = |name: &OsString| (self.folder, name.clone());
        match &self.what {
            What::Set(name, node) => drop(names.0.insert(of(name), node.clone())),
            What::Remove(name) => drop(names.0.remove(&of(name))),
            What::Rename(from, to) => {
                if let Some(node) = names.0.remove(&of(from)) {
                    names.0.insert(of(to), node);
                }
            }
        }
    }
}

/// Told before each change.
pub(super) type Recorder = Rc<dyn Fn(&Medium)>;

#[derive(Clone, Default)]
pub(super) struct Medium {
    pub(super) inodes: Vec<Inode>,
    pub(super) live: Names,
    pub(super) durable: Names,
    pub(super) namings: Vec<(u64, Naming)>,
    /// Folders made so far, that of the root included.
    pub(super) folders: usize,
    /// Operations that change something, so far; also numbers writes and names.
    pub(super) operations: usize,
    pub(super) reads: usize,
    pub(super) cut_after: Option<usize>,
    pub(super) fault: Option<Fault>,
    /// Files that nobody may open for writing: the slots that run.
    pub(super) guarded: Vec<PathBuf>,
    /// What was done that must not be.
    pub(super) sins: Vec<String>,
    pub(super) mistake: Option<Mistake>,
    /// A folder whose sync is put off, as a mistake.
    pub(super) late: bool,
    pub(super) recorder: Option<Recorder>,
}

impl Medium {
    pub(super) fn powered(&self) -> io::Result<()> {
        match self.cut_after {
            Some(cut) if self.operations >= cut => Err(io::Error::other("the power is off")),
            _ => Ok(()),
        }
    }

    /// Counts an operation that is about to change something.
    pub(super) fn change(&mut self) -> io::Result<()> {
        self.powered()?;
        if let Some(recorder) = self.recorder.clone() {
            recorder(self);
        }
        self.operations += 1;
        match self.fault {
            Some(Fault::BadWrite(at)) if self.operations == at => Err(io_error()),
            _ => Ok(()),
        }
    }

    /// The same for one that needs space.
    pub(super) fn grow(&mut self) -> io::Result<()> {
        self.change()?;
        match self.fault {
            Some(Fault::Full(at)) if self.operations >= at => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    /// Counts a read.
    pub(super) fn read(&mut self) -> io::Result<()> {
        self.powered()?;
        self.reads += 1;
        match self.fault {
            Some(Fault::BadRead(at)) if self.reads == at => Err(io_error()),
            _ => Ok(()),
        }
    }

    pub(super) fn file(&self, path: &Path) -> io::Result<usize> {
        match self.live.get(path) {
            Some(Node::File(id)) => Ok(*id),
            Some(_) => Err(io::Error::other("no file")),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn name(&mut self, naming: Naming) {
        naming.apply(&mut self.live);
        self.namings.push((self.operations as u64, naming));
    }

    pub(super) fn write(&mut self, id: usize, write: Write) {
        let inode = &mut self.inodes[id];
        write.apply(&mut inode.live, Fate::Kept);
        inode.pending.push((self.operations as u64, write));
    }

    /// A new folder, which has no name yet.
    pub(super) fn new_folder(&mut self) -> Node {
        self.folders += 1;
        Node::Folder(self.folders)
    }

    pub(super) fn sync_names(&mut self, folder: &Path) {
        let Some(folder) = self.live.folder(folder) else {
            return;
        };
        let durable = &mut self.durable;
        self.namings.retain(|(_, naming)| {
            let is_here = naming.folder == folder;
            if is_here {
                naming.apply(durable);
            }
            !is_here
        });
    }

    /// The number that splits what was not synced into an older and a newer half.
    fn middle(&self) -> u64 {
        let writes = self.inodes.iter().flat_map(|inode| &inode.pending);
        let mut numbers: Vec<u64> = writes.map(|(number, _)| *number).collect();
        numbers.extend(self.namings.iter().map(|(number, _)| *number));
        numbers.sort_unstable();
        numbers.get(numbers.len() / 2).copied().unwrap_or(0)
    }

    /// Whether a cut has one outcome only.
    pub(super) fn is_quiet(&self) -> bool {
        self.namings.is_empty() && self.inodes.iter().all(|inode| inode.pending.is_empty())
    }

    /// What the medium holds when the power comes back.
    pub(super) fn after_cut(&self, unsynced: Unsynced) -> Self {
        let middle = self.middle();
        let mut names = self.durable.clone();
        for (folder, namings) in self.by_folder() {
            let numbers: Vec<u64> = namings.iter().map(|(number, _)| *number).collect();
            let kept = unsynced.of_names(folder as u64, &numbers, middle);
            for (_, naming) in &namings[..kept] {
                naming.apply(&mut names);
            }
        }
        let mut after = Self {
            mistake: self.mistake,
            guarded: self.guarded.clone(),
            ..Self::default()
        };
        after.take_over(
            ROOT,
            ROOT,
            &names,
            &|inode| {
                let mut content = inode.durable.clone();
                for (number, write) in &inode.pending {
                    write.apply(&mut content, unsynced.of_write(*number, middle));
                }
                content
            },
            self,
        );
        after.durable = after.live.clone();
        after
    }

    /// Copies what is in the folder `from` of another medium, with `names`, into the folder `to`.
    fn take_over(
        &mut self,
        from: usize,
        to: usize,
        names: &Names,
        content: &dyn Fn(&Inode) -> Rc<Blob>,
        other: &Self,
    ) {
        for (name, node) in names.inside(from) {
            let node = match node {
                Node::File(id) => {
                    let inode = &other.inodes[*id];
                    self.add(&inode.path, content(inode))
                }
                Node::Folder(inside) => {
                    let folder = self.new_folder();
                    if let Node::Folder(made) = folder {
                        self.take_over(*inside, made, names, content, other);
                    }
                    folder
                }
                Node::Link(target) => Node::Link(target.clone()),
            };
            self.live.set(to, name.clone(), node);
        }
    }

    fn by_folder(&self) -> BTreeMap<usize, Vec<&(u64, Naming)>> {
        let mut folders: BTreeMap<usize, Vec<&(u64, Naming)>> = BTreeMap::new();
        for naming in &self.namings {
            folders.entry(naming.1.folder).or_default().push(naming);
        }
        folders
    }

    /// A file without a name.
    pub(super) fn add(&mut self, path: &Path, content: Rc<Blob>) -> Node {
        self.inodes.push(Inode {
            live: content.clone(),
            durable: content,
            pending: Vec::new(),
            path: path.to_owned(),
        });
        Node::File(self.inodes.len() - 1)
    }

    /// Two media with one fingerprint hold the same.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (path, node) in self.live.all() {
            path.hash(&mut hasher);
            match node {
                Node::File(id) => self.inodes[*id].live.fingerprint().hash(&mut hasher),
                Node::Folder(_) => 1.hash(&mut hasher),
                Node::Link(target) => target.hash(&mut hasher),
            }
        }
        hasher.finish()
    }
}

/// Flips a bit in the middle.
pub(super) fn spoil(blob: &mut Rc<Blob>) {
    let bytes = change(blob);
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 0x10;
    }
}

fn io_error() -> io::Error {
    io::Error::other("input/output error")
}
