//! A thread with a runtime for the database's client, so that callers may block anywhere.

use std::future::Future;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::store::StoreError;

/// The thread; it ends with the link.
pub(super) struct Link {
    handle: Handle,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Link {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread or no runtime.
    pub(super) fn start() -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("store-database".into())
            .spawn(move || {
                // Told or dropped: both are the end.
                let _ = runtime.block_on(ended);
            })?;
        Ok(Self {
            handle,
            end: Some(end),
            thread: Some(thread),
        })
    }

    /// Runs `future` there and waits for it.
    ///
    /// # Errors
    /// The future's own, or its thread has ended.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.door().wait(future)
    }

    /// A way there that does not keep the thread alive.
    pub(super) fn door(&self) -> Door {
        Door(self.handle.clone())
    }
}

/// A way to the thread.
#[derive(Clone)]
pub(super) struct Door(Handle);

impl Door {
    /// See [`Link::wait`].
    ///
    /// # Errors
    /// The future's own, or its thread has ended.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = sync_channel(1);
        self.0.spawn(async move {
            // Whoever asked waits below, or is gone with the program.
            let _ = answer.send(future.await);
        });
        answered.recv().unwrap_or(Err(StoreError::Closed))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, its message is out already.
            let _ = thread.join();
        }
    }
}
