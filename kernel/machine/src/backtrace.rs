//! What the runtime's backtraces ask of the machine: the table of names, words that may not be there, and what a trap has interrupted.

use core::sync::atomic::{AtomicUsize, Ordering};

use runtime::addr::Address;
use runtime::platform::Registers;
use runtime::symbols::Symbols;
use spin::Once;

use crate::memory::{self, plan};
use crate::platform::MACHINE;
use crate::{fw_cfg, idt, report, watchdog};

const SYMBOLS_FILE: &str = "opt/org.tricolor/symbols";
const LARGEST: usize = 64 << 20;

#[unsafe(link_section = ".bss.runtime")]
static SYMBOLS: Once<Symbols<'static>> = Once::new();

/// Fetches the table of names, if the host gave one.
pub(crate) fn load_names() {
    let Some(blob) = fw_cfg::read(SYMBOLS_FILE, LARGEST) else { return };
    match Symbols::decode(blob) {
        Some(symbols) => drop(SYMBOLS.call_once(|| symbols)),
        None => report!("warning: the symbol table is damaged; backtraces will have no names"),
    }
}

pub(crate) fn symbols() -> Option<&'static Symbols<'static>> {
    SYMBOLS.get()
}

/// Prints the chain from here on.
pub(crate) fn report(rip: usize, rbp: usize) {
    runtime::backtrace::write(&MACHINE, rip, rbp, &mut |line| report!("{line}"));
}

/// A word of memory, if there is memory.
pub(crate) fn read(at: Address) -> Option<usize> {
    feed_watchdog();
    let is_memory = at >= plan::DIRECT_MAP.start && !plan::DEVICES.range.contains(at);
    // SAFETY: aligned, mapped (in the high half; a word does not cross a page), and not a device, whose registers may act
    // when read.
    (is_memory && memory::physical_address(at).is_some())
        .then(|| unsafe { core::ptr::with_exposed_provenance::<usize>(at.0).read_volatile() })
}

/// The watchdog lets a walk take its time, a tenth of a second for each 100,000 frames.
fn feed_watchdog() {
    #[unsafe(link_section = ".bss.runtime")]
    static READS: AtomicUsize = AtomicUsize::new(0);
    if READS.fetch_add(1, Ordering::Relaxed).is_multiple_of(20_000) {
        watchdog::feed();
    }
}

/// The stubs call the handler with the registers right above.
pub(crate) fn interrupted(return_address: usize, above: usize) -> Option<Registers> {
    if return_address != idt::return_address() {
        return None;
    }
    read(Address(above))?;
    read(Address(above.wrapping_add(size_of::<Registers>() - 8)))?;
    // SAFETY: both ends are mapped memory, and the whole is shorter than a page.
    Some(unsafe { core::ptr::with_exposed_provenance::<Registers>(above).read_volatile() })
}
