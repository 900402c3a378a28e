//! Random numbers for tests: the same for the same seed (xorshift64*).

use std::{env, time::SystemTime};

pub(super) struct Random(pub(super) u64);

impl Random {
    /// A number below `limit`, which is not 0.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % limit
    }
}

/// `count` seeds, new ones at every run, each printed (the last is the one that failed); `SEED=n` repeats one.
pub(super) fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let given = env::var("SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |now| now.as_nanos() as u64);
    let (first, count) = given.map_or((now | 1, count), |seed| (seed, 1));
    (0..count).map(move |i| first + 2 * i).inspect(|seed| std::println!("SEED={seed}"))
}
