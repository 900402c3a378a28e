//! Numbers that look random and are the same for the same seed.

/// Marsaglia's xorshift64; the state is never zero.
pub(crate) struct Random(u64);

impl Random {
    /// Neighbouring seeds give unlike sequences.
    pub(crate) const fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) const fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) const fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }
}

impl Iterator for Random {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        Some(self.number())
    }
}
