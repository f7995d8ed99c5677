//! What numbers of devices can show, and a test that may be looked at after every one of them.
//!
//! [`excluded_rate`]: `n` devices without a failure exclude, with 95 % confidence, rates above
//! `1 - 0.05^(1/n)` (the exact binomial bound; 3/n is its usual approximation).
//!
//! [`Test`]: A. Wald's sequential probability ratio between the *expected* failure rate `p0` and
//! an *intolerable* one `p1`, with its upper limit only. After `f` failures in `n` devices the
//! ratio is
//!
//! ```text
//!   L = (p1/p0)^f * ((1-p1)/(1-p0))^(n-f)        halt when L >= 1/false_halt
//! ```
//!
//! While the true rate is at most `p0`, `L` is a nonnegative supermartingale that begins at 1, so
//! by Ville's inequality it *ever* reaches `1/false_halt` with a probability of at most
//! `false_halt`: over the whole rollout, however often one looks. The lower limit of Wald's test
//! (stop testing, all is well) is left out on purpose: a rollout can turn bad late.
//! What the test misses depends on how many devices it has seen; [`Test::missed_halt`] computes it
//! exactly, and [`Test::devices_needed`] says how many are needed for the stated probability.
//! The benchmark compares both with Monte Carlo runs.

use serde::{Deserialize, Serialize};

use super::plan::PlanError;
use super::share::Share;

/// Devices up to which [`Test::devices_needed`] looks.
pub const DEVICES_MAX: u32 = 20_000;

/// The failure rate above which `clean` devices without a failure exclude with 95 % confidence.
pub fn excluded_rate(clean: u32) -> f64 {
    if clean == 0 {
        return 1.0;
    }
    1.0 - 0.05_f64.powf(1.0 / f64::from(clean))
}

/// The fewest clean devices that exclude rates above `rate`.
pub fn clean_devices_for(rate: f64) -> u32 {
    if rate >= 1.0 {
        return 1;
    }
    let needed = 0.05_f64.ln() / (-rate).ln_1p();
    // Negative only for rates that are none; `as` saturates.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let needed = needed.ceil() as u32;
    needed
}

/// A sequential test, as a plan states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// The failure rate that is expected.
    pub expected: Share,
    /// The failure rate that must not go unnoticed.
    pub intolerable: Share,
    /// The greatest probability of ever halting while the rate is as expected.
    pub false_halt: Share,
    /// The greatest probability of not having halted, at the intolerable rate, after
    /// [`Test::devices_needed`] devices.
    pub missed_halt: Share,
}

impl Test {
    /// Whether it can be run.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), PlanError> {
        let inside = |share: Share| (1..1_000_000).contains(&share.ppm());
        let all = [
            self.expected,
            self.intolerable,
            self.false_halt,
            self.missed_halt,
        ];
        if !all.into_iter().all(inside) {
            return Err(PlanError::new(
                "test",
                "every share lies between 0% and 100%",
            ));
        }
        if self.expected >= self.intolerable {
            return Err(PlanError::new("test", "intolerable must be above expected"));
        }
        if self.devices_needed().is_none() {
            return Err(PlanError::new(
                "test",
                "it would need more than 20000 devices to tell",
            ));
        }
        Ok(())
    }

    /// Whether `failures` in `settled` devices halt.
    pub fn halts(&self, failures: u32, settled: u32) -> bool {
        failures >= self.halting_failures(settled)
    }

    /// The fewest failures that halt after `settled` devices; more than `settled` where none can.
    pub fn halting_failures(&self, settled: u32) -> u32 {
        let (p0, p1) = (self.expected.as_rate(), self.intolerable.as_rate());
        let per_failure = (p1 / p0).ln();
        let per_success = ((1.0 - p0) / (1.0 - p1)).ln();
        let limit = -self.false_halt.as_rate().ln();
        // f * a - (n - f) * b >= limit
        let failures = (limit + f64::from(settled) * per_success) / (per_failure + per_success);
        // A hair below a whole number is that number: rounding must not cost a device.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let failures = (failures - 1e-9).ceil() as u32;
        failures
    }

    /// The probability of not having halted after `devices`, where each fails with `rate`,
    /// exactly: the mass that a walk keeps below the limit.
    pub fn missed_halt(&self, rate: f64, devices: u32) -> f64 {
        let mut walk = Walk::new();
        for _ in 0..devices {
            walk.step(self, rate);
        }
        walk.kept()
    }

    /// How many devices it takes until an intolerable rate goes unnoticed with at most
    /// `missed_halt`; `None` above [`DEVICES_MAX`].
    pub fn devices_needed(&self) -> Option<u32> {
        let mut walk = Walk::new();
        let rate = self.intolerable.as_rate();
        while walk.devices < DEVICES_MAX {
            walk.step(self, rate);
            if walk.kept() <= self.missed_halt.as_rate() {
                return Some(walk.devices);
            }
        }
        None
    }
}

