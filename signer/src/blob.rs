//! Target files: written under the name of what they hold, read back and measured.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ampoule_protocol::digest::{Digest, Hasher, Hashes};
use ampoule_protocol::name::TargetPath;
use ampoule_protocol::paths;
use ampoule_protocol::release::FileRef;
use ampoule_protocol::tree::TreeBuilder;

use crate::durable::{self, Disk};
use crate::error::{DiskError, SignerError};
use crate::layout::Layout;
use crate::progress::{Counted, Progress};

/// The file of a target in a folder of targets, `dir/HASH.name`.
pub fn file_of(folder: &Path, file: &FileRef) -> PathBuf {
    folder.join(paths::target_file(
        &file.path,
        Some(&Hashes::sha256(file.sha256)),
    ))
}

/// Where a target's bytes are now: published, or else staged.
pub fn find(layout: &Layout, file: &FileRef) -> Option<PathBuf> {
    let published = layout.published().join(paths::TARGETS_DIR);
    [published, layout.staged_targets()]
        .iter()
        .map(|folder| file_of(folder, file))
        .find(|path| path.is_file())
}

/// Copies `source` into `folder` as the target `path`, named by its digest, and measures it on
/// the way. `tree` sees every byte too.
pub fn store(
    disk: &dyn Disk,
    folder: &Path,
    path: &TargetPath,
    source: &mut dyn Read,
    tree: Option<&mut TreeBuilder>,
) -> Result<FileRef, SignerError> {
    let placed = folder.join(path.as_str());
    durable::create_dirs(disk, durable::folder_of(&placed))?;
    let mut measured = Measured {
        source,
        hasher: Hasher::new(),
        length: 0,
        tree,
    };
    let incoming = durable::Incoming::write(disk, &placed, &mut measured)?;
    let (length, sha256) = (measured.length, measured.hasher.finish());
    let file = FileRef {
        path: path.clone(),
        length,
        sha256,
    };
    incoming.place(disk, &file_of(folder, &file))?;
    Ok(file)
}

/// Like [`store`], from a file, telling progress.
pub fn store_file(
    disk: &dyn Disk,
    folder: &Path,
    path: &TargetPath,
    source: &Path,
    tree: Option<&mut TreeBuilder>,
    progress: &dyn Progress,
) -> Result<FileRef, SignerError> {
    let file = File::open(source).map_err(DiskError::at("read", source))?;
    let len = file
        .metadata()
        .map_err(DiskError::at("read", source))?
        .len();
    progress.begin(&format!("reading {}", path.base_name()), len);
    let stored = store(disk, folder, path, &mut Counted::new(file, progress), tree);
    progress.end();
    stored
}

/// Length and digest of a file on the disk.
pub fn measure(path: &Path, progress: &dyn Progress) -> Result<(u64, Digest), SignerError> {
    let file = File::open(path).map_err(DiskError::at("read", path))?;
    let len = file.metadata().map_err(DiskError::at("read", path))?.len();
    let name = path
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    progress.begin(&format!("checking {name}"), len);
    let mut source = Counted::new(file, progress);
    let mut measured = Measured {
        source: &mut source,
        hasher: Hasher::new(),
        length: 0,
        tree: None,
    };
    let copied = io::copy(&mut measured, &mut io::sink()).map_err(DiskError::at("read", path));
    progress.end();
    copied?;
    Ok((measured.length, measured.hasher.finish()))
}

struct Measured<'s> {
    source: &'s mut dyn Read,
    hasher: Hasher,
    length: u64,
    tree: Option<&'s mut TreeBuilder>,
}

impl Read for Measured<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        let bytes = buffer.get(..read).unwrap_or_default();
        self.hasher.update(bytes);
        self.length += read as u64;
        if let Some(tree) = &mut self.tree {
            tree.push(bytes);
        }
        Ok(read)
    }
}
