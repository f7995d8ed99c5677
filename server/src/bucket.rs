//! A token bucket: what one device may ask, whoever else sits behind the same address.

use std::time::{Duration, Instant};

/// How fast a bucket fills, and how much it holds.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Requests per minute.
    pub per_minute: u32,
    /// Requests at once.
    pub burst: u32,
}

/// What a device may still ask.
#[derive(Debug)]
pub struct Bucket {
    /// When it will be full; how far ahead that lies says how empty it is. `None` is full.
    full_at: Option<Instant>,
}

impl Bucket {
    /// A full one.
    pub const fn full() -> Self {
        Self { full_at: None }
    }

    /// Takes one request out.
    ///
    /// # Errors
    /// It is empty; the seconds until it is not, at least 1.
    pub fn take(&mut self, rate: Rate, now: Instant) -> Result<(), u64> {
        let one = Duration::from_mins(1) / rate.per_minute.max(1);
        let depth = one * rate.burst.max(1);
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + one;
        let empty_by = full_at - now;
        if empty_by > depth {
            let wait = empty_by.saturating_sub(depth);
            return Err(wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
        }
        self.full_at = Some(full_at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_then_rate() {
        let rate = Rate {
            per_minute: 60,
            burst: 3,
        };
        let start = Instant::now();
        let mut bucket = Bucket::full();
        for _ in 0..3 {
            assert_eq!(bucket.take(rate, start), Ok(()));
        }
        assert_eq!(bucket.take(rate, start), Err(1));
        let later = start + Duration::from_secs(1);
        assert_eq!(bucket.take(rate, later), Ok(()));
        assert_eq!(bucket.take(rate, later), Err(1));
        let much_later = start + Duration::from_mins(10);
        let taken = (0..10)
            .filter(|_| bucket.take(rate, much_later).is_ok())
            .count();
        assert_eq!(taken, 3, "it never holds more than the burst");
    }
}
