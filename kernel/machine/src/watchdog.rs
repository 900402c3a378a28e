//! The watchdog: a CPU that takes no interrupt for a second is stuck, and an interrupt that cannot be masked says where.
//!
//! 1. The old interval timer's channel 0 counts down once, 55 ms at the most. Each interrupt of the APIC's timer, every 10 ms, winds it up
//!    again ([`feed`]), so it does not expire as long as interrupts are taken. This costs three port writes a tick.
//! 2. When it does expire, the I/O APIC delivers that as an NMI: it comes through `cli`. The handler winds the timer up again and counts.
//! 3. After [`STRIKES`] in a row that found interrupts off the CPU is stuck: registers, section and threads are
//!    printed, status 2. A collection runs with interrupts off and may take long, and so may a no-safepoint section, in
//!    which a tick is only noted and the next not yet set: they get [`STRIKES_WORKING`]. A report that goes on and on
//!    feeds the watchdog by its words.
//!
//! An NMI while the timer has not expired is somebody else's (a button, a monitor, broken memory): the first is reported, all are counted.
//!
//! A stopped or starved virtual machine is not taken for a stuck CPU: a strike is counted where the CPU has run since the one before. A
//! machine whose timer does not reach an I/O APIC's pin gets no NMI, and has no watchdog; where no I/O APIC answers, that is said.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use runtime::addr::Bytes;
use runtime::switch_off::{self, Mechanism};
use runtime::upcall;
use x86_64::instructions::port::Port;

use crate::acpi::{self, Madt};
use crate::memory::{self, PhysicalAddress};
use crate::{apic, report, tsc};

/// Expiries, of 55 ms each, until the CPU is given up: 1.1 s, and about a minute.
const STRIKES: u32 = 20;
const STRIKES_WORKING: u32 = 1100;
/// Short of the 55 ms.
const LATE_NS: u64 = 40_000_000;

/// The interval timer: channel 0 counts down once from a number that follows; tell the state of channel 0's output.
const COMMAND: u16 = 0x43;
const CHANNEL: u16 = 0x40;
const COUNT_DOWN: u8 = 0b0011_0000;
const READ_BACK: u8 = 0b1110_0010;
const OUTPUT: u8 = 1 << 7;

/// The I/O APIC: an index register, and 16 bytes behind it the data. Each pin has two words from `PINS` on.
const DATA: usize = 0x10;
const PINS: u32 = 0x10;
const DELIVER_NMI: u32 = 0b100 << 8;
const ACTIVE_LOW: u32 = 1 << 13;
/// Of a pin's word the bits that the device writes: an interrupt on its way, and not ended.
const STATE: u32 = 1 << 12 | 1 << 14;
/// Where every PC has its first I/O APIC, and there the interval timer: for a machine without tables that say it.
const USUAL: (PhysicalAddress, u8, u32) = (PhysicalAddress(0xfec0_0000), 2, 0);
/// The interval timer's interrupt, as the 8259s number it.
const ISA_TIMER: u8 = 0;

#[unsafe(link_section = ".bss.runtime")]
static RUNS: AtomicBool = AtomicBool::new(false);
/// The kernel has come to its end; the timer may still expire once.
#[unsafe(link_section = ".bss.runtime")]
static IS_OVER: AtomicBool = AtomicBool::new(false);
#[unsafe(link_section = ".bss.runtime")]
static UNFED: AtomicU32 = AtomicU32::new(0);
/// Of those the last ones that found interrupts off, and no collection.
#[unsafe(link_section = ".bss.runtime")]
static DEAF: AtomicU32 = AtomicU32::new(0);
/// A feeding came when the timer had expired or was about to: the NMI may still be on its way, however often it is fed meanwhile.
#[unsafe(link_section = ".bss.runtime")]
static WAS_LATE: AtomicBool = AtomicBool::new(false);
#[unsafe(link_section = ".bss.runtime")]
static FED_NS: AtomicU64 = AtomicU64::new(0);
#[unsafe(link_section = ".bss.runtime")]
static FOREIGN: AtomicUsize = AtomicUsize::new(0);

/// What an NMI means.
pub(crate) enum Meaning {
    /// The timer was not wound up in time, which may happen.
    Late,
    /// This CPU has not taken an interrupt for so long.
    Stuck { ms: u64 },
    /// Not the watchdog's; so many came before it.
    Foreign(usize),
}

