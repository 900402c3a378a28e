//! Chance: what Linux gives every process at its start. Go: `startupRand` in rand.go.

use crate::clock;

/// Another at each start, but the same each time it is asked, but for the clock.
pub(crate) fn number() -> u64 {
    // SAFETY: asks for a word of the auxiliary vector.
    let bytes = core::ptr::with_exposed_provenance::<u64>(unsafe { libc::getauxval(libc::AT_RANDOM) } as usize);
    // SAFETY: 16 bytes on the first stack, which nobody changes; or none.
    let own = if bytes.is_null() { 0 } else { unsafe { bytes.read_unaligned() } };
    own ^ clock::now()
}
