//! One writer at a time, for a workspace or for a folder that a request lies in.
//!
//! The lock is the operating system's own (`flock`, `LockFileEx`): a killed process holds
//! nothing. The lock file stays behind, empty; removing it would race with the next holder.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::error::{DiskError, OperatorError, SignerError};

/// How often a held lock is asked for again, and after which pause: half a second in all. A
/// process that is starting another one shares its locks with it for a moment.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(10);

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
    /// [`OperatorError::Locked`] where another process keeps it: it does not wait for long, since
    /// the other may stand at a passphrase prompt.
    pub fn of(folder: &Path) -> Result<Self, SignerError> {
        let path = folder.join(LOCK_FILE);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(DiskError::at("open the lock file", &path))?;
        for _ in 0..TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
                Err(TryLockError::Error(e)) => return Err(DiskError::at("lock", &path)(e).into()),
            }
        }
        Err(OperatorError::Locked {
            folder: folder.to_owned(),
        }
        .into())
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
