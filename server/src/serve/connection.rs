//! One connection: handshake, then requests, until either side ends it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, server::conn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::held::Held;
use super::pace::{Bounds, Pace, Paced, Verdict, Watch};
use super::{Peer, Shared};
use crate::http::problem::Problem;
use crate::http::{self, Answer};
use crate::identity::Identity;
use crate::store::Standing;
use crate::tls::TLS_BUFFER_LEN_MAX;

/// Requests that one HTTP/2 connection may have open.
const STREAMS_MAX: u32 = 32;

/// Boxed: it is moved from future to future, and each would keep room for it.
type Stream = Box<TlsStream<Held<Paced<TcpStream>>>>;

/// Serves `stream` until it ends, or `draining` says that it should.
pub(super) async fn serve(shared: Arc<Shared>, stream: TcpStream, draining: watch::Receiver<bool>) {
    let pace = Arc::new(Pace::default());
    // The state of the handshake is large; boxed, it is gone when the handshake is over.
    let handshake = Box::pin(handshake(&shared, stream, pace.clone()));
    let Some((stream, identity)) = handshake.await else {
        return;
    };
    let max = shared.config.limits.connections_per_device_max;
    let place = shared
        .fleet
        .find(&identity.device)
        .map(|device| device.connect(max));
    let over_limit = matches!(place, Some(None));
    let peer = Arc::new(Peer {
        identity,
        pace,
        shared: shared.clone(),
    });
    Box::pin(requests(shared, peer, stream, draining, over_limit)).await;
    drop(place);
}

/// `None` where the peer is too slow, is nobody, or breaks off: there is nobody to tell.
async fn handshake(
    shared: &Shared,
    stream: TcpStream,
    pace: Arc<Pace>,
) -> Option<(Stream, Identity)> {
    let acceptor = TlsAcceptor::from(shared.tls.current().config.clone());
    let stream = Held::new(Paced::new(stream, pace));
    let accepting = async {
        match acceptor.accept(stream).into_fallible().await {
            Ok(stream) => Some(stream),
            Err((_, mut stream)) => {
                // The alert, which says what is wrong with the peer's certificate, is still held.
                let _ = stream.shutdown().await;
                None
            }
        }
    };
    let mut stream = timeout(shared.config.limits.handshake_timeout, accepting)
        .await
        .ok()??;
    let (held, tls) = stream.get_mut();
    held.handshake_is_over();
    tls.set_buffer_limit(Some(TLS_BUFFER_LEN_MAX));
    let certificate = tls.peer_certificates()?.first()?;
    match Identity::of(certificate) {
        Ok(identity) => Some((Box::new(stream), identity)),
        Err(error) => {
            shared.log.warn(format_args!(
                "a client certificate of our authority {error}"
            ));
            None
        }
    }
}

async fn requests(
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    stream: Stream,
    draining: watch::Receiver<bool>,
    over_limit: bool,
) {
    let limits = shared.config.limits.clone();
    let bounds = Bounds {
        stall: limits.write_stall,
        rate_min: limits.write_rate_min,
        idle: limits.header_timeout,
    };
    let watch = Watch::new(peer.pace.clone(), bounds, Instant::now());
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let is_revoked = {
        let (shared, peer) = (shared.clone(), peer.clone());
        move || is_revoked(&shared, &peer.identity)
    };
    let service = service_fn(move |request: Request<Incoming>| {
        if over_limit {
            let detail = "this device has more connections open than it may";
            Answer::Now(Some(Problem::too_many(detail, 5).into_response()))
        } else {
            http::answer(&shared, &peer, request)
        }
    });
    let io = TokioIo::new(stream);
    if is_h2 {
        let mut builder = conn::http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(u32::try_from(limits.header_len_max).unwrap_or(u32::MAX))
            .keep_alive_interval(limits.header_timeout)
            .keep_alive_timeout(limits.write_stall);
        let connection = Box::pin(builder.serve_connection(io, service));
        drive(connection, watch, draining, is_revoked).await;
    } else {
        let mut builder = conn::http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_buf_size(limits.header_len_max);
        let connection = Box::pin(builder.serve_connection(io, service));
        drive(connection, watch, draining, is_revoked).await;
    }
}

/// A revoked device loses its open connections too, without asking anything on them.
fn is_revoked(shared: &Shared, identity: &Identity) -> bool {
    let by_operator = || {
        let device = shared.fleet.find(&identity.device);
        device.is_some_and(|device| device.row().standing == Standing::Revoked)
    };
    shared.tls.current().is_revoked(identity) || by_operator()
}

/// Both kinds of connection end in order when asked to.
trait Graceful: Future {
    fn end_in_order(self: Pin<&mut Self>);
}

impl<S> Graceful for conn::http1::Connection<TokioIo<Stream>, S>
where
    S: hyper::service::HttpService<Incoming>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::ResBody: hyper::body::Body + 'static,
    <S::ResBody as hyper::body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn end_in_order(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S, E> Graceful for conn::http2::Connection<TokioIo<Stream>, S, E>
where
    S: hyper::service::HttpService<Incoming>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::ResBody: hyper::body::Body + 'static,
    <S::ResBody as hyper::body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, S::ResBody>,
{
    fn end_in_order(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Runs the connection under the watch; dropping it cuts it.
async fn drive<C: Graceful>(
    mut connection: Pin<Box<C>>,
    mut watch: Watch,
    mut draining: watch::Receiver<bool>,
    is_revoked: impl Fn() -> bool,
) {
    let mut ticks = interval(watch.interval());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ending = false;
    loop {
        tokio::select! {
            biased;
            _ = connection.as_mut() => return,
            _ = draining.wait_for(|draining| *draining), if !ending => {
                ending = true;
                connection.as_mut().end_in_order();
            }
            _ = ticks.tick() => match watch.look(Instant::now()) {
                Verdict::Stays if !ending && is_revoked() => {
                    ending = true;
                    connection.as_mut().end_in_order();
                }
                Verdict::Stays => {}
                Verdict::TooSlow => return,
                // Whoever does not even let us say goodbye is cut.
                Verdict::Idle if ending => return,
                Verdict::Idle => {
                    ending = true;
                    connection.as_mut().end_in_order();
                }
            }
        }
    }
}
