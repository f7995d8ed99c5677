//! The listener: connections, their limits, and the orderly end. It has a thread and a runtime of
//! its own, so that no operator's question slows a device's poll.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::who::Program;
use super::{Door, api};
use crate::config::Operators;
use crate::error::ServerError;

/// Open connections of operators.
const CONNECTIONS_MAX: usize = 256;
/// The longest time of one connection: a slow reader or writer holds its place no longer.
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(10);
/// After an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Bytes of one request's head.
const HEAD_LEN_MAX: u32 = 16 << 10;

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

/// Opens the listener and starts its thread.
///
/// # Errors
/// The address is taken, or the system gives no thread.
pub fn start(
    door: Door,
    config: &Operators,
    draining: watch::Receiver<bool>,
) -> Result<Listening, ServerError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("start a runtime"))?;
    let fault = |source| ServerError::Listen {
        address: config.listen.to_string(),
        source,
    };
    let listener = std::net::TcpListener::bind(config.listen).map_err(fault)?;
    listener.set_nonblocking(true).map_err(fault)?;
    let address = listener.local_addr().map_err(fault)?;
    let listener = {
        let _inside = runtime.enter();
        TcpListener::from_std(listener).map_err(fault)?
    };
    let (alive_sender, alive) = mpsc::channel(1);
    let door = Arc::new(door);
    std::thread::Builder::new()
        .name("operators".into())
        .spawn(move || {
            runtime.block_on(accept(&door, listener, draining));
            drop(runtime);
            drop((door, alive_sender));
        })
        .map_err(system("start a thread"))?;
    Ok(Listening { address, alive })
}

fn system(act: &'static str) -> impl FnOnce(std::io::Error) -> ServerError {
    move |source| ServerError::System { act, source }
}

async fn accept(door: &Arc<Door>, listener: TcpListener, mut draining: watch::Receiver<bool>) {
    let router = api::router(door.clone());
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
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
        let (router, draining, open) = (router.clone(), draining.clone(), open_sender.clone());
        let Some(tls) = &door.shared.operators_tls else {
            break;
        };
        let acceptor = TlsAcceptor::from(tls.current());
        let handshake = door.shared.config.limits.handshake_timeout;
        let header = door.shared.config.limits.header_timeout;
        tokio::spawn(async move {
            let serving = serve(router, acceptor, stream, (handshake, header), draining);
            let _ = timeout(CONNECTION_TIMEOUT, Box::pin(serving)).await;
            drop((permit, open));
        });
    }
    drop(listener);
    drop((open_sender, router));
    let _ = timeout(door.shared.config.limits.drain, open.recv()).await;
}

async fn serve(
    router: Router,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    (handshake, header): (Duration, Duration),
    mut draining: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    // Whoever is too slow or breaks off is nobody to tell.
    let Ok(Ok(stream)) = timeout(handshake, acceptor.accept(stream)).await else {
        return;
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let program = certificates.and_then(|chain| Program::of(chain.first()?));
    let router = match program {
        Some(program) => router.layer(axum::Extension(program)),
        None => router,
    };
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header)
        .max_buf_size(HEAD_LEN_MAX as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(32)
        .max_header_list_size(HEAD_LEN_MAX)
        .keep_alive_interval(header)
        .keep_alive_timeout(header);
    let service = TowerToHyperService::new(router);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = draining.wait_for(|draining| *draining) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
