//! The local APIC: the timer's interrupt, later the other CPUs'. The old 8259 pair is moved out of the way and masked.
//!
//! xAPIC, through its registers in memory: QEMU's TCG has no x2APIC and no TSC deadline. So the timer counts down by its own
//! clock, whose rate is measured, and whoever asks for a time far ahead is served in several steps.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use runtime::addr::Bytes;
use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::Msr;

use crate::memory::{self, PhysicalAddress};
use crate::trap::vector;
use crate::tsc;

const APIC_BASE_MSR: u32 = 0x1b;
const ENABLED: u64 = 1 << 11;
const X2APIC: u64 = 1 << 10;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Register offsets, SDM Vol. 3 §11.4.1.
mod register {
    pub(super) const ID: usize = 0x20;
    pub(super) const TASK_PRIORITY: usize = 0x80;
    pub(super) const END_OF_INTERRUPT: usize = 0xb0;
    pub(super) const SPURIOUS: usize = 0xf0;
    pub(super) const IN_SERVICE: usize = 0x100;
    pub(super) const LVT_TIMER: usize = 0x320;
    pub(super) const LVT_LINT0: usize = 0x350;
    pub(super) const LVT_LINT1: usize = 0x360;
    pub(super) const LVT_ERROR: usize = 0x370;
    pub(super) const INITIAL_COUNT: usize = 0x380;
    pub(super) const CURRENT_COUNT: usize = 0x390;
    pub(super) const DIVIDER: usize = 0x3e0;
}

const MASKED: u32 = 1 << 16;
const DELIVER_NMI: u32 = 0b100 << 8;
const SOFTWARE_ENABLE: u32 = 1 << 8;
/// 62.5 MHz under QEMU: a step of 16 ns, and 68 s in one go.
const DIVIDE_BY_16: u32 = 0b0011;

#[unsafe(link_section = ".bss.runtime")]
static REGISTERS: AtomicUsize = AtomicUsize::new(0);
/// Timer counts per nanosecond, times 2³².
#[unsafe(link_section = ".bss.runtime")]
static SCALE: AtomicU64 = AtomicU64::new(0);
/// When this CPU's timer is due, in nanoseconds of [`tsc::now`].
#[unsafe(link_section = ".bss.runtime")]
static DUE: AtomicU64 = AtomicU64::new(u64::MAX);

/// Silences the 8259s, switches this CPU's APIC on and measures its timer: about 5 ms. Needs memory and the clock.
pub(crate) fn start() {
    mask_8259();
    let mut base = Msr::new(APIC_BASE_MSR);
    // SAFETY: the register exists on every x86_64 CPU. From x2APIC mode, in which some firmware leaves it, the way back leads
    // through off (SDM Vol. 3 §11.12.5); the address is kept.
    let physical = unsafe {
        let found = base.read();
        if found & X2APIC != 0 {
            base.write(found & !(ENABLED | X2APIC));
        }
        base.write(found & !X2APIC | ENABLED);
        found & ADDRESS
    };
    REGISTERS.store(memory::map_device(PhysicalAddress(physical), Bytes(4096)).0, Ordering::Relaxed);

    write(register::TASK_PRIORITY, 0);
    write(register::LVT_TIMER, MASKED | vector::TIMER as u32);
    write(register::LVT_LINT0, MASKED);
    write(register::LVT_LINT1, DELIVER_NMI);
    write(register::LVT_ERROR, MASKED);
    write(register::SPURIOUS, SOFTWARE_ENABLE | vector::SPURIOUS as u32);
    write(register::DIVIDER, DIVIDE_BY_16);
    SCALE.store(measure(), Ordering::Relaxed);
    write(register::LVT_TIMER, vector::TIMER as u32);
}

/// One interrupt at `at_ns`, at once if that is past, never if it is `u64::MAX`. Replaces an earlier setting. About 0.2 µs.
pub(crate) fn set_timer(at_ns: u64) {
    DUE.store(at_ns, Ordering::Relaxed);
    let ticks = match at_ns {
        u64::MAX => 0,
        _ => {
            let ahead = u128::from(at_ns.saturating_sub(tsc::now()));
            let ticks = ((ahead * u128::from(SCALE.load(Ordering::Relaxed))) >> 32) as u64;
            // A little later, so that a timer that runs fast against the clock does not come early, and twice.
            (ticks + ticks / 1024).clamp(1, u64::from(u32::MAX)) as u32
        }
    };
    write(register::INITIAL_COUNT, ticks);
}

/// Whether the timer that just rang is due. If it rang early (a step of a long wait, or its clock runs fast), it is set again.
pub(crate) fn timer_is_due() -> bool {
    let due = DUE.load(Ordering::Relaxed);
    let is_due = tsc::now() >= due;
    if !is_due {
        set_timer(due);
    }
    is_due
}

/// Tells the APIC that the handler has what it needs; the next interrupt waits until the handler returns.
pub(crate) fn end_of_interrupt() {
    write(register::END_OF_INTERRUPT, 0);
}

/// Whether an interrupt of this number came through the APIC and awaits [`end_of_interrupt`]; the 8259s' do not.
pub(crate) fn is_in_service(number: usize) -> bool {
    read(register::IN_SERVICE + number / 32 * 16) >> (number % 32) & 1 != 0
}

/// This CPU's number among the APICs.
pub(crate) fn id() -> u32 {
    read(register::ID) >> 24
}

/// Interrupts this CPU itself.
#[cfg(feature = "switch-off")]
pub(crate) fn interrupt_self(vector: u8) {
    const INTERRUPT_COMMAND: usize = 0x300;
    const TO_SELF: u32 = 0b01 << 18;
    write(INTERRUPT_COMMAND, TO_SELF | 1 << 14 | u32::from(vector));
}

/// Timer counts per nanosecond, times 2³², from 5 ms of counting.
fn measure() -> u64 {
    const SPAN_NS: u64 = 5_000_000;
    write(register::INITIAL_COUNT, u32::MAX);
    let begin = tsc::now();
    let first = read(register::CURRENT_COUNT);
    while tsc::now() < begin + SPAN_NS {
        core::hint::spin_loop();
    }
    let ticks = first - read(register::CURRENT_COUNT);
    let span = tsc::now() - begin;
    write(register::INITIAL_COUNT, 0);
    (u64::from(ticks.max(1)) << 32) / span
}

/// The 8259s' start sequence, for their vectors must not look like exceptions, then all lines masked. Masked ones may
/// still raise a spurious interrupt; the trap's dispatch lets it pass.
fn mask_8259() {
    for (command, data, first_vector, cascade) in
        [(0x20, 0x21, vector::OLD.start as u8, 4u8), (0xa0, 0xa1, vector::OLD.start as u8 + 8, 2)]
    {
        let (mut command, mut data) = (Port::<u8>::new(command), Port::<u8>::new(data));
        // SAFETY: the 8259s are where every PC has them, nobody else drives them, and after this they are silent.
        unsafe {
            command.write(0x11);
            for word in [first_vector, cascade, 1, 0xff] {
                data.write(word);
            }
        }
    }
}

fn at(register: usize) -> *mut u32 {
    core::ptr::with_exposed_provenance_mut(REGISTERS.load(Ordering::Relaxed) + register)
}

fn read(register: usize) -> u32 {
    // SAFETY: `start` mapped the page of registers and set the address before anything else here runs.
    unsafe { at(register).read_volatile() }
}

fn write(register: usize, value: u32) {
    // SAFETY: as for `read`; the registers written here belong to this file.
    unsafe { at(register).write_volatile(value) }
}
