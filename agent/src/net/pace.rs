//! A reader that gives up on slow retrieval.
//!
//! Stall: one read that takes longer than allowed (the client's own read time-out). Average: less
//! than so many bytes per second over a window. Both, since a server that sends one byte in time
//! never stalls.

use std::cell::RefCell;
use std::io::{self, Read};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{Bucket, NetError};

/// How fast is fast enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The lowest average over a window.
    pub bytes_per_sec_min: u64,
    /// The window.
    pub window: Duration,
}

/// A body with its length cap and its pace.
pub struct Paced<R> {
    inner: R,
    pace: Pace,
    rest: u64,
    end: End,
    bucket: Option<Rc<RefCell<Bucket>>>,
    window_start: Instant,
    window_bytes: u64,
}

/// What an end before the length is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The end.
    Fine,
    /// A truncated answer.
    TooEarly,
}

impl<R: Read> Paced<R> {
    /// Reads `length` bytes of `inner` and not one more; fewer are an error.
    pub fn new(inner: R, length: u64, pace: Pace) -> Self {
        Self::with_end(inner, length, pace, End::TooEarly)
    }

    /// Reads `inner` to its end, and at most `max_len` bytes.
    pub fn until_end(inner: R, max_len: u64, pace: Pace) -> Self {
        Self::with_end(inner, max_len, pace, End::Fine)
    }

    fn with_end(inner: R, length: u64, pace: Pace, end: End) -> Self {
        Self {
            inner,
            pace,
            rest: length,
            end,
            bucket: None,
            window_start: Instant::now(),
            window_bytes: 0,
        }
    }

    /// Reads no faster than the bucket fills.
    pub fn within(mut self, bucket: Option<&Rc<RefCell<Bucket>>>) -> Self {
        self.bucket = bucket.cloned();
        self
    }

    fn read_len_max(&self) -> u64 {
        let bucket = self.bucket.as_ref();
        bucket.map_or(u64::MAX, |bucket| bucket.borrow().read_len_max())
    }

    fn check_pace(&mut self, count: usize) -> Result<(), NetError> {
        self.window_bytes += count as u64;
        let elapsed = self.window_start.elapsed();
        if elapsed < self.pace.window {
            return Ok(());
        }
        let needed = self
            .pace
            .bytes_per_sec_min
            .saturating_mul(elapsed.as_secs().max(1));
        if self.window_bytes < needed {
            let (bytes, secs) = (self.window_bytes, elapsed.as_secs());
            let min = self.pace.bytes_per_sec_min;
            return Err(NetError::slow(format!(
                "{bytes} bytes came in {secs} seconds, expected at least {min} each second"
            )));
        }
        self.window_start = Instant::now();
        self.window_bytes = 0;
        Ok(())
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.rest.min(self.read_len_max()))
            .unwrap_or(usize::MAX)
            .min(buf.len());
        if want == 0 {
            return Ok(0);
        }
        let count = self.inner.read(&mut buf[..want])?;
        if count == 0 {
            return match self.end {
                End::Fine => Ok(0),
                End::TooEarly => Err(io::Error::other(NetError::truncated())),
            };
        }
        self.rest -= count as u64;
        if let Some(bucket) = &self.bucket {
            let wait = bucket.borrow_mut().spend(count);
            std::thread::sleep(wait);
        }
        if self.rest > 0 {
            self.check_pace(count).map_err(io::Error::other)?;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        bytes_per_sec_min: 1000,
        window: Duration::ZERO,
    };

    #[test]
    fn a_body_is_read_to_its_length_and_no_further() {
        let mut out = Vec::new();
        Paced::new(&[7; 100][..], 60, PACE_OFF)
            .read_to_end(&mut out)
            .expect("long enough");
        assert_eq!(out.len(), 60);
        let short = Paced::new(&[7; 10][..], 60, PACE_OFF).read_to_end(&mut out);
        assert_eq!(
            NetError::from(short.expect_err("too short")).to_string(),
            NetError::truncated().to_string()
        );
    }

    const PACE_OFF: Pace = Pace {
        bytes_per_sec_min: 0,
        window: Duration::ZERO,
    };

    #[test]
    fn a_drip_is_cut_off() {
        let mut paced = Paced::new(&[7; 100][..], 100, PACE);
        let error = paced.read(&mut [0; 1]).expect_err("one byte is too few");
        assert!(NetError::from(error).to_string().contains("1 bytes came"));
    }
}
