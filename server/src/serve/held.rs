//! Holds back what a handshake writes until the connection would wait, and the last answer until
//! the connection ends.
//!
//! The last thing that a TLS 1.3 server writes in a handshake is a ticket, and a device's request
//! lies behind its last message as a rule. Behind its last answer lies the alert that says so.
//! Written at once, ticket, answer and alert would be three segments and three walks through the
//! kernel; held, they are one. Nothing is ever later for it: before the stream waits for its peer,
//! it writes what it holds.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::pace::Pace;

/// The most that is held back: a server's part of a handshake with a long chain.
pub(crate) const HELD_LEN_MAX: usize = 8 * 1024;

/// A stream that holds back small writes while [`Pace::hold_back`] says so.
#[derive(Debug)]
pub(super) struct Held<S> {
    stream: S,
    kept_back: Vec<u8>,
    pace: Arc<Pace>,
}

impl<S> Held<S> {
    /// Begins with a handshake. What is held when that is over goes out with the next write, flush
    /// or shutdown, or before the next wait.
    pub(super) fn new(stream: S, pace: Arc<Pace>) -> Self {
        pace.hold_back(true);
        Self {
            stream,
            kept_back: Vec::new(),
            pace,
        }
    }

    /// The stream below.
    pub(super) fn below(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncWrite + Unpin> Held<S> {
    fn poll_let_go(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut written = 0;
        while written < self.kept_back.len() {
            let part = &self.kept_back[written..];
            match Pin::new(&mut self.stream).poll_write(context, part) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(len)) => written += len,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.kept_back.drain(..written);
                    return Poll::Pending;
                }
            }
        }
        // An idle connection keeps no buffer.
        self.kept_back = Vec::new();
        Poll::Ready(Ok(()))
    }

    /// Writes what is held and `slices` behind it; the bytes of `slices` that were taken.
    fn poll_write_behind(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut all = Vec::with_capacity(slices.len() + 1);
        all.push(IoSlice::new(&self.kept_back));
        all.extend(slices.iter().map(|slice| IoSlice::new(slice)));
        let len = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, &all))?;
        if len > self.kept_back.len() {
            let taken = len - self.kept_back.len();
            self.kept_back = Vec::new();
            return Poll::Ready(Ok(taken));
        }
        self.kept_back.drain(..len);
        ready!(self.poll_let_go(context))?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Held<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if polled.is_pending() && !self.kept_back.is_empty() {
            // The read has noted whom to wake; so does a write that cannot go on.
            if let Poll::Ready(Err(error)) = self.poll_let_go(context) {
                return Poll::Ready(Err(error));
            }
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Held<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.kept_back.is_empty() && !self.pace.holds_back() {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        }
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len = slices.iter().map(|slice| slice.len()).sum::<usize>();
        if self.pace.holds_back() && self.kept_back.len() + len <= HELD_LEN_MAX {
            for slice in slices {
                self.kept_back.extend_from_slice(slice);
            }
            return Poll::Ready(Ok(len));
        }
        if self.kept_back.is_empty() {
            return Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        }
        self.poll_write_behind(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.pace.holds_back() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_let_go(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_let_go(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::future::Future;
    use std::task::Waker;

    use tokio::io::AsyncWriteExt;

    use super::*;

    /// Takes at most `step` bytes each time, every other time none; has nothing to read.
    #[derive(Debug, Default)]
    pub(in super::super) struct Narrow {
        step: usize,
        waits: bool,
        pub(in super::super) writes: Vec<Vec<u8>>,
    }

    impl Narrow {
        pub(in super::super) fn of(step: usize) -> Self {
            Self {
                step,
                ..Self::default()
            }
        }

        pub(in super::super) fn wide() -> Self {
            Self::of(usize::MAX)
        }
    }

    impl AsyncRead for Narrow {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.waits = !self.waits;
            if self.waits && self.step < usize::MAX {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let len = bytes.len().min(self.step);
            self.writes.push(bytes[..len].to_vec());
            Poll::Ready(Ok(len))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all = slices.iter().flat_map(|slice| slice.iter().copied());
            self.poll_write(context, &all.collect::<Vec<u8>>())
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    pub(in super::super) fn block_on<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(future)
    }

    fn wide() -> Held<Narrow> {
        Held::new(Narrow::wide(), Arc::default())
    }

    #[test]
    fn ticket_and_answer_are_one_write() {
        let mut stream = wide();
        block_on(async {
            stream.write_all(b"ticket ").await.unwrap();
            stream.flush().await.unwrap();
            stream.pace.hold_back(false);
            stream.write_all(b"answer").await.unwrap();
            stream.write_all(b" and more").await.unwrap();
        });
        let writes = stream.stream.writes;
        assert_eq!(writes, [b"ticket answer".to_vec(), b" and more".to_vec()]);
    }

    /// Catches: an alert in a segment of its own, behind the last answer.
    #[test]
    fn the_last_answer_and_the_end_are_one_write() {
        let mut stream = wide();
        stream.pace.hold_back(false);
        block_on(async {
            stream.write_all(b"first").await.unwrap();
            stream.pace.hold_back(true);
            stream.write_all(b"last ").await.unwrap();
            stream.flush().await.unwrap();
            stream.write_all(b"alert").await.unwrap();
            stream.shutdown().await.unwrap();
        });
        let writes = stream.stream.writes;
        assert_eq!(writes, [b"first".to_vec(), b"last alert".to_vec()]);
    }

    /// Catches: a peer that waits for its part of the handshake for ever.
    #[test]
    fn nothing_is_held_while_the_stream_waits() {
        let mut stream = wide();
        block_on(stream.write_all(b"hello")).unwrap();
        assert!(stream.stream.writes.is_empty());
        let mut context = Context::from_waker(Waker::noop());
        let mut buffer = [0];
        let mut buffer = ReadBuf::new(&mut buffer);
        let polled = Pin::new(&mut stream).poll_read(&mut context, &mut buffer);
        assert!(polled.is_pending());
        assert_eq!(stream.stream.writes, [b"hello".to_vec()]);
        assert!(stream.kept_back.is_empty());
    }

    /// Catches: bytes that are lost, doubled or out of order where the kernel takes few at a time.
    #[test]
    fn every_byte_goes_out_once_and_in_order() {
        for step in 1..40 {
            let mut stream = Held::new(Narrow::of(step), Arc::default());
            block_on(async {
                stream.write_all(b"0123456789").await.unwrap();
                stream.pace.hold_back(false);
                stream.write_all(b"abcdefghijklmnop").await.unwrap();
                stream.shutdown().await.unwrap();
            });
            let all = stream.stream.writes.concat();
            assert_eq!(all, b"0123456789abcdefghijklmnop", "{step} at a time");
        }
    }

    #[test]
    fn what_is_held_has_a_bound() {
        let mut stream = wide();
        block_on(stream.write_all(&[7; HELD_LEN_MAX + 1])).unwrap();
        assert_eq!(stream.stream.writes.concat().len(), HELD_LEN_MAX + 1);
    }
}
