//! The threads that serve devices.
//!
//! Each has its own listener on the same address (`SO_REUSEPORT`: the kernel spreads connections)
//! and its own runtime, so that nothing of one connection ever moves to another core.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, mpsc, watch};

use super::{Shared, connection};
use crate::error::ServerError;

/// Connections that wait in the kernel to be accepted.
const BACKLOG: u32 = 4096;
/// After an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Threads for reads that the page cache has not; each runtime has its own.
const BLOCKING_THREADS_MAX: usize = 16;

/// The listener while it runs.
pub struct Listening {
    /// Where it listens.
    pub address: SocketAddr,
    /// Ends when the last thread has ended.
    alive: mpsc::Receiver<()>,
}

impl Listening {
    /// Waits until all connections have ended, at most `patience`; says whether they have.
    pub async fn ended(mut self, patience: Duration) -> bool {
        tokio::time::timeout(patience, self.alive.recv())
            .await
            .is_ok()
    }
}

/// Opens the listeners and starts the threads.
///
/// # Errors
/// The address is taken, or the system gives no thread.
pub fn start(
    shared: &Arc<Shared>,
    draining: &watch::Receiver<bool>,
) -> Result<Listening, ServerError> {
    let (alive_sender, alive) = mpsc::channel(1);
    let permits = Arc::new(Semaphore::new(shared.config.limits.connections_max));
    let mut address = shared.config.devices.listen;
    for number in 0..shared.config.devices.threads {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .build()
            .map_err(|source| ServerError::System {
                act: "start a runtime",
                source,
            })?;
        let listener = {
            let _inside = runtime.enter();
            listener(address).map_err(|source| ServerError::Listen {
                address: address.to_string(),
                source,
            })?
        };
        // Port 0 becomes a real one with the first listener; the others join it.
        address = listener
            .local_addr()
            .map_err(|source| ServerError::Listen {
                address: address.to_string(),
                source,
            })?;
        let (shared, permits) = (shared.clone(), permits.clone());
        let (draining, alive_sender) = (draining.clone(), alive_sender.clone());
        std::thread::Builder::new()
            .name(format!("devices-{number}"))
            .spawn(move || {
                runtime.block_on(accept(shared, listener, permits, draining));
                drop(runtime);
                drop(alive_sender);
            })
            .map_err(|source| ServerError::System {
                act: "start a thread",
                source,
            })?;
    }
    Ok(Listening { address, alive })
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    // Requests and answers are written whole; waiting to fill a packet only costs time. Accepted
    // connections take it over, one call each spared.
    socket.set_nodelay(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(
    shared: Arc<Shared>,
    listener: TcpListener,
    permits: Arc<Semaphore>,
    mut draining: watch::Receiver<bool>,
) {
    let (open_sender, mut open) = mpsc::channel::<()>(1);
    loop {
        // The permit comes first: over the limit, connections wait in the kernel.
        let accepted = tokio::select! {
            biased;
            _ = draining.wait_for(|draining| *draining) => break,
            accepted = async {
                let permit = permits.clone().acquire_owned().await.ok();
                (permit, listener.accept().await)
            } => accepted,
        };
        let (permit, stream) = match accepted {
            (permit, Ok((stream, _))) => (permit, stream),
            (_, Err(error)) => {
                shared
                    .log
                    .trouble("accept", format_args!("failed to accept: {error}"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (shared, draining, open) = (shared.clone(), draining.clone(), open_sender.clone());
        tokio::spawn(async move {
            connection::serve(shared, stream, draining).await;
            drop((permit, open));
        });
    }
    drop(listener);
    drop(open_sender);
    let patience = shared.config.limits.drain;
    if tokio::time::timeout(patience, open.recv()).await.is_err() {
        shared.log.warn(format_args!(
            "connections were cut after {} s",
            patience.as_secs()
        ));
    }
}
