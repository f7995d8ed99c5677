//! Writes a slot, block by checked block.
//!
//! - A block is checked against the signed tree before it is written.
//! - A block that the medium has already is not written again: flash lives longer, and a slot that
//!   held the update before last has most of the next. What is compared was read from the medium,
//!   not from memory.
//! - What was written is durable after [`BlockWriter::sync`], and not before.

use std::io;
use std::path::{Path, PathBuf};

use ampoule_protocol::release::FileRef;
use ampoule_protocol::tree::BlockTree;

use super::InstallError;
use super::fill::network_error;
use crate::net::NetError;
use crate::ports::{Access, Storage, StoredFile};

/// Blocks that differ one after the other, after which only a sample is compared: reading a slot
/// that has nothing of the image would cost time for nothing.
const MISSES_MAX: u64 = 64;
/// Of how many blocks one is compared then; a block that is equal ends it.
const SAMPLE: u64 = 16;

/// Bytes after which the medium begins to write, while the next are checked.
const BEGIN_LEN: u64 = 2 << 20;

/// Writes checked blocks, one after the other.
pub(super) struct BlockWriter {
    file: Box<dyn StoredFile>,
    path: PathBuf,
    tree: BlockTree,
    /// The block that is being collected.
    block: Vec<u8>,
    /// What the slot has in its place.
    there: Vec<u8>,
    /// Blocks compared that differed, since the last that did not.
    misses: u64,
    /// Bytes that were there already.
    kept: u64,
    /// Bytes in whole blocks that were written.
    written: u64,
    /// Bytes that the medium was let begin to write.
    begun: u64,
    /// Bytes that are durable.
    durable: u64,
}

impl BlockWriter {
    pub(super) fn open(
        storage: &dyn Storage,
        path: &Path,
        tree: BlockTree,
        done: u64,
    ) -> Result<Self, InstallError> {
        let io = |source| InstallError::Io {
            act: "open slot",
            path: path.to_owned(),
            source,
        };
        let length = tree.shape().image_len();
        if storage.kind(path).map_err(io)?.is_none()
            && let Some(folder) = path.parent()
        {
            storage.create_dir(folder).map_err(io)?;
            storage.open(path, Access::Make).map_err(io)?;
            storage.sync_dir(folder).map_err(io)?;
        }
        let mut file = storage.open(path, Access::Write).map_err(io)?;
        file.set_len(length).map_err(io)?;
        let found = file.len().map_err(io)?;
        if found < length {
            return Err(InstallError::TooSmall {
                path: path.to_owned(),
                found,
                needed: length,
            });
        }
        // From here on reads come from the medium: a page that a cut would lose is not there.
        file.sync().map_err(io)?;
        file.forget_cached().map_err(io)?;
        let block_len = tree.shape().block_len() as usize;
        Ok(Self {
            file,
            path: path.to_owned(),
            tree,
            block: Vec::with_capacity(block_len),
            there: Vec::with_capacity(block_len),
            misses: 0,
            kept: 0,
            written: done,
            begun: done,
            durable: done,
        })
    }

    /// Bytes in whole blocks that are written.
    pub(super) const fn written(&self) -> u64 {
        self.written
    }

    /// Bytes that are durable.
    pub(super) const fn durable(&self) -> u64 {
        self.durable
    }

    pub(super) fn push(
        &mut self,
        mut bytes: &[u8],
        artifact: &FileRef,
    ) -> Result<(), InstallError> {
        let block_len = self.tree.shape().block_len() as usize;
        while !bytes.is_empty() {
            let room = block_len - self.block.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == block_len {
                self.write_block(artifact)?;
            }
        }
        Ok(())
    }

    /// The check comes before the write: no byte that was not signed reaches the slot.
    fn write_block(&mut self, artifact: &FileRef) -> Result<(), InstallError> {
        let index = self.written / u64::from(self.tree.shape().block_len());
        let checked = self.tree.check(index, &self.block);
        checked.map_err(|source| InstallError::Tree {
            path: artifact.path.to_string(),
            source,
        })?;
        if self.is_there(index) {
            self.kept += self.block.len() as u64;
        } else {
            let written = self.file.write_at(&self.block, self.written);
            written.map_err(|source| self.io("write slot", source))?;
        }
        self.written += self.block.len() as u64;
        self.block.clear();
        if self.written - self.begun >= BEGIN_LEN {
            self.file.begin_sync(self.begun, self.written - self.begun);
            self.begun = self.written;
        }
        Ok(())
    }

    /// Whether the slot has the block already; one that cannot be read has not.
    fn is_there(&mut self, index: u64) -> bool {
        if self.misses >= MISSES_MAX && !index.is_multiple_of(SAMPLE) {
            return false;
        }
        self.there.resize(self.block.len(), 0);
        let read = self.file.read_exact_at(&mut self.there, self.written);
        let is_same = read.is_ok() && self.there == self.block;
        self.misses = if is_same { 0 } else { self.misses + 1 };
        is_same
    }

    pub(super) fn sync(&mut self) -> Result<(), InstallError> {
        let synced = self.file.sync();
        synced.map_err(|source| self.io("sync slot", source))?;
        self.durable = self.written;
        Ok(())
    }

    /// Makes the whole image durable, and gives the bytes that were there already.
    pub(super) fn finish(&mut self, artifact: &FileRef) -> Result<u64, InstallError> {
        if !self.block.is_empty() {
            self.write_block(artifact)?;
        }
        if self.written != self.tree.shape().image_len() {
            return Err(network_error(artifact, NetError::truncated()));
        }
        self.sync()?;
        Ok(self.kept)
    }

    /// Gives what lies behind the image back to the medium.
    pub(super) fn discard_rest(&mut self) -> Result<(), InstallError> {
        let discarded = self.file.discard(self.written);
        discarded.map_err(|source| self.io("discard the rest of", source))
    }

    pub(super) fn io(&self, act: &'static str, source: io::Error) -> InstallError {
        InstallError::Io {
            act,
            path: self.path.clone(),
            source,
        }
    }
}
