//! A listener with a thread and a runtime of its own, for whoever is not a device on its poll: so no
//! operator's question and no stranger's handshake slows the device path.
//!
//! Bounds: [`Bounds::connections_max`] connections, each for [`Bounds::connection_timeout`] at most;
//! more wait in the kernel's backlog. At the end no new ones are taken, and those that are open have
//! [`Bounds::drain`].

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;

use crate::error::ServerError;

/// After an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What strangers may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Open connections.
    pub connections_max: usize,
    /// The longest time of one connection; whoever is too slow is cut, wherever it stands.
    pub connection_timeout: Duration,
    /// For open connections at the end.
    pub drain: Duration,
}

/// The listener while it runs.
pub struct Listening {
    /// Where it listens.
    pub address: SocketAddr,
    alive: mpsc::Receiver<()>,
}

impl Listening {
    /// Waits until all connections have ended, at most `patience`; says whether they have.
    pub async fn ended(mut self, patience: Duration) -> bool {
        timeout(patience, self.alive.recv()).await.is_ok()
    }
}

/// Opens the listener and starts its thread, called `name`; `serve` takes a connection to its end.
///
/// # Errors
/// The address is taken, or the system gives no thread.
pub fn start<F>(
    name: &str,
    address: SocketAddr,
    bounds: Bounds,
    draining: watch::Receiver<bool>,
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> Result<Listening, ServerError>
where
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("start a runtime"))?;
    let fault = |source| ServerError::Listen {
        address: address.to_string(),
        source,
    };
    let listener = std::net::TcpListener::bind(address).map_err(fault)?;
    listener.set_nonblocking(true).map_err(fault)?;
    let address = listener.local_addr().map_err(fault)?;
    let listener = {
        let _inside = runtime.enter();
        TcpListener::from_std(listener).map_err(fault)?
    };
    let (alive_sender, alive) = mpsc::channel::<()>(1);
    std::thread::Builder::new()
        .name(name.into())
        .spawn(move || {
            runtime.block_on(accept(listener, bounds, draining, serve));
            drop((runtime, alive_sender));
        })
        .map_err(system("start a thread"))?;
    Ok(Listening { address, alive })
}

fn system(act: &'static str) -> impl FnOnce(std::io::Error) -> ServerError {
    move |source| ServerError::System { act, source }
}

async fn accept<F>(
    listener: TcpListener,
    bounds: Bounds,
    mut draining: watch::Receiver<bool>,
    serve: impl Fn(TcpStream) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(bounds.connections_max));
    let (open_sender, mut open) = mpsc::channel::<()>(1);
    loop {
        let accepted = tokio::select! {
            biased;
            _ = draining.wait_for(|draining| *draining) => break,
            accepted = async {
                let permit = permits.clone().acquire_owned().await.ok();
                (permit, listener.accept().await)
            } => accepted,
        };
        let (permit, Ok((stream, _))) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (serving, open) = (serve(stream), open_sender.clone());
        tokio::spawn(async move {
            let _ = timeout(bounds.connection_timeout, Box::pin(serving)).await;
            drop((permit, open));
        });
    }
    drop((listener, open_sender));
    let _ = timeout(bounds.drain, open.recv()).await;
}
