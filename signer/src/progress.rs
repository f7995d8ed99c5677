//! How the library tells how far it is, without knowing of a terminal.

/// Whoever shows progress.
pub trait Progress {
    /// A new piece of work of `total` bytes.
    fn begin(&self, what: &str, total: u64);
    /// So many bytes more are done.
    fn advance(&self, bytes: u64);
    /// The piece of work is done.
    fn end(&self);
}

/// Shows nothing.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
}

/// Counts the bytes that pass through a reader.
pub struct Counted<'p, R> {
    inner: R,
    progress: &'p dyn Progress,
}

impl<'p, R> Counted<'p, R> {
    /// Reads from `inner`.
    pub fn new(inner: R, progress: &'p dyn Progress) -> Self {
        Self { inner, progress }
    }
}

impl<R: std::io::Read> std::io::Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.progress.advance(read as u64);
        Ok(read)
    }
}
