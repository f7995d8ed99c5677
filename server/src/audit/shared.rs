//! One log that several servers write, in turns.
//!
//! A turn begins with what the others wrote: the newest checkpoint is read, its tiles at the right
//! edge are taken up, and it is proven that the log still begins with what this server saw last. So
//! each server is a witness of the place that it shares.
//!
//! A place that was away, or a connection that broke during a commit, is not guessed about: it is
//! asked whether the entries that were sent stand where they should.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::AuditError;
use super::checkpoint::Checkpoint;
use super::log::{Log, failed};
use super::merkle::{self, Hash};
use super::note::NOTE_LEN_MAX;
use super::tiles::{CHECKPOINT, Tiles, WIDTH};
use super::witness::grew;

/// How long a group of entries waits for a place that is away.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two attempts.
const RETRY: Duration = Duration::from_millis(200);

impl Log {
    /// Whether other servers write it too.
    pub fn is_shared(&self) -> bool {
        self.medium().is_shared()
    }

    /// As [`Log::append`], of entries that are made when their place is known: `make` is given that
    /// of the first. A place that is shared and does not answer is waited for.
    ///
    /// # Errors
    /// As [`Log::append`]. A log that is shared takes later entries all the same.
    pub fn append_made(&mut self, make: &dyn Fn(u64) -> Vec<Vec<u8>>) -> Result<u64, AuditError> {
        let begun = Instant::now();
        let mut sent = None;
        loop {
            match self.attempt(make, &mut sent) {
                Err(AuditError::File { .. }) if self.is_shared() && begun.elapsed() < PATIENCE => {
                    sleep(RETRY);
                }
                other => return other,
            }
        }
    }

    fn attempt(
        &mut self,
        make: &dyn Fn(u64) -> Vec<Vec<u8>>,
        sent: &mut Option<(u64, Vec<Hash>)>,
    ) -> Result<u64, AuditError> {
        if self.is_broken() && self.is_shared() {
            self.resume()?;
        }
        if let Some((first, leaves)) = sent
            && self.holds(*first, leaves)?
        {
            return Ok(*first);
        }
        self.begin_writing()?;
        let first = self.size();
        let entries = make(first);
        let leaves = entries.iter().map(|entry| merkle::leaf(entry));
        *sent = Some((first, leaves.collect()));
        self.add(&entries)?;
        self.end_writing();
        Ok(first)
    }

    /// Takes up a log of which nothing is known since an operation failed.
    pub(super) fn resume(&mut self) -> Result<(), AuditError> {
        self.medium_mut().release();
        self.end_writing();
        self.medium_mut()
            .turn()
            .map_err(failed("lock", CHECKPOINT))?;
        let note = self.newest()?;
        self.follow(&note)?;
        self.medium_mut().release();
        Ok(())
    }

    /// Whether these entries stand there from `first` on.
    fn holds(&self, first: u64, leaves: &[Hash]) -> Result<bool, AuditError> {
        let tiles = Tiles::new(self.medium(), self.size());
        let mut tile = (u64::MAX, Vec::new());
        for (index, leaf) in (first..).zip(leaves) {
            if index >= self.size() {
                return Ok(false);
            }
            if tile.0 != index / WIDTH {
                let number = index / WIDTH;
                tile = (number, tiles.level(0, number)?.unwrap_or_default());
            }
            let place = usize::try_from(index % WIDTH).unwrap_or(usize::MAX);
            if tile.1.get(place) != Some(leaf) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits for the turn, and takes up what others wrote before it.
    pub(super) fn take_turn(&mut self) -> Result<(), AuditError> {
        self.medium_mut()
            .turn()
            .map_err(failed("lock", CHECKPOINT))?;
        if !self.is_shared() {
            return Ok(());
        }
        let note = self.newest()?;
        if note != self.checkpoint().as_bytes() {
            self.follow(&note)?;
        }
        Ok(())
    }

    fn newest(&self) -> Result<Vec<u8>, AuditError> {
        let note = self.medium().read(CHECKPOINT, NOTE_LEN_MAX);
        let note = note.map_err(failed("read", CHECKPOINT))?;
        note.ok_or_else(|| AuditError::Missing(CHECKPOINT.to_owned()))
    }

    fn follow(&mut self, note: &[u8]) -> Result<(), AuditError> {
        let known = Checkpoint::verify(self.checkpoint().as_bytes(), self.verifier())?;
        self.go_on(note)?;
        grew(self.medium(), &known, &self.vouched())
    }
}
