//! The clock: the time-stamp counter, its rate measured once against the old interval timer.
//!
//! Nothing counts time by ticks of an interrupt: under a loaded QEMU half of them are late or lost. QEMU 7.2's TCG has neither
//! an invariant counter nor the CPUID leaf that tells its rate, but the counter runs evenly and the same on all CPUs.

use core::arch::x86_64::{__cpuid, _mm_lfence, _rdtsc};
use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::instructions::port::Port;

use crate::report;

/// The interval timer's input, and how many of its counts we wait: 10 ms.
const PIT_HZ: u64 = 1_193_182;
const PIT_COUNTS: u16 = 11_932;
/// Commands for its channel 2: count down once from a number that follows; hold the present count for reading.
const COUNT_DOWN: u8 = 0b1011_0000;
const HOLD: u8 = 0b1000_0000;
/// Readings for one good one, and readings before we call the timer dead; each takes some microseconds.
const TRIES: usize = 5;
const PATIENCE: u32 = 500_000;
/// Windows for one in which the host's scheduler did not keep the CPU away for so long that the count came round.
const WINDOWS: usize = 10;
const SANE_HZ: core::ops::RangeInclusive<u64> = 100_000_000..=10_000_000_000;
const ASSUMED_HZ: u64 = 2_000_000_000;
/// QEMU's `-icount shift=0` counts instructions, a nanosecond each: a rate measured as near as this is that one, exactly.
const INSTRUCTIONS_HZ: u64 = 1_000_000_000;
const NEAR_HZ: u64 = INSTRUCTIONS_HZ / 4096;

#[unsafe(link_section = ".bss.runtime")]
static ORIGIN: AtomicU64 = AtomicU64::new(0);
#[unsafe(link_section = ".bss.runtime")]
static HERTZ: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds per count, times 2³².
#[unsafe(link_section = ".bss.runtime")]
static SCALE: AtomicU64 = AtomicU64::new(0);

/// Starts the clock at 0 and measures its rate: about 10 ms, bounded by a minute if the timer is dead.
pub(crate) fn start() {
    ORIGIN.store(count(), Ordering::Relaxed);
    let hertz = (0..WINDOWS).find_map(|_| by_interval_timer()).or_else(by_cpuid).unwrap_or_else(|| {
        report!(
            "warning: no interval timer and no rate from CPUID; times assume a TSC of {} MHz",
            ASSUMED_HZ / 1_000_000
        );
        ASSUMED_HZ
    });
    let hertz = if hertz.abs_diff(INSTRUCTIONS_HZ) < NEAR_HZ { INSTRUCTIONS_HZ } else { hertz };
    HERTZ.store(hertz, Ordering::Relaxed);
    SCALE.store((1_000_000_000 << 32) / hertz, Ordering::Relaxed);
}

/// Nanoseconds since [`start`]. Some 50 ns under QEMU.
pub(crate) fn now() -> u64 {
    let counts = count().saturating_sub(ORIGIN.load(Ordering::Relaxed));
    ((u128::from(counts) * u128::from(SCALE.load(Ordering::Relaxed))) >> 32) as u64
}

pub(crate) fn hertz() -> u64 {
    HERTZ.load(Ordering::Relaxed)
}

/// What the counter shows.
pub(crate) fn count() -> u64 {
    // SAFETY: every x86_64 CPU has both instructions, and ring 0 may use them.
    unsafe {
        // Earlier loads first, so that two readings are in the order in which the program takes them.
        _mm_lfence();
        _rdtsc()
    }
}

/// Two readings of both counters, 10 ms apart. What passes between starting the interval timer and its first count does not
/// enter; under QEMU that is 60 µs. `None` if it failed; another try may not.
fn by_interval_timer() -> Option<u64> {
    const GATE: u8 = 1;
    const SPEAKER: u8 = 2;
    const OUTPUT: u8 = 1 << 5;
    let (mut control, mut command, mut channel) = (Port::<u8>::new(0x61), Port::<u8>::new(0x43), Port::<u8>::new(0x42));
    // Channel 2 counts down from its highest, 55 ms.
    // SAFETY: the interval timer's second channel and its gate serve nobody else; the speaker is kept silent.
    unsafe {
        let gate = control.read() & !SPEAKER | GATE;
        control.write(gate);
        command.write(COUNT_DOWN);
        channel.write(0xff);
        channel.write(0xff);
    }
    let (begin, first) = reading();
    let (end, last) = (0..PATIENCE).find_map(|_| (first.wrapping_sub(reading().1) >= PIT_COUNTS).then(reading))?;
    // SAFETY: reads the state of the channel's output: it goes high when the count has come to its end, and began again.
    if unsafe { control.read() } & OUTPUT != 0 {
        return None;
    }
    let hertz = (end - begin).saturating_mul(PIT_HZ) / u64::from(first.wrapping_sub(last).max(1));
    SANE_HZ.contains(&hertz).then_some(hertz)
}

/// Both counters at one moment: of some tries the quickest, for whatever comes in between (the host's scheduler, above all)
/// spoils one.
fn reading() -> (u64, u16) {
    let (mut command, mut channel) = (Port::<u8>::new(0x43), Port::<u8>::new(0x42));
    let tries = [(); TRIES].map(|()| {
        let before = count();
        // SAFETY: holds channel 2's count and reads it; nobody else uses the channel.
        unsafe { command.write(HOLD) };
        let after = count();
        // SAFETY: as above.
        let counts = unsafe { u16::from_le_bytes([channel.read(), channel.read()]) };
        (after - before, before + (after - before) / 2, counts)
    });
    let (_, moment, counts) = tries.into_iter().min().expect("there are tries");
    (moment, counts)
}

/// What the CPU says of itself: leaf 0x15 (crystal and ratio), else leaf 0x16 (its base frequency in MHz).
fn by_cpuid() -> Option<u64> {
    let highest = __cpuid(0).eax;
    let crystal = (highest >= 0x15)
        .then(|| __cpuid(0x15))
        .filter(|leaf| leaf.eax != 0)
        .map_or(0, |leaf| u64::from(leaf.ecx) * u64::from(leaf.ebx) / u64::from(leaf.eax));
    let base = if highest >= 0x16 { u64::from(__cpuid(0x16).eax & 0xffff) * 1_000_000 } else { 0 };
    [crystal, base].into_iter().find(|hertz| SANE_HZ.contains(hertz))
}
