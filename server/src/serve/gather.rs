//! Gathers what HTTP/2 writes while it is polled, and writes it when it waits.
//!
//! h2 flushes after each frame that carries data. Many small answers on one connection would be as
//! many TLS records, system calls and segments. Below it, [`Gathered`] keeps what fits one record
//! and takes a flush for a wish; the driver, which alone knows that the connection has nothing more
//! to say now, lets it go ([`Tail::poll_let_go`]). Nothing waits longer for it than the poll takes
//! that wrote it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most that is gathered: the plain text of one TLS record.
const GATHERED_LEN_MAX: usize = 16 * 1024;

/// The stream as HTTP/2 sees it.
#[derive(Debug)]
pub(super) struct Gathered<S>(Arc<Mutex<Inner<S>>>);

/// The stream as its driver sees it.
#[derive(Debug)]
pub(super) struct Tail<S>(Arc<Mutex<Inner<S>>>);

#[derive(Debug)]
struct Inner<S> {
    stream: S,
    gathered: Vec<u8>,
}

/// Both ends of one stream.
pub(super) fn gather<S>(stream: S) -> (Gathered<S>, Tail<S>) {
    let inner = Arc::new(Mutex::new(Inner {
        stream,
        gathered: Vec::new(),
    }));
    (Gathered(inner.clone()), Tail(inner))
}

impl<S: AsyncWrite + Unpin> Tail<S> {
    /// Writes what was gathered; ready when the stream has taken all of it.
    pub(super) fn poll_let_go(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = lock(&self.0);
        if inner.gathered.is_empty() {
            return Poll::Ready(Ok(()));
        }
        ready!(inner.poll_let_go(context))?;
        Pin::new(&mut inner.stream).poll_flush(context)
    }
}

/// Driver and connection are one task: nobody ever waits here.
fn lock<S>(inner: &Mutex<Inner<S>>) -> MutexGuard<'_, Inner<S>> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: AsyncWrite + Unpin> Inner<S> {
    fn poll_let_go(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut written = 0;
        while written < self.gathered.len() {
            match Pin::new(&mut self.stream).poll_write(context, &self.gathered[written..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(len)) => written += len,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.gathered.drain(..written);
                    return Poll::Pending;
                }
            }
        }
        // An idle connection keeps no buffer.
        self.gathered = Vec::new();
        Poll::Ready(Ok(()))
    }

    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len = slices.iter().map(|slice| slice.len()).sum::<usize>();
        if self.gathered.len() + len > GATHERED_LEN_MAX {
            ready!(self.poll_let_go(context))?;
            if len > GATHERED_LEN_MAX {
                return Pin::new(&mut self.stream).poll_write_vectored(context, slices);
            }
        }
        if self.gathered.capacity() == 0 {
            self.gathered.reserve_exact(GATHERED_LEN_MAX);
        }
        for slice in slices {
            self.gathered.extend_from_slice(slice);
        }
        Poll::Ready(Ok(len))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.0).stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        lock(&self.0).poll_write(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        lock(&self.0).poll_write(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = lock(&self.0);
        if !inner.gathered.is_empty() {
            // The driver's turn comes when this poll is over.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut inner.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = lock(&self.0);
        ready!(inner.poll_let_go(context))?;
        Pin::new(&mut inner.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;

    use super::super::held::tests::{Narrow, block_on};
    use super::*;

    fn written(tail: &Tail<Narrow>) -> Vec<Vec<u8>> {
        lock(&tail.0).stream.writes.clone()
    }

    /// Catches: a record for each frame; frames that stay where they are when the driver is done.
    #[test]
    fn frames_of_one_poll_are_one_write() {
        let (mut stream, tail) = gather(Narrow::wide());
        block_on(async {
            for frame in [&b"headers "[..], b"data ", b"headers ", b"data"] {
                stream.write_all(frame).await.unwrap();
                stream.flush().await.unwrap();
            }
            assert!(written(&tail).is_empty());
            poll_fn(|context| tail.poll_let_go(context)).await.unwrap();
        });
        assert_eq!(written(&tail), [b"headers data headers data".to_vec()]);
        assert_eq!(lock(&tail.0).gathered.capacity(), 0, "nothing is kept");
    }

    /// Catches: bytes lost, doubled or out of order where the kernel takes few at a time, and a
    /// gathering without a bound.
    #[test]
    fn every_byte_goes_out_once_and_in_order() {
        let frame = |n: usize| vec![u8::try_from(n % 251).unwrap(); n * 700];
        let all: Vec<u8> = (0..40).flat_map(frame).collect();
        for step in [1, 7, 1000, usize::MAX] {
            let (mut stream, tail) = gather(Narrow::of(step));
            block_on(async {
                for n in 0..40 {
                    stream.write_all(&frame(n)).await.unwrap();
                    stream.flush().await.unwrap();
                    assert!(lock(&tail.0).gathered.len() <= GATHERED_LEN_MAX);
                    if n % 5 == 0 {
                        poll_fn(|context| tail.poll_let_go(context)).await.unwrap();
                    }
                }
                stream.shutdown().await.unwrap();
            });
            assert!(written(&tail).concat() == all, "{step} at a time");
        }
    }
}
