//! How long to wait: doubling, bounded, and spread over the fleet.
//!
//! The spread comes from a hash of the device id and the attempt, so that a hundred thousand
//! devices that lost their server at one moment do not come back at one moment, and a device
//! behaves the same way twice.

use std::time::Duration;

use ampoule_protocol::digest::Digest;

/// Doubling waits between bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
}

impl Backoff {
    /// The wait before attempt `attempt` (from 1): half fixed, half spread.
    pub fn wait(&self, device: &str, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        let full = self.first.saturating_mul(1 << doublings).min(self.longest);
        full / 2 + jitter(device, u64::from(attempt), full / 2)
    }
}

/// A share of `spread` that depends on the device and the round alone.
pub fn jitter(device: &str, round: u64, spread: Duration) -> Duration {
    let digest = Digest::of(format!("{device}\n{round}").as_bytes());
    let mut head = [0; 4];
    head.copy_from_slice(&digest.as_bytes()[..4]);
    let share = f64::from(u32::from_be_bytes(head)) / f64::from(u32::MAX);
    spread.mul_f64(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        first: Duration::from_secs(10),
        longest: Duration::from_mins(10),
    };

    #[test]
    fn waits_double_to_a_bound() {
        for (attempt, full) in [(1, 10), (2, 20), (3, 40), (7, 600), (u32::MAX, 600)] {
            let wait = BACKOFF.wait("pump-1", attempt);
            let full = Duration::from_secs(full);
            assert!(wait >= full / 2 && wait <= full, "{attempt}: {wait:?}");
        }
    }

    #[test]
    fn devices_spread_and_one_device_stays() {
        let waits: std::collections::BTreeSet<_> = (0..100)
            .map(|n| BACKOFF.wait(&format!("pump-{n}"), 5))
            .collect();
        assert!(waits.len() > 90);
        assert_eq!(BACKOFF.wait("pump-1", 5), BACKOFF.wait("pump-1", 5));
    }
}