/// The distribution of failures among those walks that have not halted yet.
struct Walk {
    devices: u32,
    /// `mass[f]`: the probability of `f` failures and no halt so far.
    mass: Vec<f64>,
}

impl Walk {
    fn new() -> Self {
        Self {
            devices: 0,
            mass: vec![1.0],
        }
    }

    fn step(&mut self, test: &Test, rate: f64) {
        self.devices += 1;
        self.mass.push(0.0);
        for failures in (1..self.mass.len()).rev() {
            self.mass[failures] =
                self.mass[failures] * (1.0 - rate) + self.mass[failures - 1] * rate;
        }
        self.mass[0] *= 1.0 - rate;
        let halting = test.halting_failures(self.devices);
        self.mass
            .truncate(usize::try_from(halting).unwrap_or(usize::MAX));
    }

    fn kept(&self) -> f64 {
        self.mass.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(text: &str) -> Share {
        Share::parse(text).unwrap()
    }

    fn test(p0: &str, p1: &str, alpha: &str, beta: &str) -> Test {
        Test {
            expected: share(p0),
            intolerable: share(p1),
            false_halt: share(alpha),
            missed_halt: share(beta),
        }
    }

    #[test]
    fn what_a_clean_stage_rules_out() {
        let percent = |n: u32| format!("{:.3}", excluded_rate(n) * 100.0);
        // The figures of a pacemaker recall: 0.161 % reverted, 0.023 % lost settings.
        assert_eq!(percent(100), "2.951");
        assert_eq!(percent(1_860), "0.161");
        assert_eq!(percent(13_000), "0.023");
        assert_eq!(percent(0), "100.000");
        assert_eq!(clean_devices_for(0.0295), 101);
        assert!((1_850..1_870).contains(&clean_devices_for(0.00161)));
    }

    #[test]
    fn the_walk_agrees_with_a_count_by_hand() {
        // p0 = 10 %, p1 = 50 %, limit ln 10: a failure adds ln 5, a success takes ln 1.8.
        let test = test("10%", "50%", "10%", "10%");
        assert_eq!(test.halting_failures(1), 2, "one failure is not enough");
        assert_eq!(test.halting_failures(2), 2, "two in two are");
        assert!((test.missed_halt(0.5, 2) - 0.75).abs() < 1e-12);
        assert!((test.missed_halt(0.1, 2) - 0.99).abs() < 1e-12);
    }

    #[test]
    fn stated_probabilities_hold_exactly() {
        let test = test("1%", "5%", "1%", "5%");
        let needed = test.devices_needed().unwrap();
        assert!(test.missed_halt(0.05, needed) <= 0.05);
        assert!(test.missed_halt(0.05, needed - 1) > 0.05);
        // The longest rollout that the walk is asked about here.
        assert!(1.0 - test.missed_halt(0.01, 5_000) <= 0.01, "false halts");
    }

    #[test]
    fn impossible_tests_are_refused() {
        assert!(test("1%", "5%", "1%", "5%").check().is_ok());
        assert!(test("5%", "5%", "1%", "5%").check().is_err());
        assert!(test("0%", "5%", "1%", "5%").check().is_err());
        assert!(test("1%", "1.0001%", "1%", "5%").check().is_err());
    }
}
