//! The enrolment listener: TLS with or without a client certificate, a thread of its own.
//!
//! Devices without a certificate of ours come here and nowhere else: the device listener goes on
//! asking for one from everybody. What strangers can do here is bounded by [`CONNECTIONS_MAX`] and
//! [`CONNECTION_TIMEOUT`], and costs the device path nothing but the processor.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::{Caller, answer};
use crate::error::ServerError;
use crate::identity::Identity;
use crate::serve::Shared;
use crate::tls::Vouched;

/// Open connections; more wait in the kernel's backlog.
pub const CONNECTIONS_MAX: usize = 256;
/// From accept to the end: enrolling takes one or two questions.
pub const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// After an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Opens the listener, if there is to be one, and starts its thread; says where it listens.
///
/// # Errors
/// The address is taken, or the system gives no thread.
pub fn start(
    shared: &Arc<Shared>,
    draining: &watch::Receiver<bool>,
) -> Result<Option<SocketAddr>, ServerError> {
    let Some(est) = &shared.config.est else {
        return Ok(None);
    };
    let address = est.listen;
    let fault = |source| ServerError::Listen {
        address: address.to_string(),
        source,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| ServerError::System {
            act: "start a runtime",
            source,
        })?;
    let listener = std::net::TcpListener::bind(address).map_err(fault)?;
    listener.set_nonblocking(true).map_err(fault)?;
    let bound = listener.local_addr().map_err(fault)?;
    let (shared, draining) = (shared.clone(), draining.clone());
    std::thread::Builder::new()
        .name("enrolment".into())
        .spawn(move || runtime.block_on(accept(shared, listener, draining)))
        .map_err(|source| ServerError::System {
            act: "start a thread",
            source,
        })?;
    Ok(Some(bound))
}

async fn accept(
    shared: Arc<Shared>,
    listener: std::net::TcpListener,
    mut draining: watch::Receiver<bool>,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            shared.log.warn(format_args!("nobody can enrol: {error}"));
            return;
        }
    };
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            biased;
            _ = draining.wait_for(|draining| *draining) => return,
            accepted = async {
                let permit = permits.clone().acquire_owned().await.ok();
                (permit, listener.accept().await)
            } => accepted,
        };
        let (permit, Ok((stream, _))) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            // Whoever is too slow is cut, wherever it stands.
            let _ = timeout(CONNECTION_TIMEOUT, serve(shared, stream)).await;
            drop(permit);
        });
    }
}

async fn serve(shared: Arc<Shared>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
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
        async move { Ok::<_, Infallible>(answer(&shared, &caller, request).await) }
    });
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.header_len_max)
        .serve_connection(TokioIo::new(stream), service)
        .await;
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
