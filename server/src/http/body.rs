//! The body of an answer: bytes in memory, a part of a file, or what comes from a bucket.
//!
//! A file is read in chunks of [`CHUNK_LEN`] into pooled buffers, on the thread that serves the
//! connection where the page cache has the bytes (`preadv2` with `RWF_NOWAIT`), and on a blocking
//! thread only where it has not. A body ends early when its device is revoked.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use rustix::io::ReadWriteFlags;
use tokio::task::JoinHandle;

use crate::blob::Chunks;
use crate::serve::Transfer;

/// Bytes of one chunk; 64 KiB costs 30 % more CPU per GiB, 1 MiB spills the cache.
pub const CHUNK_LEN: usize = 256 * 1024;

/// Where within a page of memory a chunk begins.
///
/// TLS copies each chunk into records of its own, which tend to begin some bytes behind a page's
/// begin. Where one begins less than 16 bytes behind its chunk by this count, `rep movsb`, by which
/// glibc 2.36 copies, is 30 times slower on Zen 4 (measured; of Zen 3 it is told in
/// lunnova.dev/articles/ryzen-slow-short-rep-mov): that was nearly half of the CPU of a download. The
/// middle of a page is far from that, and begins a line of the cache, as the kernel's own copy wants it.
const WITHIN_PAGE: usize = PAGE_LEN / 2;
const PAGE_LEN: usize = 4096;

/// Buffers that are kept for the next chunks.
const POOLED_MAX: usize = 64;

/// The body of an answer.
#[derive(Debug)]
pub struct Body(Kind);

#[derive(Debug)]
enum Kind {
    Full(Option<Bytes>),
    Part(Box<Part>),
    Piped(Box<Piped>),
}

impl Body {
    /// Of these bytes.
    pub fn full(bytes: Bytes) -> Self {
        Self(Kind::Full(Some(bytes)))
    }

    /// Nothing.
    pub fn empty() -> Self {
        Self(Kind::Full(None))
    }

    /// The bytes `from..to` of a file, which must be that long.
    pub fn part(file: File, from: u64, to: u64, transfer: Transfer) -> Self {
        let file = Arc::new(file);
        Self(Kind::Part(Box::new(Part {
            file,
            at: from,
            end: to,
            reading: None,
            transfer,
        })))
    }
}

