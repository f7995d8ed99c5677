//! Brings a bucket's metadata into the server's folder, the timestamp last.
//!
//! From there it is read as if the signer had published it there: verified as a device verifies it,
//! vouched for by the online timestamp, kept in memory. Targets stay in the bucket.
//!
//! The timestamp is read before the list of the rest: what it leads to was written before it, so
//! the list has it. A cut between any two files leaves metadata that nothing leads to yet.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ampoule_protocol::paths::{METADATA_DIR, TIMESTAMP_FILE};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::push::{TIMESTAMP_LEN_MAX, version};
use super::{BlobError, BlobStore, Key, Kind, read_all};
use crate::error::ServerError;
use crate::file::{self, Readers};
use crate::log::Log;

/// Bytes of any other metadata file; as much as the server reads of a tree.
const METADATA_LEN_MAX: u64 = 256 << 20;

/// From a bucket to a folder.
#[derive(Debug)]
pub struct Mirror {
    from: Arc<dyn BlobStore>,
    folder: PathBuf,
}

impl Mirror {
    /// To the tree in `folder`.
    pub fn new(from: Arc<dyn BlobStore>, folder: PathBuf) -> Self {
        Self { from, folder }
    }

    /// Looks once; how many files came.
    ///
    /// # Errors
    /// The store or the disk failed, or what is there is no tree; the old timestamp stays.
    pub async fn look(&self) -> Result<usize, ServerError> {
        let timestamp = Key::parse(&format!("{METADATA_DIR}/{TIMESTAMP_FILE}"));
        let timestamp = timestamp.expect("it is a name of a tree");
        let Some(len) = self.from.length(&timestamp).await? else {
            return Ok(0);
        };
        let newest = read_all(self.from.as_ref(), &timestamp, len, TIMESTAMP_LEN_MAX).await?;
        let folder = self.folder.join(METADATA_DIR);
        std::fs::create_dir_all(&folder).map_err(ServerError::file("create", &folder))?;
        let mut came = 0;
        let mut listed = self.from.list(METADATA_DIR).await?;
        listed.retain(|(key, _)| key.is_immutable() && !self.folder.join(key.as_str()).exists());
        listed.sort_by_key(|(key, _)| key.kind());
        for (key, len) in listed {
            debug_assert!(key.kind() != Kind::Timestamp && key.kind() != Kind::Target);
            let bytes = read_all(self.from.as_ref(), &key, len, METADATA_LEN_MAX).await?;
            self.keep(&key, bytes).await?;
            came += 1;
        }
        if self.is_news(&timestamp, &newest)? {
            self.keep(&timestamp, newest).await?;
            came += 1;
        }
        Ok(came)
    }

    /// Whether the timestamp is another one than the last; an older one is an error.
    fn is_news(&self, key: &Key, newest: &[u8]) -> Result<bool, ServerError> {
        let path = self.folder.join(key.as_str());
        let known = match std::fs::read(&path) {
            Ok(known) => known,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(ServerError::file("read", &path)(error)),
        };
        let (new, old) = (version(newest)?, version(&known)?);
        if new < old {
            let what = format!("its timestamp version {new} is older than {old}, which was there");
            return Err(BlobError::Tree(what).into());
        }
        Ok(known != newest)
    }

    async fn keep(&self, key: &Key, bytes: Vec<u8>) -> Result<(), ServerError> {
        let path = self.folder.join(key.as_str());
        // It waits for the disk, and others must not wait for that.
        let write = move || file::replace(&path, &bytes, Readers::All);
        let written = tokio::task::spawn_blocking(write).await;
        written.unwrap_or_else(|error| {
            Err(ServerError::System {
                act: "wait for a write",
                source: std::io::Error::other(error),
            })
        })
    }

    /// Looks again and again until `draining` says that it is enough.
    pub async fn follow(self, every: Duration, log: Arc<Log>, mut draining: watch::Receiver<bool>) {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = draining.wait_for(|draining| *draining) => return,
                _ = ticks.tick() => {}
            }
            let looked = tokio::select! {
                _ = draining.wait_for(|draining| *draining) => return,
                looked = self.look() => looked,
            };
            match looked {
                Ok(_) => log.over("bucket"),
                Err(error) => {
                    let said = ampoule_protocol::error::chain(&error, None).replace('\n', "; ");
                    log.trouble("bucket", format_args!("the tree stays as it is: {said}"));
                }
            }
        }
    }
}
