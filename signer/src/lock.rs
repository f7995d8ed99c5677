//! One writer at a time, for a workspace or for a folder that a request lies in.
//!
//! The lock is the operating system's own (`flock`, `LockFileEx`): a killed process holds
//! nothing. The lock file stays behind, empty; removing it would race with the next holder.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use crate::error::{DiskError, OperatorError, SignerError};

/// The name of the lock file in a folder.
pub const LOCK_FILE: &str = ".ampoule.lock";

/// The right to write in a folder; given back on drop.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of `folder`.
    ///
    /// # Errors
    /// [`OperatorError::Locked`] where another process has it: it does not wait, since the other
    /// may stand at a passphrase prompt.
    pub fn of(folder: &Path) -> Result<Self, SignerError> {
        let path = folder.join(LOCK_FILE);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(DiskError::at("open the lock file", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(OperatorError::Locked {
                folder: folder.to_owned(),
            }
            .into()),
            Err(TryLockError::Error(e)) => Err(DiskError::at("lock", &path)(e).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_writer_is_turned_away_and_the_third_let_in() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::of(dir.path()).unwrap();
        assert!(matches!(
            Lock::of(dir.path()),
            Err(SignerError::Operator(OperatorError::Locked { .. }))
        ));
        drop(first);
        Lock::of(dir.path()).unwrap();
    }
}
