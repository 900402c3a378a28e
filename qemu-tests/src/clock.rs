//! Time: how the tests count it, and how a thread tells it that waits in assembly, where there is only the time stamp counter.

use core::arch::x86_64::_rdtsc;
use runtime::prelude::*;

/// A millisecond on the clock of [`now`].
pub(crate) const MS: u64 = 1_000_000;

/// What the time stamp counter will say in so many milliseconds. Takes one, and on a busy host longer.
pub(crate) fn deadline(ms: u64) -> u64 {
    // SAFETY: every x86_64 has a time stamp counter.
    let tsc = || unsafe { _rdtsc() };
    let (start_ns, start) = (now(), tsc());
    while now() < start_ns + MS {}
    let (end_ns, end) = (now(), tsc());
    end + ms * 1000 * (end - start) / ((end_ns - start_ns) / 1000)
}
