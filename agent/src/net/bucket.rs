//! A token bucket: how many bytes may come each second, so that a download beside a therapy leaves
//! the network, and what feeds on it, to the device's own work.
//!
//! One bucket for all answers of a server. It holds a quarter of a second's bytes, so bursts are
//! short; a wait is at most a second, so that the process goes on answering.

use std::time::{Duration, Instant};

/// The longest wait in one piece.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// The least that is read at once: less would cost more than it spares.
const READ_LEN_MIN: u64 = 1024;

/// The bytes that may be read now.
#[derive(Debug)]
pub struct Bucket {
    bytes_per_sec: u64,
    /// Bytes to spend; below zero what was read ahead of its time.
    tokens: i64,
    filled: Instant,
}

impl Bucket {
    /// For so many bytes each second.
    pub fn new(bytes_per_sec: u64) -> Self {
        Self {
            bytes_per_sec: bytes_per_sec.max(1),
            tokens: 0,
            filled: Instant::now(),
        }
    }

    /// The most that should be read at once.
    pub fn read_len_max(&self) -> u64 {
        (self.bytes_per_sec / 4).max(READ_LEN_MIN)
    }

    /// Spends what was read; how long to wait before the next reading.
    pub fn spend(&mut self, count: usize) -> Duration {
        self.spend_at(count, Instant::now())
    }

    fn spend_at(&mut self, count: usize, now: Instant) -> Duration {
        let rate = i64::try_from(self.bytes_per_sec).unwrap_or(i64::MAX);
        let elapsed = now.saturating_duration_since(self.filled);
        let micros = i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX);
        let fresh = rate.saturating_mul(micros.min(1_000_000)) / 1_000_000;
        let full = i64::try_from(self.read_len_max()).unwrap_or(i64::MAX);
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.tokens = self.tokens.saturating_add(fresh).min(full);
        self.tokens = self.tokens.saturating_sub(count);
        self.filled = now;
        if self.tokens >= 0 {
            return Duration::ZERO;
        }
        let owed = self.tokens.unsigned_abs();
        let micros = owed.saturating_mul(1_000_000) / self.bytes_per_sec;
        Duration::from_micros(micros).min(WAIT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Meant to catch: a bucket that is refilled to the brim at each reading lets four times the rate by.
    #[test]
    fn the_rate_is_kept() {
        let mut bucket = Bucket::new(100_000);
        let start = Instant::now();
        bucket.filled = start;
        let mut now = start;
        let mut bytes = 0;
        while now < start + Duration::from_secs(20) {
            let piece = usize::try_from(bucket.read_len_max()).expect("small");
            now += bucket.spend_at(piece, now) + Duration::from_millis(1);
            bytes += piece;
        }
        assert!(
            (1_900_000..=2_100_000).contains(&bytes),
            "{bytes} bytes in 20 seconds"
        );
    }

    #[test]
    fn a_pause_is_no_credit() {
        let mut bucket = Bucket::new(100_000);
        let start = Instant::now();
        bucket.spend_at(0, start + Duration::from_hours(1));
        assert!(bucket.tokens <= 25_000, "{} bytes at once", bucket.tokens);
    }
}
