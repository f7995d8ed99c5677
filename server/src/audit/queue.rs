//! One thread that writes the log: what waits is gathered into a group, and the group is one
//! checkpoint. Whoever records waits until it is durable.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use ampoule_protocol::time::UtcTime;
use tokio::sync::{mpsc, oneshot};

use super::AuditError;
use super::cosigned::Cosigned;
use super::entry::Record;
use super::log::Log;
use super::medium::{Folder, Medium};
use super::note::Verifier;
use crate::store::Store;

/// Groups of records that may wait; more are refused.
const QUEUE_LEN: usize = 4096;
/// Jobs that make one group: at 16 KiB an entry, a group has 8 MiB at most unless one job has more.
const GROUP_LEN_MAX: usize = 512;

/// Why a checkpoint is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The log has grown.
    Grown,
    /// The server ends.
    Ended,
}

enum Job {
    Record(Entries),
    Cosign {
        note: Vec<u8>,
        answer: oneshot::Sender<Result<Vec<Cosigned>, AuditError>>,
    },
}

struct Entries {
    at: UtcTime,
    records: Vec<Record>,
    answer: oneshot::Sender<Result<u64, AuditError>>,
}

/// Where a log lies, for reading.
#[derive(Clone)]
pub enum Place {
    /// In a folder.
    Folder(PathBuf),
    /// In the store that servers share.
    Store(Arc<dyn Store>),
}

impl Place {
    /// The files, to read from.
    pub fn files(&self) -> Box<dyn Medium> {
        let shared = match self {
            Self::Folder(path) => return Box::new(Folder::new(path)),
            Self::Store(store) => store.audit_files(),
        };
        // A store is shared or not from its beginning to its end.
        shared.unwrap_or_else(|| Box::new(Folder::new(Path::new(""))))
    }
}

/// The door to the writing thread; clones share it.
#[derive(Clone)]
pub struct Audit {
    queue: mpsc::Sender<Job>,
    place: Place,
    log: Arc<Verifier>,
    witnesses: Arc<[Verifier]>,
}

/// The writing thread itself.
pub struct Writing {
    thread: JoinHandle<()>,
}

impl Audit {
    /// Starts the thread that writes `log`, which lies in `place` and takes the cosignatures of
    /// `witnesses`. `newest` is shown each checkpoint, and once more the last; `failed` is called
    /// when the log fails.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        mut log: Log,
        place: Place,
        witnesses: &[Verifier],
        mut newest: impl FnMut(&str, When) + Send + 'static,
        failed: impl Fn(&AuditError) + Send + 'static,
    ) -> std::io::Result<(Self, Writing)> {
        let (queue, mut jobs) = mpsc::channel::<Job>(QUEUE_LEN);
        let verifier = Arc::new(log.verifier().clone());
        let witnesses: Arc<[Verifier]> = witnesses.into();
        let known = witnesses.clone();
        let run = move || {
            let mut group = Vec::with_capacity(GROUP_LEN_MAX);
            while jobs.blocking_recv_many(&mut group, GROUP_LEN_MAX) > 0 {
                match write(&mut log, &mut group, &known) {
                    Ok(()) => newest(log.checkpoint(), When::Grown),
                    Err(error) => {
                        failed(&error);
                        let is_away = matches!(error, AuditError::File { .. });
                        if !(log.is_shared() && is_away) {
                            // What waits and what comes is answered as broken: the senders are
                            // dropped.
                            return;
                        }
                    }
                }
            }
            newest(log.checkpoint(), When::Ended);
        };
        let thread = std::thread::Builder::new()
            .name("audit".into())
            .spawn(run)?;
        let audit = Self {
            queue,
            place,
            log: verifier,
            witnesses,
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
        self.send(Job::Record(Entries {
            at,
            records,
            answer,
        }))?;
        answered.await.unwrap_or(Err(AuditError::Broken))
    }

    fn send(&self, job: Job) -> Result<(), AuditError> {
        self.queue.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => AuditError::Busy,
            mpsc::error::TrySendError::Closed(_) => AuditError::Broken,
        })
    }

    /// Takes in what witnesses signed of a note, and returns when it is durable.
    ///
    /// # Errors
    /// See [`Log::cosign`]; or too many wait, or the log failed.
    pub async fn cosign(&self, note: Vec<u8>) -> Result<Vec<Cosigned>, AuditError> {
        let (answer, answered) = oneshot::channel();
        self.send(Job::Cosign { note, answer })?;
        answered.await.unwrap_or(Err(AuditError::Broken))
    }

    /// Writes one record down, without waiting until it is durable: for what was seen, not done.
    ///
    /// # Errors
    /// Too many wait, or the log failed.
    pub fn note(&self, record: Record, at: UtcTime) -> Result<(), AuditError> {
        let (answer, _) = oneshot::channel();
        let records = vec![record];
        self.send(Job::Record(Entries {
            at,
            records,
            answer,
        }))
    }

    /// Whether nothing is taken any more.
    pub fn is_broken(&self) -> bool {
        self.queue.is_closed()
    }

    /// The key that verifies the log.
    pub fn log(&self) -> &Verifier {
        &self.log
    }

    /// Whose cosignatures it takes.
    pub fn witnesses(&self) -> &[Verifier] {
        &self.witnesses
    }

    /// Where the log lies, for reading.
    pub fn place(&self) -> &Place {
        &self.place
    }
}

impl Writing {
    /// Waits for the thread; it ends when every [`Audit`] is gone and the queue is empty.
    pub fn join(self) {
        // The thread does not panic; if it did, its message is out already.
        let _ = self.thread.join();
    }
}

fn write(log: &mut Log, group: &mut Vec<Job>, witnesses: &[Verifier]) -> Result<(), AuditError> {
    let (mut jobs, mut notes) = (Vec::new(), Vec::new());
    for job in group.drain(..) {
        match job {
            Job::Record(entries) => jobs.push(entries),
            Job::Cosign { note, answer } => notes.push((note, answer)),
        }
    }
    append(log, jobs)?;
    for (note, answer) in notes {
        let taken = log.cosign(&note, witnesses);
        if log.is_broken() {
            return taken.map(drop);
        }
        // Whoever asked may be gone.
        let _ = answer.send(taken);
    }
    Ok(())
}

fn append(log: &mut Log, jobs: Vec<Entries>) -> Result<(), AuditError> {
    if jobs.is_empty() {
        return Ok(());
    }
    let make = |first: u64| {
        let records = jobs
            .iter()
            .flat_map(|job| job.records.iter().map(|record| (record, job.at)));
        (first..)
            .zip(records)
            .map(|(index, (record, at))| record.to_bytes(index, at))
            .collect()
    };
    let written = log.append_made(&make);
    let mut index = written.as_ref().copied().unwrap_or(0);
    for job in jobs {
        let next = index + job.records.len() as u64;
        let answer = match &written {
            Ok(_) => Ok(index),
            Err(AuditError::File { .. }) if log.is_shared() => Err(AuditError::Away),
            Err(_) => Err(AuditError::Broken),
        };
        // Whoever asked may be gone; the entry stands.
        let _ = job.answer.send(answer);
        index = next;
    }
    written.map(drop)
}
