//! The listener: connections, their limits, and the orderly end. It has a thread and a runtime of
//! its own, so that no operator's question slows a device's poll.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::who::Program;
use super::{Door, api};
use crate::config::Operators;
use crate::error::ServerError;
use crate::strangers::{self, Bounds, Listening};
use crate::tls::Reloading;

/// Open connections of operators.
const CONNECTIONS_MAX: usize = 256;
/// The longest time of one connection: a slow reader or writer holds its place no longer.
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(10);
/// Bytes of one request's head.
const HEAD_LEN_MAX: u32 = 16 << 10;

/// Opens the listener and starts its thread.
///
/// # Errors
/// The address is taken, or the system gives no thread.
pub fn start(
    door: Door,
    config: &Operators,
    draining: watch::Receiver<bool>,
) -> Result<Listening, ServerError> {
    let limits = door.shared.config.limits.clone();
    let bounds = Bounds {
        connections_max: CONNECTIONS_MAX,
        connection_timeout: CONNECTION_TIMEOUT,
        drain: limits.drain,
    };
    let timeouts = (limits.handshake_timeout, limits.header_timeout);
    let shared = door.shared.clone();
    let router = api::router(Arc::new(door));
    let watched = draining.clone();
    let serve = move |stream| {
        let (router, watched) = (router.clone(), watched.clone());
        // As they are now: certificates may change while we serve.
        let tls = shared.operators_tls.as_ref().map(Reloading::current);
        async move {
            if let Some(tls) = tls {
                serve(router, TlsAcceptor::from(tls), stream, timeouts, watched).await;
            }
        }
    };
    strangers::start("operators", config.listen, bounds, draining, serve)
}

async fn serve(
    router: Router,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    (handshake, header): (Duration, Duration),
    mut draining: watch::Receiver<bool>,
) {
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
