//! One connection under its watch, until it ends or goes to sleep.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::server::conn;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval_at};

use super::pace::{Verdict, Watch};
use super::{Peer, Shared};
use crate::store::Standing;

/// What a connection is watched for, whatever it speaks.
pub(super) struct Watched {
    pub(super) shared: Arc<Shared>,
    pub(super) peer: Arc<Peer>,
    pub(super) watch: Watch,
    pub(super) draining: watch::Receiver<bool>,
}

/// A revoked device loses its open connections too, without asking anything on them.
pub(super) fn is_revoked(shared: &Shared, peer: &Peer) -> bool {
    let by_operator = || {
        let device = peer.device();
        device.is_some_and(|device| device.standing() == Standing::Revoked)
    };
    shared.tls.current().is_revoked(&peer.identity) || by_operator()
}

/// Looks come late rather than twice.
pub(super) fn ticks(period: Duration) -> Interval {
    let mut ticks = interval_at(tokio::time::Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Both kinds of connection end in order when asked to.
pub(super) trait Graceful: Future {
    fn end_in_order(self: Pin<&mut Self>);
}

impl<I, S> Graceful for conn::http1::Connection<I, S>
where
    S: hyper::service::HttpService<Incoming>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::ResBody: hyper::body::Body + 'static,
    <S::ResBody as hyper::body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    fn end_in_order(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S, E> Graceful for conn::http2::Connection<I, S, E>
where
    S: hyper::service::HttpService<Incoming>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::ResBody: hyper::body::Body + 'static,
    <S::ResBody as hyper::body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, S::ResBody>,
{
    fn end_in_order(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Whether a connection that says nothing is put to sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sleep {
    WhenQuiet,
    Never,
}

/// How a drive came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Driven {
    /// The connection is over; dropping it cuts it.
    Ended,
    /// It has nothing to do.
    Quiet,
}

/// Runs the connection under the watch.
pub(super) async fn drive<C: Graceful>(
    mut connection: Pin<&mut C>,
    watched: &mut Watched,
    sleep: Sleep,
) -> Driven {
    let Watched {
        shared,
        peer,
        watch,
        draining,
    } = watched;
    let mut ticks = ticks(watch.awake_interval());
    let mut ending = false;
    loop {
        tokio::select! {
            biased;
            _ = connection.as_mut() => return Driven::Ended,
            _ = draining.wait_for(|draining| *draining), if !ending => {
                ending = true;
                connection.as_mut().end_in_order();
            }
            _ = ticks.tick() => match watch.look(Instant::now()) {
                Verdict::Stays | Verdict::Quiet if !ending && is_revoked(shared, peer) => {
                    ending = true;
                    connection.as_mut().end_in_order();
                }
                Verdict::Quiet if !ending && sleep == Sleep::WhenQuiet => return Driven::Quiet,
                Verdict::Stays | Verdict::Quiet => {}
                Verdict::TooSlow => return Driven::Ended,
                // Whoever does not even let us say goodbye is cut.
                Verdict::Idle if ending => return Driven::Ended,
                Verdict::Idle => {
                    ending = true;
                    connection.as_mut().end_in_order();
                }
            }
        }
    }
}
