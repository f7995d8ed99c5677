//! Cuts peers that do not move: slow readers, and connections on which nothing happens.
//!
//! The stream below TLS counts the bytes that the kernel took and notes when it takes none; bodies
//! note that they are on their way. Once in a window the connection's driver asks for a
//! [`Verdict`]: a peer that we wait for must have taken the least rate, and one that we do not
//! wait for must have asked something. Counting below TLS sees HTTP/2 flow control too: a stream
//! that is never granted a window moves no bytes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How often a connection is looked at, at the most and at the least: a revoked device loses its
/// open connections within the latter.
const LOOK_MIN: Duration = Duration::from_millis(100);
const LOOK_MAX: Duration = Duration::from_secs(2);
/// How often a connection is looked at on which something was asked lately: half of how long its
/// buffers are kept for nothing.
const LOOK_AWAKE_MAX: Duration = Duration::from_millis(500);

/// How one connection moves.
#[derive(Debug, Default)]
pub struct Pace {
    written: AtomicU64,
    requests: AtomicU64,
    open_requests: AtomicUsize,
    sending: AtomicUsize,
    blocked: AtomicBool,
    holds_back: AtomicBool,
}

impl Pace {
    /// A body begins; it is on its way until the guard is dropped.
    pub fn begin(this: &Arc<Self>) -> Sending {
        this.sending.fetch_add(1, Ordering::Relaxed);
        Sending(this.clone())
    }

    /// A request begins; it is open until the guard is dropped.
    pub fn request(this: &Arc<Self>) -> Answering {
        this.requests.fetch_add(1, Ordering::Relaxed);
        this.open_requests.fetch_add(1, Ordering::Relaxed);
        Answering(this.clone())
    }

    /// Whether small writes wait for the ones behind them: while hands are shaken, and when the
    /// last answer is written, behind which the connection's end follows at once.
    pub fn hold_back(&self, holds_back: bool) {
        self.holds_back.store(holds_back, Ordering::Relaxed);
    }

    pub(super) fn holds_back(&self) -> bool {
        self.holds_back.load(Ordering::Relaxed)
    }

    fn waits_for_peer(&self) -> bool {
        self.blocked.load(Ordering::Relaxed) || self.sending.load(Ordering::Relaxed) > 0
    }
}

/// A body on its way.
#[derive(Debug)]
pub struct Sending(Arc<Pace>);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.sending.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request being answered.
#[derive(Debug)]
pub struct Answering(Arc<Pace>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.open_requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The bounds that a connection is held to.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// For a peer that we wait for.
    pub stall: Duration,
    /// Bytes per second that it must take meanwhile.
    pub rate_min: u64,
    /// For a peer that asks nothing.
    pub idle: Duration,
}

/// What is to be done with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Stays,
    /// Nothing was asked since the last look, nothing is answered and nothing is on its way: it
    /// may sleep.
    Quiet,
    /// It may end in order.
    Idle,
    /// It is to be cut.
    TooSlow,
}

/// The windows of one connection.
#[derive(Debug)]
pub struct Watch {
    pace: Arc<Pace>,
    bounds: Bounds,
    /// Since when we have waited for the peer, and the bytes it had taken then.
    waiting: Option<(Instant, u64)>,
    /// Since when nothing was asked, and the requests there had been.
    quiet: (Instant, u64),
}

impl Watch {
    /// Begins to watch.
    pub fn new(pace: Arc<Pace>, bounds: Bounds, now: Instant) -> Self {
        Self {
            pace,
            bounds,
            waiting: None,
            quiet: (now, 0),
        }
    }

    /// How often it wants to look.
    pub fn interval(&self) -> Duration {
        (self.bounds.stall.min(self.bounds.idle) / 4).clamp(LOOK_MIN, LOOK_MAX)
    }

    /// The same, while something is asked now and then.
    pub fn awake_interval(&self) -> Duration {
        self.interval().min(LOOK_AWAKE_MAX)
    }

    /// Looks.
    pub fn look(&mut self, now: Instant) -> Verdict {
        if self.pace.waits_for_peer() {
            self.quiet.0 = now;
            return self.look_at_reader(now);
        }
        self.waiting = None;
        let requests = self.pace.requests.load(Ordering::Relaxed);
        if self.pace.open_requests.load(Ordering::Relaxed) > 0 || requests != self.quiet.1 {
            self.quiet = (now, requests);
            return Verdict::Stays;
        }
        if now - self.quiet.0 > self.bounds.idle {
            Verdict::Idle
        } else {
            Verdict::Quiet
        }
    }

