//! What was made of files, and is made anew when they change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::cell::Cell;
use crate::error::ServerError;

/// The state in use, and the files it came from.
pub struct Reloading<T> {
    files: Vec<PathBuf>,
    load: Box<dyn Fn() -> Result<T, ServerError> + Send + Sync>,
    current: Cell<T>,
    seen: Mutex<Vec<Stamp>>,
}

/// What tells that a file was changed, without reading it.
type Stamp = Option<(SystemTime, u64, u64)>;

/// What [`Reloading::look`] did.
#[derive(Debug)]
pub enum Reloaded {
    /// The files are as they were.
    Unchanged,
    /// New connections use the new files.
    New,
    /// The new files are bad; the old state stays.
    Kept(ServerError),
}

/// Whether files are loaded that look unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Only if time, length or inode changed.
    IfChanged,
    /// In any case (SIGHUP).
    Always,
}

impl<T> Reloading<T> {
    /// The first state.
    ///
    /// # Errors
    /// As `load`.
    pub fn start(
        files: Vec<PathBuf>,
        load: impl Fn() -> Result<T, ServerError> + Send + Sync + 'static,
    ) -> Result<Self, ServerError> {
        // Before they are read: what is changed meanwhile is read again.
        let seen = Mutex::new(stamps(&files));
        let current = Cell::new(load()?);
        Ok(Self {
            files,
            load: Box::new(load),
            current,
            seen,
        })
    }

    /// The state for a new connection or request.
    pub fn current(&self) -> Arc<T> {
        self.current.load()
    }

    /// Loads the files if they were changed since the last look, or in any case.
    pub fn look(&self, when: Look) -> Reloaded {
        let stamps = stamps(&self.files);
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if when == Look::IfChanged && *seen == stamps {
                return Reloaded::Unchanged;
            }
            *seen = stamps;
        }
        match (self.load)() {
            Ok(state) => {
                self.current.store(state);
                Reloaded::New
            }
            Err(error) => Reloaded::Kept(error),
        }
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    files.iter().map(|path| stamp(path)).collect()
}

fn stamp(path: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}
