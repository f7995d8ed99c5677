//! The suite on the embedded engine.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ampoule_server::store::sled::SledStore;
use ampoule_server::store::{Store, StoreError};

use crate::suite::{self, CAPACITY, Factory};

struct Folder(tempfile::TempDir);

impl Factory for Folder {
    fn open(&self) -> Arc<dyn Store> {
        opened(self.0.path())
    }
}

/// The store in a folder that was closed a moment ago: a program that another test starts in this
/// process holds all locks until it has begun.
pub(crate) fn opened(folder: &Path) -> Arc<dyn Store> {
    let start = Instant::now();
    loop {
        match SledStore::open(folder, CAPACITY, 8) {
            Err(StoreError::Busy(_)) if start.elapsed() < Duration::from_secs(30) => {
                std::thread::sleep(Duration::from_millis(10));
            }
            store => return Arc::new(store.unwrap()),
        }
    }
}

fn folder() -> Folder {
    Folder(tempfile::tempdir().unwrap())
}

suite::on_engine!(folder());
