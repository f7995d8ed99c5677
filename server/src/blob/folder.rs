//! Blobs as files of a folder.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::stream;

use super::{BlobError, BlobStore, Chunks, Key, LISTED_MAX, Later};
use crate::file;

/// Bytes of one piece.
const PIECE_LEN: usize = 256 << 10;
/// Folders within folders.
const DEPTH_MAX: usize = 16;

/// A published tree on this machine.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Folder {
    /// The tree in this folder.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where a blob is.
    pub fn path(&self, key: &Key) -> PathBuf {
        self.0.join(key.as_str())
    }

    fn open(&self, key: &Key) -> Result<Option<(File, u64)>, BlobError> {
        let path = self.path(key);
        let open = || -> io::Result<Option<(File, u64)>> {
            let metadata = match fs::metadata(&path) {
                Err(error) if is_absent(&error) => return Ok(None),
                other => other?,
            };
            if !metadata.is_file() {
                return Ok(None);
            }
            Ok(Some((File::open(&path)?, metadata.len())))
        };
        open().map_err(BlobError::file("read", &path))
    }

    fn list_all(&self, folder: &str) -> Result<Vec<(Key, u64)>, BlobError> {
        let mut found = Vec::new();
        self.list_below(folder, 0, &mut found)?;
        found.sort();
        Ok(found)
    }

    fn list_below(
        &self,
        folder: &str,
        depth: usize,
        found: &mut Vec<(Key, u64)>,
    ) -> Result<(), BlobError> {
        let path = self.0.join(folder);
        let fail = || BlobError::file("list", &path);
        let entries = match fs::read_dir(&path) {
            Err(error) if is_absent(&error) => return Ok(()),
            other => other.map_err(fail())?,
        };
        for entry in entries {
            let entry = entry.map_err(fail())?;
            let metadata = fs::metadata(entry.path()).map_err(fail())?;
            let Some(name) = entry
                .file_name()
                .to_str()
                .map(|name| format!("{folder}/{name}"))
            else {
                continue;
            };
            if metadata.is_dir() && depth < DEPTH_MAX {
                self.list_below(&name, depth + 1, found)?;
            } else if let Some(key) = Key::parse(&name).filter(|_| metadata.is_file()) {
                found.push((key, metadata.len()));
            }
            if found.len() > LISTED_MAX {
                let what = format!("{folder:?} has more than {LISTED_MAX} files");
                return Err(BlobError::Tree(what));
            }
        }
        Ok(())
    }
}

fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

impl BlobStore for Folder {
    fn local(&self) -> Option<&Path> {
        Some(&self.0)
    }

    fn length<'a>(&'a self, key: &'a Key) -> Later<'a, Option<u64>> {
        Box::pin(async move { Ok(self.open(key)?.map(|(_, len)| len)) })
    }

    fn read<'a>(&'a self, key: &'a Key, from: u64, to: u64) -> Later<'a, Chunks> {
        Box::pin(async move {
            let gone = || BlobError::file("read", &self.path(key))(io::ErrorKind::NotFound.into());
            let (mut file, _) = self.open(key)?.ok_or_else(gone)?;
            let sought = file.seek(SeekFrom::Start(from));
            sought.map_err(BlobError::file("read", &self.path(key)))?;
            let pieces = Pieces(file.take(to - from));
            let chunks: Chunks = Box::pin(stream::iter(pieces));
            Ok(chunks)
        })
    }

    fn write<'a>(&'a self, key: &'a Key, path: &'a Path) -> Later<'a, ()> {
        Box::pin(async move {
            let to = self.path(key);
            let copy = || -> io::Result<()> {
                let folder = to.parent().unwrap_or(&self.0);
                fs::create_dir_all(folder)?;
                let beside = folder.join(".new");
                let mut copied = File::create(&beside)?;
                io::copy(&mut File::open(path)?, &mut copied)?;
                copied.sync_all()?;
                fs::rename(&beside, &to)?;
                file::sync_folder_of(&to)
            };
            copy().map_err(BlobError::file("write", &to))
        })
    }

    fn list<'a>(&'a self, folder: &'a str) -> Later<'a, Vec<(Key, u64)>> {
        Box::pin(async move { self.list_all(folder) })
    }

    fn link<'a>(&'a self, _key: &'a Key) -> Later<'a, Option<String>> {
        Box::pin(async { Ok(None) })
    }
}

struct Pieces(io::Take<File>);

impl Iterator for Pieces {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut piece = vec![0; PIECE_LEN];
        match self.0.read(&mut piece) {
            Ok(0) => None,
            Ok(count) => {
                piece.truncate(count);
                Some(Ok(piece.into()))
            }
            Err(error) => Some(Err(error)),
        }
    }
}