impl Body {
    /// The next `len` bytes that come.
    pub fn stream(chunks: Chunks, len: u64, transfer: Transfer) -> Self {
        Self(Kind::Piped(Box::new(Piped {
            chunks,
            left: len,
            transfer,
        })))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.get_mut().0 {
            Kind::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Part(part) => part
                .poll(context)
                .map(|chunk| Some(chunk?.map(Frame::data))),
            Kind::Piped(piped) => piped
                .poll(context)
                .map(|chunk| Some(chunk?.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Full(bytes) => bytes.is_none(),
            Kind::Part(part) => part.at >= part.end,
            Kind::Piped(piped) => piped.left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let left = match &self.0 {
            Kind::Full(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Kind::Part(part) => part.end - part.at,
            Kind::Piped(piped) => piped.left,
        };
        SizeHint::with_exact(left)
    }
}

/// What comes from a bucket, on its way.
struct Piped {
    chunks: Chunks,
    left: u64,
    transfer: Transfer,
}

impl std::fmt::Debug for Piped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Piped")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

impl Piped {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if let Err(error) = self.transfer.check() {
            return Poll::Ready(Some(Err(error)));
        }
        let wrong = |what| Poll::Ready(Some(Err(io::Error::other(what))));
        match self.chunks.as_mut().poll_next(context) {
            Poll::Ready(Some(Ok(chunk))) => match self.left.checked_sub(chunk.len() as u64) {
                Some(left) => {
                    self.left = left;
                    Poll::Ready(Some(Ok(chunk)))
                }
                None => wrong("the bucket sends more than was asked for"),
            },
            Poll::Ready(None) => wrong("the bucket sends less than was asked for"),
            other => other,
        }
    }
}

/// A part of a file on its way.
#[derive(Debug)]
struct Part {
    file: Arc<File>,
    at: u64,
    end: u64,
    reading: Option<JoinHandle<(Buffer, io::Result<usize>)>>,
    transfer: Transfer,
}

impl Part {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.at >= self.end {
            return Poll::Ready(None);
        }
        if let Err(error) = self.transfer.check() {
            return Poll::Ready(Some(Err(error)));
        }
        let mut reading = match self.reading.take() {
            Some(reading) => reading,
            None => match self.read_now() {
                Some(chunk) => return Poll::Ready(Some(chunk)),
                None => self.read_later(),
            },
        };
        match Pin::new(&mut reading).poll(context) {
            Poll::Pending => {
                self.reading = Some(reading);
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(io::Error::other(error)))),
            Poll::Ready(Ok((buffer, read))) => Poll::Ready(Some(self.chunk(buffer, read))),
        }
    }

    fn wanted(&self) -> usize {
        usize::try_from(self.end - self.at).map_or(CHUNK_LEN, |left| left.min(CHUNK_LEN))
    }

    /// What the page cache has; `None` where it has nothing.
    fn read_now(&mut self) -> Option<io::Result<Bytes>> {
        let wanted = self.wanted();
        let mut buffer = take_buffer();
        let read = {
            let mut slices = [IoSliceMut::new(&mut buffer.room()[..wanted])];
            rustix::io::preadv2(&*self.file, &mut slices, self.at, ReadWriteFlags::NOWAIT)
        };
        let Ok(len) = read else {
            // Cold, or a file system that cannot say.
            give_buffer(buffer);
            return None;
        };
        Some(self.chunk(buffer, Ok(len)))
    }

    fn read_later(&self) -> JoinHandle<(Buffer, io::Result<usize>)> {
        let (file, at, wanted) = (self.file.clone(), self.at, self.wanted());
        tokio::task::spawn_blocking(move || {
            let mut buffer = take_buffer();
            let read = file.read_at(&mut buffer.room()[..wanted], at);
            (buffer, read)
        })
    }

    fn chunk(&mut self, buffer: Buffer, read: io::Result<usize>) -> io::Result<Bytes> {
        let len = read?;
        if len == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file became shorter",
            ));
        }
        self.at += len as u64;
        Ok(Bytes::from_owner(Pooled { buffer, len }))
    }
}

/// A chunk. Its memory goes back to the pool when the last reader is done.
struct Pooled {
    buffer: Buffer,
    len: usize,
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        let from = self.buffer.from;
        &self.buffer.bytes[from..from + self.len]
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        give_buffer(std::mem::take(&mut self.buffer));
    }
}

/// Memory for a chunk, and where in it the chunk begins.
#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    from: usize,
}

impl Buffer {
    fn allocated() -> Self {
        let bytes = vec![0; PAGE_LEN + CHUNK_LEN];
        let within = bytes.as_ptr().addr() % PAGE_LEN;
        let from = (PAGE_LEN + WITHIN_PAGE - within) % PAGE_LEN;
        Self { bytes, from }
    }

    fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.from..self.from + CHUNK_LEN]
    }
}

static POOL: Mutex<Vec<Buffer>> = Mutex::new(Vec::new());

fn take_buffer() -> Buffer {
    let pooled = POOL.lock().unwrap_or_else(PoisonError::into_inner).pop();
    pooled.unwrap_or_else(Buffer::allocated)
}

fn give_buffer(buffer: Buffer) {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if pool.len() < POOLED_MAX {
        pool.push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches memory that is handed out as the allocator gave it, and a chunk that has no room.
    #[test]
    fn a_chunk_begins_in_the_middle_of_a_page() {
        for _ in 0..4 {
            let mut buffer = Buffer::allocated();
            let room = buffer.room();
            assert_eq!(room.as_ptr().addr() % PAGE_LEN, WITHIN_PAGE);
            assert_eq!(room.len(), CHUNK_LEN);
        }
    }
}
