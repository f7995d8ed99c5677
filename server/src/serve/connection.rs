//! One connection: handshake, who it is, then requests, until either side ends it.

use std::sync::Arc;
use std::time::Instant;

use hyper::Request;
use hyper::body::Incoming;
use rustls::HandshakeKind;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::drive::Watched;
use super::held::Held;
use super::pace::{Bounds, Pace, Paced, Watch};
use super::{Peer, Shared, h1, h2};
use crate::http::problem::Problem;
use crate::http::{self, Answer};
use crate::identity::Identity;
use crate::tls::TLS_BUFFER_LEN_MAX;

/// Boxed: it is moved from future to future, and each would keep room for it.
pub(super) type Stream = Box<TlsStream<Held<Paced<TcpStream>>>>;

/// Serves `stream` until it ends, or `draining` says that it should.
pub(super) async fn serve(shared: Arc<Shared>, stream: TcpStream, draining: watch::Receiver<bool>) {
    let open = shared.metrics.open();
    let pace = Arc::new(Pace::default());
    // The state of the handshake is large; boxed, it is gone when the handshake is over.
    let handshake = Box::pin(handshake(&shared, stream, pace.clone()));
    let Some((stream, identity)) = handshake.await else {
        shared.metrics.handshakes_failed.raise();
        return;
    };
    match stream.get_ref().1.handshake_kind() {
        Some(HandshakeKind::Resumed) => shared.metrics.handshakes_resumed.raise(),
        _ => shared.metrics.handshakes_full.raise(),
    }
    let limits = &shared.config.limits;
    let bounds = Bounds {
        stall: limits.write_stall,
        rate_min: limits.write_rate_min,
        idle: limits.header_timeout,
    };
    let watch = Watch::new(pace.clone(), bounds, Instant::now());
    let max = limits.connections_per_device_max;
    let peer = Arc::new(Peer::new(identity, pace, shared.clone()));
    let place = peer.device().map(|device| device.connect(max));
    let over_limit = matches!(place, Some(None));
    let speaks_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let watched = Watched {
        shared,
        peer,
        watch,
        draining,
    };
    // Boxed: most connections speak the other one.
    if speaks_h2 {
        Box::pin(h2::serve(stream, watched, over_limit)).await;
    } else {
        Box::pin(h1::serve(stream, watched, over_limit)).await;
    }
    drop((place, open));
}

/// `None` where the peer is too slow, is nobody, or breaks off: there is nobody to tell.
async fn handshake(
    shared: &Shared,
    stream: TcpStream,
    pace: Arc<Pace>,
) -> Option<(Stream, Arc<Identity>)> {
    let state = shared.tls.current();
    let acceptor = TlsAcceptor::from(state.config.clone());
    let stream = Held::new(Paced::new(stream, pace.clone()), pace.clone());
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
    pace.hold_back(false);
    let (_, tls) = stream.get_mut();
    tls.set_buffer_limit(Some(TLS_BUFFER_LEN_MAX));
    let certificate = tls.peer_certificates()?.first()?;
    match state.identify(certificate) {
        Ok(identity) => Some((Box::new(stream), identity)),
        Err(error) => {
            shared.log.warn(format_args!(
                "a client certificate of our authority {error}"
            ));
            None
        }
    }
}

/// The answer to one request of a connection.
pub(super) fn answer(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    request: Request<Incoming>,
    over_limit: bool,
) -> Answer {
    if over_limit {
        let detail = "this device has more connections open than it may";
        return Answer::Now(Some(Problem::too_many(detail, 5).into_response()));
    }
    http::answer(shared, peer, request)
}
