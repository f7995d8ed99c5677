//! Where the bytes of a published tree lie: a folder, or a bucket that speaks S3.
//!
//! ```text
//!   signer's folder --push--> bucket: targets, then metadata, the timestamp last
//!   bucket --mirror--> the server's folder: metadata only, the timestamp last again
//!   bucket --read, link--> devices: targets, through the server or by a link of a few minutes
//! ```
//!
//! Invariants:
//! - What is written under a name that holds a digest or a version is never written anew.
//! - At every moment, also between two instructions of [`push`] and of [`mirror`], everything that
//!   the timestamp leads to is there.
//! - Nothing that comes from a store is believed for coming from there: metadata is verified as a
//!   device verifies it, and devices check every block of a target against what was signed.

mod folder;
mod key;
pub mod mirror;
pub mod push;
mod s3;

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;

pub use folder::Folder;
pub use key::{Key, Kind};
pub use s3::{Bucket, S3};

/// What a store answers, when it does.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T, BlobError>> + Send + 'a>>;
/// The bytes of a blob as they come.
pub type Chunks = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// Files of one list; a bucket that names more is not a tree of ours.
pub const LISTED_MAX: usize = 100_000;

/// Where blobs lie.
pub trait BlobStore: Send + Sync + Debug {
    /// The folder, where blobs are files of this machine: they are then read there.
    fn local(&self) -> Option<&Path>;

    /// The length of a blob; nothing where there is none.
    fn length<'a>(&'a self, key: &'a Key) -> Later<'a, Option<u64>>;

    /// The bytes `from..to` of a blob that is at least that long.
    fn read<'a>(&'a self, key: &'a Key, from: u64, to: u64) -> Later<'a, Chunks>;

    /// Puts the file at `path` there, whole or not at all, in place of what may be there.
    fn write<'a>(&'a self, key: &'a Key, path: &'a Path) -> Later<'a, ()>;

    /// All blobs of a folder and below, with their lengths.
    fn list<'a>(&'a self, folder: &'a str) -> Later<'a, Vec<(Key, u64)>>;

    /// An address from which whoever has it may read this one blob for a while; nothing where the
    /// store makes none.
    fn link<'a>(&'a self, key: &'a Key) -> Later<'a, Option<String>>;
}

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The store, or the way to it.
    #[error("failed to {act} {key:?} in the blob store")]
    Store {
        /// The verb.
        act: &'static str,
        /// The blob or folder.
        key: String,
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file on this side.
    #[error("failed to {act} {path:?}")]
    File {
        /// The verb.
        act: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The store cannot be spoken to as it is configured.
    #[error("the blob store cannot be used: {0}")]
    Configuration(String),
    /// What is there is not a published tree.
    #[error("the tree is not as it must be: {0}")]
    Tree(String),
}

impl BlobError {
    fn store<E>(act: &'static str, key: &str) -> impl FnOnce(E) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let key = key.to_owned();
        move |source| Self::Store {
            act,
            key,
            source: Box::new(source),
        }
    }

    fn file(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { act, path, source }
    }
}

/// Reads a whole blob of at most `max_len` bytes.
///
/// # Errors
/// The store failed, or the blob is longer or gone.
pub async fn read_all(
    store: &dyn BlobStore,
    key: &Key,
    len: u64,
    max_len: u64,
) -> Result<Vec<u8>, BlobError> {
    use futures_util::StreamExt as _;
    if len > max_len {
        let what = format!("{key:?} has {len} bytes, {max_len} are allowed");
        return Err(BlobError::Tree(what));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
    if len == 0 {
        return Ok(bytes);
    }
    let mut chunks = store.read(key, 0, len).await?;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(BlobError::store("read", key.as_str()))?;
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > len {
            return Err(BlobError::Tree(format!("{key:?} became longer")));
        }
    }
    if (bytes.len() as u64) < len {
        return Err(BlobError::Tree(format!("{key:?} became shorter")));
    }
    Ok(bytes)
}
