//! The high-water mark: how many groups were committed, kept outside the engine.
//!
//! sled takes a log whose end was lost for a shorter one and says nothing. So each commit is
//! counted in the engine, in the same transaction, and noted here once the engine has it on the
//! disk. An engine that counts less than this file lost its end, acknowledged reports among it.
//!
//! ```text
//! 00000000000000000057 6f1c2a4b8d9e0f13\n      the count, and 16 hex digits of its SHA-256
//! ```
//!
//! Two such lines stand in blocks of their own and are written in turn: a torn write spoils one of
//! them, and the other says one less.
//!
//! Each commit writes; the disk is waited for once in [`SYNC_INTERVAL`] and at the end, so that
//! acknowledged writes are no slower for it. What that leaves out: commits of the last second
//! before a power cut, on a disk that lied about the log. After a killed process nothing is left
//! out, since the kernel has the line.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use ampoule_protocol::digest::Digest;

/// Where the second line stands: in another block of the disk.
const BLOCK_LEN: u64 = 4096;
/// Digits of a count.
const DIGITS: usize = 20;
/// Digits of its digest.
const CHECK_LEN: usize = 16;
const LINE_LEN: usize = DIGITS + 1 + CHECK_LEN + 1;
/// How far the disk may lag behind.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// The open file.
#[derive(Debug)]
pub struct HighWater {
    file: File,
    mark: u64,
    synced_at: Instant,
}

impl HighWater {
    /// Opens or begins the file.
    ///
    /// # Errors
    /// The system's answer.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)?;
        let mark = [0, BLOCK_LEN]
            .into_iter()
            .filter_map(|at| read(&file, at))
            .max();
        Ok(Self {
            file,
            mark: mark.unwrap_or(0),
            synced_at: Instant::now(),
        })
    }

    /// The highest count that was noted.
    pub fn mark(&self) -> u64 {
        self.mark
    }

    /// Notes that `commits` are on the disk; a mark never falls by this.
    ///
    /// # Errors
    /// The system's answer.
    pub fn rise(&mut self, commits: u64) -> io::Result<()> {
        if commits <= self.mark {
            return Ok(());
        }
        self.write(commits)?;
        if self.synced_at.elapsed() >= SYNC_INTERVAL {
            self.sync()?;
        }
        Ok(())
    }

    /// Makes `commits` the mark though it was higher: what was lost has been dealt with.
    ///
    /// # Errors
    /// The system's answer.
    pub fn fall(&mut self, commits: u64) -> io::Result<()> {
        // Both lines: the highest counts.
        self.write(commits)?;
        let other = line(commits);
        self.file
            .write_all_at(&other, place(commits.wrapping_add(1)))?;
        self.sync()
    }

    /// Waits for the disk.
    ///
    /// # Errors
    /// The system's answer.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        self.synced_at = Instant::now();
        Ok(())
    }

    fn write(&mut self, commits: u64) -> io::Result<()> {
        self.file.write_all_at(&line(commits), place(commits))?;
        self.mark = commits;
        Ok(())
    }
}

/// Neighbouring counts stand in different blocks.
fn place(commits: u64) -> u64 {
    (commits % 2) * BLOCK_LEN
}

fn line(commits: u64) -> Vec<u8> {
    let digits = format!("{commits:0DIGITS$}");
    let check = Digest::of(digits.as_bytes()).to_string();
    format!("{digits} {}\n", &check[..CHECK_LEN]).into_bytes()
}

/// The count at `at`; `None` where there is none, or a torn one.
fn read(file: &File, at: u64) -> Option<u64> {
    let mut found = [0; LINE_LEN];
    file.read_exact_at(&mut found, at).ok()?;
    let commits = std::str::from_utf8(&found[..DIGITS]).ok()?.parse().ok()?;
    (line(commits) == found).then_some(commits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> HighWater {
        HighWater::open(path).unwrap()
    }

    #[test]
    fn it_rises_and_falls_only_when_told_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("high-water");
        let mut mark = open(&path);
        assert_eq!(mark.mark(), 0);
        for commits in [1, 2, 3, 9, 4] {
            mark.rise(commits).unwrap();
        }
        assert_eq!(open(&path).mark(), 9);
        open(&path).fall(4).unwrap();
        assert_eq!(open(&path).mark(), 4);
    }

    /// Catches: one line alone, which a torn write would take away.
    #[test]
    fn a_torn_line_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("high-water");
        let mut mark = open(&path);
        mark.rise(56).unwrap();
        mark.rise(57).unwrap();
        let at = usize::try_from(BLOCK_LEN).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for torn in at..whole.len() {
            let mut bytes = whole.clone();
            bytes[torn..].fill(0);
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(open(&path).mark(), 56, "torn after {} bytes", torn - at);
        }
        std::fs::write(&path, b"nothing of the kind").unwrap();
        assert_eq!(open(&path).mark(), 0);
    }
}
