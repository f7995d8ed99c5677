//! The sequential test against chance itself: a small seeded Monte Carlo run. The large one is a
//! benchmark (`cargo xtask bench rollout`).

use ampoule_server::rollout::Share;
use ampoule_server::rollout::statistics::Test;

/// xorshift64*: a test needs numbers that look random, not ones that nobody can guess.
struct Random(u64);

impl Random {
    fn happens(&mut self, rate: f64) -> bool {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64")]
        let uniform = number as f64 / (1_u64 << 53) as f64;
        uniform < rate
    }
}

/// The share of `runs` that ever halt within `devices`.
fn halts(test: &Test, rate: f64, devices: u32, runs: u32, seed: u64) -> f64 {
    let mut random = Random(seed);
    let mut halted = 0;
    for _ in 0..runs {
        let mut failures = 0;
        for settled in 1..=devices {
            failures += u32::from(random.happens(rate));
            if test.halts(failures, settled) {
                halted += 1;
                break;
            }
        }
    }
    f64::from(halted) / f64::from(runs)
}

/// Planted: a limit of half its height; false halts double and more.
#[test]
fn chance_keeps_to_the_stated_probabilities() {
    let share = |text| Share::parse(text).unwrap();
    let test = Test {
        expected: share("1%"),
        intolerable: share("5%"),
        false_halt: share("2%"),
        missed_halt: share("10%"),
    };
    let needed = test.devices_needed().unwrap();
    let (runs, noise) = (4_000, 0.012);
    let false_halts = halts(&test, 0.01, 10 * needed, runs, 0x5eed_0001);
    assert!(
        false_halts <= 0.02,
        "{false_halts} of runs at the expected rate halted"
    );
    let missed = 1.0 - halts(&test, 0.05, needed, runs, 0x5eed_0002);
    assert!(
        missed <= 0.10 + noise,
        "{missed} of runs at the intolerable rate went on"
    );
    let exact = test.missed_halt(0.05, needed);
    assert!(
        (missed - exact).abs() < noise,
        "{missed} by chance, {exact} by count"
    );
}
