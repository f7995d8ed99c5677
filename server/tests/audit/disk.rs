//! A disk in memory that can be cut between any two operations.
//!
//! What was not synced is, after the cut, kept or lost or (bytes of files only) torn: names of a
//! folder and bytes of a file are synced each by itself, as media do.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use ampoule_server::audit::medium::Medium;

/// What becomes of names that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    Kept,
    Lost,
}

/// What becomes of bytes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bytes {
    Kept,
    Lost,
    Torn,
}

#[derive(Debug, Clone)]
struct File {
    now: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    File(usize),
    Folder(usize),
}

#[derive(Debug, Clone, Default)]
struct Folder {
    now: BTreeMap<String, Node>,
    synced: BTreeMap<String, Node>,
}

#[derive(Debug, Clone)]
struct State {
    files: Vec<File>,
    folders: Vec<Folder>,
    /// Operations that are still done; `None` for all.
    left: Option<usize>,
    done: usize,
}

/// A handle; clones see the same disk.
#[derive(Debug, Clone)]
pub struct Disk(Arc<Mutex<State>>);

impl Disk {
    pub fn new() -> Self {
        let state = State {
            files: Vec::new(),
            folders: vec![Folder::default()],
            left: None,
            done: 0,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Does `count` more operations, and fails from then on.
    pub fn cut_after(&self, count: usize) {
        self.0.lock().unwrap().left = Some(count);
    }

    /// Works again, with what it has.
    pub fn mend(&self) {
        self.0.lock().unwrap().left = None;
    }

    pub fn operations(&self) -> usize {
        self.0.lock().unwrap().done
    }

    /// What a machine finds that starts again after the cut.
    pub fn after_cut(&self, names: Names, bytes: Bytes) -> Self {
        let mut state = self.0.lock().unwrap().clone();
        state.left = None;
        state.done = 0;
        for folder in &mut state.folders {
            match names {
                Names::Kept => folder.synced = folder.now.clone(),
                Names::Lost => folder.now = folder.synced.clone(),
            }
        }
        for file in &mut state.files {
            if file.now == file.synced {
                continue;
            }
            match bytes {
                Bytes::Kept => {}
                Bytes::Lost => file.now = file.synced.clone(),
                Bytes::Torn => file.now.truncate(file.now.len() / 2),
            }
            file.synced = file.now.clone();
        }
        Self(Arc::new(Mutex::new(state)))
    }
}

impl State {
    fn step(&mut self) -> io::Result<()> {
        if self.left == Some(0) {
            return Err(io::Error::other("the power is gone"));
        }
        self.left = self.left.map(|left| left - 1);
        self.done += 1;
        Ok(())
    }

    fn folder(&self, path: &str) -> io::Result<usize> {
        path.split('/')
            .filter(|name| !name.is_empty())
            .try_fold(0, |at, name| match self.folders[at].now.get(name) {
                Some(Node::Folder(folder)) => Ok(*folder),
                _ => Err(io::ErrorKind::NotFound.into()),
            })
    }

    /// The folder of a path, and the name in it.
    fn place<'a>(&self, path: &'a str) -> io::Result<(usize, &'a str)> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.folder(above)?, name))
    }

    fn node(&self, path: &str) -> io::Result<Node> {
        let (folder, name) = self.place(path)?;
        let node = self.folders[folder].now.get(name).copied();
        node.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn file(&mut self, path: &str) -> io::Result<&mut File> {
        match self.node(path)? {
            Node::File(file) => Ok(&mut self.files[file]),
            Node::Folder(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }
}

impl Medium for Disk {
    fn read(&self, path: &str, len_max: usize) -> io::Result<Option<Vec<u8>>> {
        let mut state = self.0.lock().unwrap();
        match state.file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(file) if file.now.len() > len_max => Err(io::ErrorKind::FileTooLarge.into()),
            Ok(file) => Ok(Some(file.now.clone())),
        }
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        Ok(self.0.lock().unwrap().node(path).is_ok())
    }

    fn make_folder(&mut self, path: &str) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.step()?;
        if state.node(path).is_ok() {
            return Ok(());
        }
        let (folder, name) = state.place(path)?;
        let new = state.folders.len();
        state.folders.push(Folder::default());
        state.folders[folder]
            .now
            .insert(name.to_owned(), Node::Folder(new));
        Ok(())
    }

    fn write(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.step()?;
        if let Ok(file) = state.file(path) {
            file.now = bytes.to_vec();
            return Ok(());
        }
        let (folder, name) = state.place(path)?;
        let new = state.files.len();
        let file = File {
            now: bytes.to_vec(),
            synced: Vec::new(),
        };
        state.files.push(file);
        state.folders[folder]
            .now
            .insert(name.to_owned(), Node::File(new));
        Ok(())
    }

    fn sync(&mut self, path: &str) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.step()?;
        let file = state.file(path)?;
        file.synced = file.now.clone();
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.step()?;
        let node = state.node(from)?;
        let (folder, old) = state.place(from)?;
        let (_, new) = state.place(to)?;
        let names = &mut state.folders[folder].now;
        names.remove(old);
        names.insert(new.to_owned(), node);
        Ok(())
    }

    fn sync_folder(&mut self, path: &str) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.step()?;
        let folder = state.folder(path)?;
        let folder = &mut state.folders[folder];
        folder.synced = folder.now.clone();
        Ok(())
    }

    fn remove_folder(&mut self, path: &str) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.step()?;
        let Ok((folder, name)) = state.place(path) else {
            return Ok(());
        };
        state.folders[folder].now.remove(name);
        Ok(())
    }
}