    fn look_at_reader(&mut self, now: Instant) -> Verdict {
        let written = self.pace.written.load(Ordering::Relaxed);
        let (since, before) = *self.waiting.get_or_insert((now, written));
        let window = now - since;
        if window < self.bounds.stall {
            return Verdict::Stays;
        }
        let least = self.bounds.rate_min.saturating_mul(window.as_secs()).max(1);
        if written - before < least {
            return Verdict::TooSlow;
        }
        self.waiting = Some((now, written));
        Verdict::Stays
    }
}

/// A stream that counts what the kernel takes.
#[derive(Debug)]
pub struct Paced<S> {
    stream: S,
    pace: Arc<Pace>,
}

impl<S> Paced<S> {
    /// Counts on `pace`.
    pub fn new(stream: S, pace: Arc<Pace>) -> Self {
        Self { stream, pace }
    }

    /// The stream below.
    pub(super) fn below(&self) -> &S {
        &self.stream
    }

    fn count(&self, polled: &Poll<io::Result<usize>>) {
        match polled {
            Poll::Ready(Ok(len)) => {
                self.pace.written.fetch_add(*len as u64, Ordering::Relaxed);
                self.pace.blocked.store(false, Ordering::Relaxed);
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.pace.blocked.store(true, Ordering::Relaxed),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.count(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.count(&polled);
        polled
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

#[cfg(test)]
mod tests {
    use super::*;

    const SEC: Duration = Duration::from_secs(1);

    fn watch() -> (Arc<Pace>, Watch, Instant) {
        let (pace, now) = (Arc::new(Pace::default()), Instant::now());
        let bounds = Bounds {
            stall: 10 * SEC,
            rate_min: 100,
            idle: 30 * SEC,
        };
        (pace.clone(), Watch::new(pace, bounds, now), now)
    }

    #[test]
    fn a_reader_below_the_rate_is_cut_and_one_above_is_not() {
        for (per_sec, verdict) in [(99, Verdict::TooSlow), (101, Verdict::Stays)] {
            let (pace, mut watch, start) = watch();
            let _body = Pace::begin(&pace);
            let worst = (0..=60).map(|sec| {
                let looked = watch.look(start + SEC * sec);
                pace.written.fetch_add(per_sec, Ordering::Relaxed);
                looked
            });
            let cut = worst.filter(|looked| *looked == Verdict::TooSlow).count() > 0;
            assert_eq!(cut, verdict == Verdict::TooSlow, "{per_sec} bytes/s");
        }
    }

    #[test]
    fn waiting_begins_anew_after_a_pause() {
        let (pace, mut watch, start) = watch();
        for round in 0..10 {
            let body = Pace::begin(&pace);
            assert_eq!(watch.look(start + SEC * (20 * round)), Verdict::Stays);
            assert_eq!(watch.look(start + SEC * (20 * round + 9)), Verdict::Stays);
            drop(body);
            assert_eq!(watch.look(start + SEC * (20 * round + 19)), Verdict::Quiet);
        }
    }

    /// Catches: buffers taken from under an answer that is being made, sent, or waits for a peer.
    #[test]
    fn nothing_sleeps_while_something_is_on_its_way() {
        let (pace, mut watch, start) = watch();
        drop(Pace::request(&pace));
        assert_eq!(
            watch.look(start + SEC),
            Verdict::Stays,
            "asked since the last look"
        );
        assert_eq!(watch.look(start + SEC * 2), Verdict::Quiet);
        let (request, body) = (Pace::request(&pace), Pace::begin(&pace));
        assert_eq!(watch.look(start + SEC * 3), Verdict::Stays);
        drop(request);
        assert_eq!(watch.look(start + SEC * 4), Verdict::Stays);
        drop(body);
        pace.blocked.store(true, Ordering::Relaxed);
        assert_eq!(watch.look(start + SEC * 5), Verdict::Stays);
        pace.blocked.store(false, Ordering::Relaxed);
        assert_eq!(watch.look(start + SEC * 6), Verdict::Stays);
        assert_eq!(watch.look(start + SEC * 7), Verdict::Quiet);
    }

    #[test]
    fn idle_ends_and_an_open_request_is_not_idle() {
        let (pace, mut watch, start) = watch();
        let request = Pace::request(&pace);
        assert_eq!(watch.look(start + SEC * 100), Verdict::Stays);
        drop(request);
        assert_eq!(watch.look(start + SEC * 129), Verdict::Quiet);
        assert_eq!(watch.look(start + SEC * 131), Verdict::Idle);
    }
}