/// Where the interval timer comes in, and its line's polarity.
fn timer_pin(madt: &Madt) -> Option<(PhysicalAddress, u8, u32)> {
    let line = madt.isa_line(ISA_TIMER);
    let (io_apic, pin) = madt.pin(line.number)?;
    Some((io_apic.address, pin, if line.is_active_low { ACTIVE_LOW } else { 0 }))
}

/// Whether the registers may be there. What the firmware takes for them is written to.
fn is_device(io_apic: PhysicalAddress) -> bool {
    let is_device = memory::in_direct_map(io_apic).is_none();
    if !is_device {
        report!(
            "warning: ACPI puts an I/O APIC at {io_apic:?}, where there is RAM; it is looked for where PCs have it"
        );
    }
    is_device
}

/// Routes the interval timer to this CPU's NMI and winds it up. Interrupts are on, and the timer ticks.
pub(crate) fn start(rsdp: Option<PhysicalAddress>) {
    let told = rsdp.and_then(acpi::read).as_ref().and_then(timer_pin);
    let (io_apic, pin, polarity) = told.filter(|(io_apic, ..)| is_device(*io_apic)).unwrap_or(USUAL);
    let registers = memory::map_device(io_apic, Bytes(0x20)).0;
    let at = core::ptr::with_exposed_provenance_mut::<u32>(registers);
    let write = |index: u32, value: u32| {
        // SAFETY: the two registers are mapped, and nobody else drives the device.
        unsafe {
            at.write_volatile(index);
            at.byte_add(DATA).write_volatile(value);
        }
    };
    let word = PINS + 2 * u32::from(pin);
    // Else an expiry of the firmware's would be the first NMI, and nobody's.
    wind_up();
    write(word + 1, apic::id() << 24);
    write(word, DELIVER_NMI | polarity);
    // SAFETY: as above; reads the word that was written last.
    let kept = unsafe { at.byte_add(DATA).read_volatile() };
    if kept & !STATE != DELIVER_NMI | polarity {
        report!("warning: no I/O APIC answers at {io_apic:?}, so a CPU that takes no interrupt will not be noticed");
        return;
    }
    RUNS.store(true, Relaxed);
    feed();
}

/// No more: the kernel has come to its end.
pub(crate) fn stop() {
    IS_OVER.store(RUNS.swap(false, Relaxed), Relaxed);
}

/// The CPU takes interrupts, or says something.
pub(crate) fn feed() {
    if RUNS.load(Relaxed) {
        let has_come = UNFED.swap(0, Relaxed) > 0;
        DEAF.store(0, Relaxed);
        let now_ns = tsc::now();
        let hungry_ns = now_ns.saturating_sub(FED_NS.swap(now_ns, Relaxed));
        if hungry_ns > LATE_NS && !has_come {
            WAS_LATE.store(true, Relaxed);
        }
        wind_up();
    }
}

/// In the NMI's handler.
pub(crate) fn judge(interrupts_on: bool) -> Meaning {
    let (runs, is_over) = (RUNS.load(Relaxed), IS_OVER.load(Relaxed));
    if !(runs || is_over) || !has_expired() {
        if runs && WAS_LATE.swap(false, Relaxed) {
            return Meaning::Late;
        }
        return Meaning::Foreign(FOREIGN.fetch_add(1, Relaxed));
    }
    if is_over {
        return Meaning::Late;
    }
    wind_up();
    let one_more = |count: &AtomicU32| count.fetch_add(1, Relaxed) + 1;
    let unfed = one_more(&UNFED);
    let deaf = if interrupts_on || upcall::occupation().collects {
        DEAF.store(0, Relaxed);
        0
    } else {
        one_more(&DEAF)
    };
    if deaf < STRIKES && unfed < STRIKES_WORKING || switch_off::is_off(Mechanism::Watchdog) {
        return Meaning::Late;
    }
    stop();
    Meaning::Stuck { ms: (tsc::now() - FED_NS.load(Relaxed)) / 1_000_000 }
}

/// NMIs that were not the watchdog's.
pub fn foreign_nmis() -> usize {
    FOREIGN.load(Relaxed)
}

fn wind_up() {
    let mut channel = Port::<u8>::new(CHANNEL);
    // SAFETY: channel 0 is this file's. An NMI between the writes winds up too; then the count is the one or the other.
    unsafe {
        Port::<u8>::new(COMMAND).write(COUNT_DOWN);
        channel.write(0xff);
        channel.write(0xff);
    }
}

fn has_expired() -> bool {
    // SAFETY: asks for the output's state and reads it.
    unsafe {
        Port::<u8>::new(COMMAND).write(READ_BACK);
        Port::<u8>::new(CHANNEL).read() & OUTPUT != 0
    }
}
