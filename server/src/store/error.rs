//! Why a store does not do what it should.

use std::io;
use std::path::PathBuf;

/// Why the store did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds it.
    #[error("the store {0:?} is in use by another process")]
    Busy(PathBuf),
    /// What is there contradicts itself.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The engine failed.
    #[error("the store failed")]
    Engine(#[source] ::sled::Error),
    /// The database failed, or cannot be reached.
    #[error("the database failed")]
    Database(#[source] tokio_postgres::Error),
    /// The database acknowledges what its disk does not have.
    #[error("the database runs with fsync or full_page_writes off and would lose what it took")]
    Careless,
    /// The disk did not take the journal, or the tree behind it.
    #[error("failed to write the store's journal")]
    Sync(#[source] io::Error),
    /// A file beside the engine failed.
    #[error("failed to {act} {path:?}")]
    File {
        /// The verb.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// What should be written is longer than it may be.
    #[error("{what} has length {len}, {len_max} is allowed")]
    TooLong {
        /// The thing.
        what: &'static str,
        /// Its length.
        len: usize,
        /// The bound.
        len_max: usize,
    },
    /// More writes wait than may.
    #[error("the store has more to write than may wait")]
    Full,
    /// The writer has ended.
    #[error("the store takes no more writes")]
    Closed,
    /// What other servers did since a mark is not known any more; everything must be read anew.
    #[error("what other servers did meanwhile is not kept any more")]
    Forgotten,
}
