//! One thread that writes: what waits is gathered into a group, and the group is one commit.
//!
//! A slow disk makes groups longer instead of latencies endless: while one group is synced the
//! next one fills. The queue is bounded; where it is full the caller is told at once
//! ([`StoreError::Full`], answered as 503) instead of being kept waiting.
//!
//! After a failed commit the writer takes nothing more: what the kernel holds of the log is then
//! unknown (a later fsync may lie), and only opening the store again tells. A database that is away
//! fails the groups that come meanwhile and takes later ones.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::{Store, StoreError, Write, Written};
use crate::metrics::Counter;

type Answer = Result<Written, StoreError>;

struct Job {
    write: Write,
    answer: oneshot::Sender<Answer>,
}

/// The door to the writing thread; clones share it.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<Job>,
    counts: Arc<Counts>,
}

/// What was written so far.
#[derive(Debug, Default)]
pub struct Counts {
    /// Groups that are durable.
    pub groups: Counter,
    /// Writes in them.
    pub writes: Counter,
    /// Microseconds that they took.
    pub micros: Counter,
    /// Groups that failed.
    pub failures: Counter,
}

/// The writing thread itself.
pub struct Writing {
    thread: JoinHandle<()>,
}

impl Writer {
    /// Starts the thread. `done` is called with each durable write before it is answered, in
    /// order; `failed` when a group fails.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        store: Arc<dyn Store>,
        queue_len: usize,
        group_len_max: usize,
        mut done: impl FnMut(&Written) + Send + 'static,
        failed: impl Fn(&StoreError) + Send + 'static,
    ) -> std::io::Result<(Self, Writing)> {
        let (queue, mut jobs) = mpsc::channel::<Job>(queue_len);
        let counts = Arc::new(Counts::default());
        let counting = counts.clone();
        let run = move || {
            let mut group = Vec::with_capacity(group_len_max);
            while jobs.blocking_recv_many(&mut group, group_len_max) > 0 {
                if let Err(error) = commit(&*store, &mut group, &counting, &mut done) {
                    counting.failures.raise();
                    failed(&error);
                    // What a folder holds after a failed sync is unknown; a database says by
                    // itself what it took, and the next group asks it again.
                    if !matches!(error, StoreError::Database(_)) {
                        return;
                    }
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(run)?;
        Ok((Self { queue, counts }, Writing { thread }))
    }

    /// What was written so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Writes that wait for their group.
    pub fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Writes, and returns when it is durable.
    ///
    /// # Errors
    /// The write is out of bounds, the queue is full, or the store failed.
    pub async fn write(&self, write: Write) -> Answer {
        write.check()?;
        let (answer, answered) = oneshot::channel();
        self.queue
            .try_send(Job { write, answer })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => StoreError::Full,
                mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
            })?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }
}

impl Writer {
    /// Writes all of them, in order, and returns when the last is durable. Waits for room in the
    /// queue: this is for work of our own, not for requests.
    ///
    /// # Errors
    /// A write is out of bounds, or the store failed.
    pub async fn write_all(&self, writes: Vec<Write>) -> Result<Vec<Written>, StoreError> {
        let mut answers = Vec::with_capacity(writes.len());
        writes.iter().try_for_each(Write::check)?;
        for write in writes {
            let (answer, answered) = oneshot::channel();
            let sent = self.queue.send(Job { write, answer }).await;
            sent.map_err(|_| StoreError::Closed)?;
            answers.push(answered);
        }
        let mut written = Vec::with_capacity(answers.len());
        for answered in answers {
            written.push(answered.await.unwrap_or(Err(StoreError::Closed))?);
        }
        Ok(written)
    }
}

impl Writing {
    /// Waits for the thread; it ends when every [`Writer`] is gone and the queue is empty.
    pub fn join(self) {
        // The thread does not panic; if it did, its message is out already.
        let _ = self.thread.join();
    }
}

fn commit(
    store: &dyn Store,
    group: &mut Vec<Job>,
    counts: &Counts,
    done: &mut impl FnMut(&Written),
) -> Result<(), StoreError> {
    let (writes, answers): (Vec<_>, Vec<_>) =
        group.drain(..).map(|job| (job.write, job.answer)).unzip();
    // On an error the senders are dropped, which answers `Closed`.
    let start = Instant::now();
    let written = store.commit(&writes)?;
    let micros = start.elapsed().as_micros();
    counts.micros.add(u64::try_from(micros).unwrap_or(u64::MAX));
    counts.groups.raise();
    counts.writes.add(written.len() as u64);
    for (written, answer) in written.into_iter().zip(answers) {
        done(&written);
        // Whoever asked may be gone; the write stands.
        let _ = answer.send(Ok(written));
    }
    Ok(())
}
