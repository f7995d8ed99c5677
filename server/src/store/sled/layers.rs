//! What lies above the tree: groups that the journal has and the tree has not yet.
//!
//! ```text
//!   active   takes each group when the disk has it
//!   frozen   on its way to the tree, in a thread of its own; nothing is added
//!   tree     sled
//! ```
//!
//! Each layer hides what lies below it. Values are whole, never changes: a layer that goes to the
//! tree twice leaves what it left the first time.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;

use sled::IVec;

use super::pieces::HEADER;
use crate::store::StoreError;

/// Keys with their new values; `None` where there is none any more.
pub(super) type Layer = BTreeMap<IVec, Option<IVec>>;

/// Entries of one batch: what sled gathers in memory before it writes.
const BATCH_MAX: usize = 2048;

/// The tree and what lies above it.
pub(super) struct Layered {
    db: sled::Db,
    /// sled's own log, for our fdatasync.
    log: File,
    above: RwLock<Above>,
    state: Mutex<State>,
    /// The thread that brings the frozen layer to the tree; it holds the tree open.
    settler: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Above {
    active: Layer,
    frozen: Option<Arc<Layer>>,
}

/// What became of the frozen layer.
#[derive(Default)]
enum State {
    /// There is none.
    #[default]
    Settled,
    /// It is on its way.
    Settling,
    /// It did not arrive; the journal keeps it.
    Failed(StoreError),
}

impl Layered {
    /// With nothing above the tree.
    pub(super) fn new(db: sled::Db, log: File) -> Self {
        Self {
            db,
            log,
            above: RwLock::default(),
            state: Mutex::default(),
            settler: Mutex::default(),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Above> {
        self.above.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything was ever written.
    pub(super) fn is_empty(&self) -> bool {
        self.db.is_empty() && self.read().active.is_empty()
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        {
            let above = self.read();
            let layers = [Some(&above.active), above.frozen.as_deref()];
            if let Some(value) = layers
                .into_iter()
                .flatten()
                .find_map(|layer| layer.get(key))
            {
                return Ok(value.clone());
            }
        }
        self.db.get(key).map_err(StoreError::Engine)
    }

    /// Keys and values from `from` on, as long as `wanted` says so of the key, in order.
    ///
    /// No group becomes visible while this runs.
    pub(super) fn scan(
        &self,
        from: &[u8],
        mut wanted: impl FnMut(&[u8], &IVec) -> Scan,
    ) -> Result<(), StoreError> {
        let above = self.read();
        let bounds = (Bound::Included(from), Bound::Unbounded);
        let frozen = above.frozen.as_deref();
        let mut upper = above.active.range::<[u8], _>(bounds).peekable();
        let mut middle = frozen.map(|layer| layer.range::<[u8], _>(bounds).peekable());
        let mut lower = self.db.range(from..).peekable();
        loop {
            // The lowest key of the three; where it is in several, the uppermost counts.
            let mut next: Option<IVec> = upper.peek().map(|(key, _)| (*key).clone());
            let lowest = |next: &mut Option<IVec>, key: &IVec| {
                if next.as_ref().is_none_or(|next| key < next) {
                    *next = Some(key.clone());
                }
            };
            if let Some((key, _)) = middle.as_mut().and_then(|layer| layer.peek()) {
                lowest(&mut next, key);
            }
            match lower.peek() {
                Some(Ok((key, _))) => lowest(&mut next, key),
                Some(Err(error)) => return Err(StoreError::Engine(error.clone())),
                None => {}
            }
            let Some(key) = next else {
                return Ok(());
            };
            let in_tree =
                lower.next_if(|entry| entry.as_ref().is_ok_and(|(found, _)| *found == key));
            let in_middle = middle
                .as_mut()
                .and_then(|layer| layer.next_if(|(found, _)| **found == key));
            let in_upper = upper.next_if(|(found, _)| **found == key);
            let hidden = in_upper.or(in_middle).map(|(_, value)| value.clone());
            let value = match (hidden, in_tree) {
                (Some(value), _) => value,
                (None, Some(Ok((_, value)))) => Some(value),
                (None, _) => None,
            };
            if let Some(value) = value
                && wanted(&key, &value) == Scan::Ends
            {
                return Ok(());
            }
        }
    }

    /// Shows a group that the disk has.
    pub(super) fn show(&self, puts: Layer) {
        let mut above = self.above.write().unwrap_or_else(PoisonError::into_inner);
        above.active.extend(puts);
    }

    /// Whether a layer is on its way to the tree.
    ///
    /// # Errors
    /// It did not arrive there.
    pub(super) fn is_settling(&self) -> Result<bool, StoreError> {
        let mut state = self.state();
        match &*state {
            State::Settled => Ok(false),
            State::Settling => Ok(true),
            State::Failed(_) => match std::mem::take(&mut *state) {
                State::Failed(error) => Err(error),
                State::Settled | State::Settling => Ok(false),
            },
        }
    }

    /// Waits until no layer is on its way.
    pub(super) fn wait(&self) {
        let settler = self
            .settler
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // It does not panic; if it did, its message is out already.
        let _ = settler.map(JoinHandle::join);
    }

    /// Freezes the active layer and sends it to the tree.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn settle(self: &Arc<Self>) -> Result<(), StoreError> {
        let frozen = {
            let mut above = self.above.write().unwrap_or_else(PoisonError::into_inner);
            let frozen = Arc::new(std::mem::take(&mut above.active));
            above.frozen = Some(frozen.clone());
            frozen
        };
        *self.state() = State::Settling;
        let layered = self.clone();
        let work = move || {
            let settled = layered.put(&frozen);
            if settled.is_ok() {
                let mut above = layered
                    .above
                    .write()
                    .unwrap_or_else(PoisonError::into_inner);
                above.frozen = None;
            }
            *layered.state() = settled.map_or_else(State::Failed, |()| State::Settled);
        };
        let thread = std::thread::Builder::new().name("store-settler".into());
        let settler = thread.spawn(work).map_err(StoreError::Sync)?;
        // The one before has ended, or nothing would be frozen now.
        *self.settler.lock().unwrap_or_else(PoisonError::into_inner) = Some(settler);
        Ok(())
    }

    /// Puts a layer into the tree; returns when the disk has it there.
    ///
    /// The header comes last: until it is there, the tree counts fewer groups than the journal and
    /// the layer comes again.
    pub(super) fn put(&self, layer: &Layer) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        let mut len = 0;
        let rows = layer.iter().filter(|(key, _)| **key != HEADER);
        let header = layer.get_key_value(HEADER);
        for (key, value) in rows.chain(header) {
            let is_header = **key == *HEADER;
            if len == BATCH_MAX || is_header {
                self.db
                    .apply_batch(std::mem::take(&mut batch))
                    .map_err(StoreError::Engine)?;
                len = 0;
            }
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
            len += 1;
        }
        self.db.apply_batch(batch).map_err(StoreError::Engine)?;
        // On Linux this is sync_file_range, which leaves the disk's cache alone.
        self.db.flush().map_err(StoreError::Engine)?;
        self.log.sync_data().map_err(StoreError::Sync)
    }

    /// Puts what is left into the tree.
    pub(super) fn finish(&self) -> Result<(), StoreError> {
        self.wait();
        let rest = std::mem::take(
            &mut self
                .above
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .active,
        );
        if rest.is_empty() || !matches!(*self.state(), State::Settled) {
            return Ok(());
        }
        self.put(&rest)
    }
}

/// Whether a scan goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scan {
    /// To the next key.
    GoesOn,
    /// This was the last.
    Ends,
}
