//! One thread that writes the log: what waits is gathered into a group, and the group is one
//! checkpoint. Whoever records waits until it is durable.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use ampoule_protocol::time::UtcTime;
use tokio::sync::{mpsc, oneshot};

use super::AuditError;
use super::entry::Record;
use super::log::Log;

/// Groups of records that may wait; more are refused.
const QUEUE_LEN: usize = 4096;
/// Jobs that make one group: at 16 KiB an entry, a group has 8 MiB at most unless one job has more.
const GROUP_LEN_MAX: usize = 512;

struct Job {
    at: UtcTime,
    records: Vec<Record>,
    answer: oneshot::Sender<Result<u64, AuditError>>,
}

/// The door to the writing thread; clones share it.
#[derive(Clone)]
pub struct Audit {
    queue: mpsc::Sender<Job>,
    newest: Arc<Mutex<String>>,
    folder: Arc<PathBuf>,
}

/// The writing thread itself.
pub struct Writing {
    thread: JoinHandle<()>,
}

impl Audit {
    /// Starts the thread that writes `log`, which lies in `folder`. `failed` is called once, when
    /// the log fails.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        mut log: Log,
        folder: &Path,
        failed: impl Fn(&AuditError) + Send + 'static,
    ) -> std::io::Result<(Self, Writing)> {
        let (queue, mut jobs) = mpsc::channel::<Job>(QUEUE_LEN);
        let newest = Arc::new(Mutex::new(log.checkpoint().to_owned()));
        let told = newest.clone();
        let run = move || {
            let mut group = Vec::with_capacity(GROUP_LEN_MAX);
            while jobs.blocking_recv_many(&mut group, GROUP_LEN_MAX) > 0 {
                if let Err(error) = write(&mut log, &mut group) {
                    failed(&error);
                    // What waits and what comes is answered as broken: the senders are dropped.
                    return;
                }
                let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                log.checkpoint().clone_into(&mut told);
            }
        };
        let thread = std::thread::Builder::new()
            .name("audit".into())
            .spawn(run)?;
        let audit = Self {
            queue,
            newest,
            folder: Arc::new(folder.to_path_buf()),
        };
        Ok((audit, Writing { thread }))
    }

    /// Writes one record down, and returns its index when it is durable.
    ///
    /// # Errors
    /// Too many wait, or the log failed.
    pub async fn record(&self, record: Record, at: UtcTime) -> Result<u64, AuditError> {
        self.record_all(vec![record], at).await
    }

    /// Writes records down, one after the other, and returns the index of the first when all are
    /// durable.
    ///
    /// # Errors
    /// Too many wait, or the log failed.
    pub async fn record_all(&self, records: Vec<Record>, at: UtcTime) -> Result<u64, AuditError> {
        let (answer, answered) = oneshot::channel();
        let job = Job {
            at,
            records,
            answer,
        };
        self.queue.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => AuditError::Busy,
            mpsc::error::TrySendError::Closed(_) => AuditError::Broken,
        })?;
        answered.await.unwrap_or(Err(AuditError::Broken))
    }

    /// Writes one record down, without waiting until it is durable: for what was seen, not done.
    ///
    /// # Errors
    /// Too many wait, or the log failed.
    pub fn note(&self, record: Record, at: UtcTime) -> Result<(), AuditError> {
        let (answer, _) = oneshot::channel();
        let records = vec![record];
        let job = Job {
            at,
            records,
            answer,
        };
        self.queue.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => AuditError::Busy,
            mpsc::error::TrySendError::Closed(_) => AuditError::Broken,
        })
    }

    /// Whether nothing is taken any more.
    pub fn is_broken(&self) -> bool {
        self.queue.is_closed()
    }

    /// The newest checkpoint, a signed note.
    pub fn checkpoint(&self) -> String {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.clone()
    }

    /// Where the tiles are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Writing {
    /// Waits for the thread; it ends when every [`Audit`] is gone and the queue is empty.
    pub fn join(self) {
        // The thread does not panic; if it did, its message is out already.
        let _ = self.thread.join();
    }
}

fn write(log: &mut Log, group: &mut Vec<Job>) -> Result<(), AuditError> {
    let first = log.size();
    let records = group
        .iter()
        .flat_map(|job| job.records.iter().map(|record| (record, job.at)));
    let entries: Vec<Vec<u8>> = (first..)
        .zip(records)
        .map(|(index, (record, at))| record.to_bytes(index, at))
        .collect();
    log.append(&entries)?;
    let mut index = first;
    for job in group.drain(..) {
        let next = index + job.records.len() as u64;
        // Whoever asked may be gone; the entry stands.
        let _ = job.answer.send(Ok(index));
        index = next;
    }
    Ok(())
}
