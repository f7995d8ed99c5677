//! Random numbers that come again: SplitMix64 from a seed that is printed.

/// The environment variable that replays a run.
pub const SEED_VARIABLE: &str = "AMPOULE_SEED";

/// A seeded source.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// From a fixed seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The seed to begin with: from the environment where it is set, else from the clock. Says so
    /// on stderr, which a failing test shows.
    ///
    /// # Panics
    /// Where the variable is set to something that is no number.
    pub fn seed(test: &str) -> u64 {
        let seed = std::env::var(SEED_VARIABLE).map_or_else(
            |_| {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                u64::from(now.map_or(0, |now| now.subsec_nanos()))
            },
            |text| text.parse().expect("the seed is a number"),
        );
        eprintln!("seed {seed}; replay: {SEED_VARIABLE}={seed} cargo test -p ampoule-tests {test}");
        seed
    }

    /// The next 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `bound - 1`.
    ///
    /// # Panics
    /// For a bound of 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = bound as u64;
        usize::try_from(self.next() % bound).expect("a number below a usize")
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of these.
    ///
    /// # Panics
    /// Where there are none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}
