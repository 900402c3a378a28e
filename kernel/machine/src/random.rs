//! Chance: the CPU's own random numbers where it has them, and the time-stamp counter.

use core::arch::x86_64::{__cpuid, _rdrand64_step};

use crate::tsc;

/// CPUID leaf 1, ECX (SDM Vol. 2A, CPUID).
const RDRAND: u32 = 1 << 30;
/// As often may it fail before it is taken for broken (SDM Vol. 1 §7.3.17.1).
const TRIES: usize = 10;

/// Some CPUs have answered always the same: hence the counter in any case, of which nobody knows the last digits.
pub(crate) fn number() -> u64 {
    let own = if __cpuid(1).ecx & RDRAND == 0 { None } else { (0..TRIES).find_map(|_| by_instruction()) };
    own.unwrap_or(0) ^ tsc::count()
}

fn by_instruction() -> Option<u64> {
    let mut number = 0;
    // SAFETY: the only caller has asked CPUID.
    let done = unsafe { _rdrand64_step(&mut number) };
    (done != 0).then_some(number)
}
