//! The `sigstore-tuf` crate as a client beside ours: the same bytes, in memory.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use ampoule_protocol::time::UtcTime;
use ampoule_tests::sim::Tree;
use sigstore_tuf::transport::FetchFuture;
use sigstore_tuf::{Error, MetadataStore, Repository, Updater};

/// A device that trusts by sigstore-tuf's rules.
#[derive(Clone)]
pub(crate) struct Peer {
    root: Vec<u8>,
    store: Store,
}

/// Its store, kept between updates.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl MetadataStore for Store {
    fn load(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.0.lock().expect("one thread").get(name).cloned())
    }

    fn store(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.0
            .lock()
            .expect("one thread")
            .insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }
}

/// A tree that is asked for files.
struct Remote(Tree);

impl Remote {
    fn file(&self, path: &str, max_len: u64) -> FetchFuture<'_> {
        let found = match self.0.get(path) {
            Some(bytes) if bytes.len() as u64 > max_len => {
                Err(Error::Malformed(format!("{path} is longer than {max_len}")))
            }
            other => Ok(other.cloned()),
        };
        Box::pin(std::future::ready(found))
    }
}

impl Repository for Remote {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> FetchFuture<'a> {
        self.file(&format!("metadata/{name}"), max_length)
    }

    fn fetch_target<'a>(&'a self, path: &'a str, max_length: u64) -> FetchFuture<'a> {
        self.file(&format!("targets/{path}"), max_length)
    }
}

impl Peer {
    pub(crate) fn new(root: &[u8]) -> Self {
        Self {
            root: root.to_vec(),
            store: Store::default(),
        }
    }

    /// A refresh and a download, as [`ampoule_tests::world::World::download`].
    pub(crate) fn download(
        &self,
        tree: &Tree,
        now: UtcTime,
        target: &str,
    ) -> Result<Vec<u8>, String> {
        let now = jiff::Timestamp::from_second(now.unix()).expect("a time");
        let run = async {
            let mut updater =
                Updater::new(Remote(tree.clone()), &self.root)?.with_store(self.store.clone());
            updater.refresh(now).await?;
            // Not `get_target`, which would answer from what was downloaded before.
            let file = updater.get_target_info(target, now).await?;
            let file = file.ok_or_else(|| Error::TargetNotFound(target.to_owned()))?;
            updater.download_target(&file, target).await
        };
        now_or_never(run).map_err(|error| error.to_string())
    }

    /// The version it trusts of the role whose file is `name`.
    pub(crate) fn version(&self, name: &str) -> Option<u64> {
        let files = self.store.0.lock().expect("one thread");
        let value = ampoule_protocol::json::parse(files.get(name)?).ok()?;
        value.member("signed")?.member("version")?.as_u64()
    }
}

/// Nothing here ever waits: all bytes are in memory.
fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a future over memory waits"),
    }
}
