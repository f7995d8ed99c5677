//! The enrolment listener: TLS with or without a client certificate, a thread of its own.
//!
//! Devices without a certificate of ours come here and nowhere else: the device listener goes on
//! asking for one from everybody. What strangers can do here is bounded by [`CONNECTIONS_MAX`] and
//! [`CONNECTION_TIMEOUT`], and costs the device path nothing but the processor.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::{Caller, answer};
use crate::error::ServerError;
use crate::identity::Identity;
use crate::serve::Shared;
use crate::strangers::{self, Bounds, Listening};
use crate::tls::Vouched;
use crate::to_its_end::to_its_end;

/// Open connections; more wait in the kernel's backlog.
pub const CONNECTIONS_MAX: usize = 256;
/// From accept to the end: enrolling takes one or two questions.
pub const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Opens the listener, if there is to be one, and starts its thread.
///
/// # Errors
/// The address is taken, or the system gives no thread.
pub fn start(
    shared: &Arc<Shared>,
    draining: &watch::Receiver<bool>,
) -> Result<Option<Listening>, ServerError> {
    let Some(est) = &shared.config.est else {
        return Ok(None);
    };
    let bounds = Bounds {
        connections_max: CONNECTIONS_MAX,
        connection_timeout: CONNECTION_TIMEOUT,
        drain: shared.config.limits.drain,
    };
    let (shared, watched) = (shared.clone(), draining.clone());
    let serve = move |stream| serve(shared.clone(), stream, watched.clone());
    strangers::start("enrolment", est.listen, bounds, draining.clone(), serve).map(Some)
}

async fn serve(shared: Arc<Shared>, stream: TcpStream, mut draining: watch::Receiver<bool>) {
    let tls = shared.tls.current();
    let Some(door) = &tls.enrolment else { return };
    let acceptor = TlsAcceptor::from(door.config.clone());
    let limits = shared.config.limits.clone();
    let accepting = timeout(limits.handshake_timeout, acceptor.accept(stream));
    let Ok(Ok(stream)) = accepting.await else {
        return;
    };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let caller = Arc::new(caller(chain, |chain| door.vouched(chain)));
    let service = service_fn(move |request: Request<Incoming>| {
        let (shared, caller) = (shared.clone(), caller.clone());
        let answering = async move { answer(&shared, &caller, request).await };
        async move { Ok::<_, Infallible>(to_its_end(answering).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.header_len_max)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = draining.wait_for(|draining| *draining) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// The chain was verified; `vouched` says by whose authority.
fn caller(
    chain: &[CertificateDer<'_>],
    vouched: impl FnOnce(&[CertificateDer<'_>]) -> Option<Vouched>,
) -> Caller {
    let identity = chain.first().and_then(|leaf| Identity::of(leaf).ok());
    match (identity, vouched(chain)) {
        (Some(identity), Some(Vouched::Fleet)) => Caller::Device(identity),
        (Some(identity), Some(Vouched::Birth)) => Caller::Birth(identity),
        _ => Caller::Nobody,
    }
}
