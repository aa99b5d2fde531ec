//! Numbers that a seed gives: `DUNNAGE_TEST_SEED` repeats a failure, or sets another.

/// A stream of them.
pub(crate) struct Random(u64);

impl Random {
    /// Those of one purpose; the seed is printed.
    #[allow(clippy::print_stdout, reason = "it is worth reading after a failure")]
    pub(crate) fn new(what: &str) -> Self {
        let seed: u64 = std::env::var("DUNNAGE_TEST_SEED").map_or(20_261_123, |seed| seed.parse().unwrap());
        println!("{what}: DUNNAGE_TEST_SEED={seed}");
        // Other numbers for each.
        let stream = what.bytes().fold(seed, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        Self(stream.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// One that is smaller.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % limit.max(1)
    }

    /// One of these.
    pub(crate) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        let place = usize::try_from(self.below(all.len() as u64)).unwrap();
        *all.get(place).unwrap()
    }
}
