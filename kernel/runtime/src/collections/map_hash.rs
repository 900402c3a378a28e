//! How maps hash: foldhash, with one seed for all maps of a boot. Go: `memhash` in alg.go, seeded in rand.go; there
//! each map has its own, too.
//!
//! The seed is the platform's chance, so that nobody who chooses the keys knows which of them fall together. It is no
//! secret to be kept with more care: foldhash is no cryptographic hash. `GODEBUG=randseed=N` sets it, and then a run
//! repeats another, the order of iteration included.

use core::hash::BuildHasher;
use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;
use spin::Once;

struct Seed {
    number: u64,
    /// What is drawn from it.
    shared: SharedSeed,
}

#[allow(unsafe_code)] // The name of a link section: it leads nowhere.
#[unsafe(link_section = ".data.runtime")]
static SEED: Once<Seed> = Once::new();

/// Before the first map has an entry.
pub(crate) fn set_up(seed: u64) {
    SEED.call_once(|| Seed { number: seed, shared: SharedSeed::from_u64(seed) });
}

/// What `GODEBUG=randseed` is to be for the same order of iteration again.
pub fn random_seed() -> u64 {
    SEED.get().map_or(0, |seed| seed.number)
}

/// The hasher of every [`GcMap`](super::GcMap). It takes no room: the seed is in one place.
#[derive(Clone, Copy)]
pub struct MapHash;

impl BuildHasher for MapHash {
    type Hasher = FoldHasher<'static>;

    #[inline(always)]
    fn build_hasher(&self) -> FoldHasher<'static> {
        match SEED.get() {
            Some(seed) => FoldHasher::with_seed(seed.number, &seed.shared),
            None => FoldHasher::with_seed(0, SharedSeed::global_fixed()),
        }
    }
}
