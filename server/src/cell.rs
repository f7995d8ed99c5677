//! A value that many read and few replace: certificates, the published tree.
//!
//! A reader holds the lock just long enough to take a reference of its own; what it took stays
//! whole however often the cell is replaced meanwhile.

use std::sync::{Arc, PoisonError, RwLock};

/// The newest value of something.
#[derive(Debug)]
pub struct Cell<T>(RwLock<Arc<T>>);

impl<T> Cell<T> {
    /// Holds `value`.
    pub fn new(value: T) -> Self {
        Self(RwLock::new(Arc::new(value)))
    }

    /// The newest value.
    pub fn load(&self) -> Arc<T> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Replaces the value for all later readers.
    pub fn store(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}
