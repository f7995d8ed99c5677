//! HTTP/1.1: hyper while something is asked, and the bare stream while nothing is.
//!
//! hyper keeps 16 KiB of buffers for as long as a connection is its own, and most of the open
//! connections of a fleet say nothing. One on which nothing was asked for a while, nothing is
//! answered and nothing is on its way is taken from hyper and sleeps as a stream; what had been
//! read of a next request goes along. The first byte that comes wakes it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Buf, Bytes};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

use super::connection::{Stream, answer};
use super::drive::{self, Driven, Sleep, Watched, drive};
use super::pace::Verdict;

/// Serves requests until either side ends the connection.
pub(super) async fn serve(stream: Stream, mut watched: Watched, over_limit: bool) {
    let mut stream = Resumed {
        before: Bytes::new(),
        stream,
    };
    while let Some(quiet) = awake(stream, &mut watched, over_limit).await {
        stream = quiet;
        if asleep(&stream.stream, &mut watched).await == Woken::ToEnd {
            // Whoever does not take the goodbye is cut.
            let patience = watched.shared.config.limits.write_stall;
            let _ = timeout(patience, stream.stream.shutdown()).await;
            return;
        }
    }
}

/// Runs hyper on the stream, and gives it back when nothing is asked any more.
async fn awake(stream: Resumed, watched: &mut Watched, over_limit: bool) -> Option<Resumed> {
    let limits = &watched.shared.config.limits;
    let (shared, peer) = (watched.shared.clone(), watched.peer.clone());
    let service =
        service_fn(move |request: Request<Incoming>| answer(&shared, &peer, request, over_limit));
    let mut builder = conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.header_len_max);
    let mut connection = Box::pin(builder.serve_connection(TokioIo::new(stream), service));
    match drive(connection.as_mut(), watched, Sleep::WhenQuiet).await {
        Driven::Ended => None,
        Driven::Quiet => {
            let parts = Pin::into_inner(connection).into_parts();
            let stream = parts.io.into_inner().stream;
            // All that it had read before, or it would not have read on.
            let before = parts.read_buf;
            Some(Resumed { before, stream })
        }
    }
}

/// Why a sleeping connection woke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    /// Its peer says something, or is gone.
    ToHear,
    /// It is over.
    ToEnd,
}

async fn asleep(stream: &Stream, watched: &mut Watched) -> Woken {
    let socket = stream.get_ref().0.below().below();
    let Watched {
        shared,
        peer,
        watch,
        draining,
    } = watched;
    let _asleep = shared.metrics.sleep();
    let mut ticks = drive::ticks(watch.interval());
    loop {
        tokio::select! {
            biased;
            _ = socket.readable() => return Woken::ToHear,
            _ = draining.wait_for(|draining| *draining) => return Woken::ToEnd,
            _ = ticks.tick() => match watch.look(Instant::now()) {
                Verdict::TooSlow | Verdict::Idle => return Woken::ToEnd,
                Verdict::Stays | Verdict::Quiet if drive::is_revoked(shared, peer) => return Woken::ToEnd,
                Verdict::Stays | Verdict::Quiet => {}
            }
        }
    }
}

/// A stream of which something had been read before it slept.
struct Resumed {
    before: Bytes,
    stream: Stream,
}

impl AsyncRead for Resumed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.before.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let len = self.before.len().min(buffer.remaining());
        buffer.put_slice(&self.before[..len]);
        self.before.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Resumed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
