//! The two images as the patcher sees them: ports that the device fills in.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::error::Error;
use core::fmt;

/// The running image: read at random, never written.
pub trait OldImage {
    /// Fills `buf` with the bytes that begin at `offset`; fewer bytes than asked is an error.
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), ImageError>;
}

/// The image that is being made: appended to, never read.
///
/// The caller checks what it is given (block hash tree) before it believes or writes it.
pub trait NewImage {
    /// Takes the next bytes of the new image.
    fn append(&mut self, bytes: &[u8]) -> Result<(), ImageError>;
}

/// Why an image could not be read or appended to; the cause is the caller's own error.
#[derive(Debug)]
pub struct ImageError(Box<dyn Error + Send + Sync>);

impl ImageError {
    /// Wraps the cause.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }

    /// Gives the cause back, so that a caller finds the error its own port made.
    pub fn into_inner(self) -> Box<dyn Error + Send + Sync> {
        self.0
    }
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for ImageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl OldImage for &[u8] {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), ImageError> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|from| self.get(from..from.checked_add(buf.len())?))
            .ok_or_else(|| ImageError::new("the old image ends too early"))?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

impl NewImage for Vec<u8> {
    fn append(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}
