//! The suite on the embedded engine.

use std::sync::Arc;

use ampoule_server::store::Store;
use ampoule_server::store::sled::SledStore;

use crate::suite::{self, CAPACITY, Factory};

struct Folder(tempfile::TempDir);

impl Factory for Folder {
    fn open(&self) -> Arc<dyn Store> {
        Arc::new(SledStore::open(self.0.path(), CAPACITY, 8).unwrap())
    }
}

fn folder() -> Folder {
    Folder(tempfile::tempdir().unwrap())
}

suite::on_engine!(folder());
