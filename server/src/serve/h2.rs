//! HTTP/2: many requests at a time on one connection.
//!
//! An answer that is there at once needs no task of its own: its future is polled where the request
//! is found ([`AtOnce`]), and only one that waits is spawned. What the answers write is gathered
//! ([`super::gather`]) and goes out when the connection has answered all that it heard.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use hyper::Request;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::connection::{Stream, answer};
use super::drive::{Graceful, Sleep, Watched, drive};
use super::gather::{Tail, gather};

/// Requests that one connection may have open.
const STREAMS_MAX: u32 = 32;

/// Serves requests until either side ends the connection.
pub(super) async fn serve(stream: Stream, mut watched: Watched, over_limit: bool) {
    let limits = &watched.shared.config.limits;
    let (shared, peer) = (watched.shared.clone(), watched.peer.clone());
    let service =
        service_fn(move |request: Request<Incoming>| answer(&shared, &peer, request, over_limit));
    let mut builder = conn::http2::Builder::new(AtOnce);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(limits.header_len_max).unwrap_or(u32::MAX))
        .keep_alive_interval(limits.header_timeout)
        .keep_alive_timeout(limits.write_stall);
    let (stream, tail) = gather(stream);
    let connection = Box::pin(builder.serve_connection(TokioIo::new(stream), service));
    let gathering = std::pin::pin!(Gathering { connection, tail });
    drive(gathering, &mut watched, Sleep::Never).await;
}

/// Polls a future once before it becomes a task.
#[derive(Debug, Clone, Copy)]
struct AtOnce;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for AtOnce {
    fn execute(&self, future: F) {
        let mut future = Box::pin(future);
        // Nobody is woken by this poll: a future that waits is polled again by its task.
        let mut context = Context::from_waker(Waker::noop());
        if future.as_mut().poll(&mut context).is_pending() {
            tokio::spawn(future);
        }
    }
}

/// A connection that lets go what it wrote when it waits.
struct Gathering<C> {
    connection: Pin<Box<C>>,
    tail: Tail<Stream>,
}

impl<C: Future> Future for Gathering<C> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.connection.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        match self.tail.poll_let_go(context) {
            // The connection would hear of it with its next write.
            Poll::Ready(Err(_)) => Poll::Ready(()),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }
}

impl<C: Graceful> Graceful for Gathering<C> {
    fn end_in_order(mut self: Pin<&mut Self>) {
        self.connection.as_mut().end_in_order();
    }
}
