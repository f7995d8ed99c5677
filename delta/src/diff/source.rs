//! Where the diff reads the two images from: memory or files, at random, on any thread.

use std::fs::File;
use std::path::Path;
use std::sync::Mutex;

use crate::image::{ImageError, OldImage};

/// An image to be read at random. It must not change meanwhile.
pub trait Source: Sync {
    /// Its length in bytes.
    fn length(&self) -> u64;

    /// Fills `buf` with the bytes that begin at `at`; fewer bytes than asked is an error.
    fn read_at(&self, at: u64, buf: &mut [u8]) -> Result<(), ImageError>;

    /// All of it, where it is in memory anyway.
    fn bytes(&self) -> Option<&[u8]> {
        None
    }
}

impl Source for &[u8] {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, at: u64, buf: &mut [u8]) -> Result<(), ImageError> {
        OldImage::read_at(&mut &**self, at, buf)
    }

    fn bytes(&self) -> Option<&[u8]> {
        Some(self)
    }
}

/// An image in a file: what is read of it need not stay in memory.
#[derive(Debug)]
pub struct SourceFile {
    file: File,
    length: u64,
    /// Files are read whole where they cannot be read at random by several threads.
    #[cfg(not(unix))]
    bytes: Vec<u8>,
}

impl SourceFile {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// What the system says of it.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self {
            file,
            length,
            #[cfg(not(unix))]
            bytes: std::fs::read(path)?,
        })
    }
}

impl Source for SourceFile {
    fn length(&self) -> u64 {
        self.length
    }

    #[cfg(unix)]
    fn read_at(&self, at: u64, buf: &mut [u8]) -> Result<(), ImageError> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buf, at).map_err(ImageError::new)
    }

    #[cfg(not(unix))]
    fn read_at(&self, at: u64, buf: &mut [u8]) -> Result<(), ImageError> {
        (&self.bytes[..]).read_at(at, buf)
    }
}

impl OldImage for &SourceFile {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), ImageError> {
        Source::read_at(*self, offset, buf)
    }
}

/// A source that remembers its first failure: what is read then is zeros, and no patch comes of it.
///
/// So the many steps that look at bytes need not each carry an error that ends the diff anyway.
pub(super) struct Watched<'a> {
    source: &'a dyn Source,
    failure: Mutex<Option<ImageError>>,
}

impl<'a> Watched<'a> {
    pub(super) fn new(source: &'a dyn Source) -> Self {
        Self {
            source,
            failure: Mutex::new(None),
        }
    }

    pub(super) fn length(&self) -> u64 {
        self.source.length()
    }

    pub(super) fn bytes(&self) -> Option<&'a [u8]> {
        self.source.bytes()
    }

    /// Fills `buf` from `at` on.
    pub(super) fn fill(&self, at: u64, buf: &mut [u8]) {
        if let Err(error) = self.source.read_at(at, buf) {
            buf.fill(0);
            let mut failure = self.failure.lock().expect("nobody panics with it");
            failure.get_or_insert(error);
        }
    }

    /// Hands all bytes over, in order, piece by piece.
    pub(super) fn each_piece(&self, mut take: impl FnMut(&[u8])) {
        if let Some(bytes) = self.bytes() {
            return take(bytes);
        }
        let mut piece = vec![0; PIECE];
        let mut at = 0;
        while at < self.length() {
            let len = usize::try_from(self.length() - at).map_or(PIECE, |left| left.min(PIECE));
            self.fill(at, &mut piece[..len]);
            take(&piece[..len]);
            at += len as u64;
        }
    }

    /// The first failure, if there was one.
    pub(super) fn failure(&self) -> Option<ImageError> {
        self.failure.lock().expect("nobody panics with it").take()
    }
}

/// Sources are gone through in pieces of this size.
const PIECE: usize = 1 << 20;
