//! The call chain, by frame pointers: each frame begins with the address of its caller's frame, and above that lies the return address.
//!
//! It is walked when things are broken, so it believes nothing: an address is read only if it is mapped memory, the chain must
//! climb, and it ends after [`DEPTH`] frames. Across a trap it goes on with the registers that the trap's stub saved.

use runtime::addr::Address;
use runtime::platform::Registers;
use spin::Once;

use crate::memory::{self, plan};
use crate::symbols::Symbols;
use crate::{fw_cfg, idt, report};

const DEPTH: usize = 64;
const SMALLEST_STACK: usize = 16 << 10;
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

/// Prints the chain from here on, innermost first, a line each.
pub(crate) fn report(rip: usize, rbp: usize) {
    let place = |address: usize, back: usize| {
        match name(address - back) {
            Some((name, into)) => report!("\t{name} +{:#x}", into as usize + back),
            None => report!("\t{address:#x}"),
        };
    };
    place(rip, 0);
    let mut rbp = rbp;
    for _ in 0..DEPTH {
        let (Some(caller), Some(back)) = (read(rbp), read(rbp.wrapping_add(8))) else { return };
        if back == 0 {
            return;
        }
        if back == idt::return_address() {
            let frame = rbp.wrapping_add(16);
            let Some(registers) = interrupted(frame) else { return };
            report!("\t--- interrupted by vector {:#x} ---", registers.vector);
            place(registers.rip, 0);
            if frame.wrapping_sub(registers.rsp) < SMALLEST_STACK {
                // A trap that interrupted itself has overwritten its first frame.
                return;
            }
            rbp = registers.rbp;
            continue;
        }
        // A call that never returns may be its function's last instruction: look the call up, not what follows it.
        place(back, 1);
        if caller <= rbp {
            return;
        }
        rbp = caller;
    }
    report!("\t... and more");
}

fn name(address: usize) -> Option<(&'static str, u32)> {
    let offset = address.checked_sub(plan::IMAGE.0)?;
    SYMBOLS.get()?.lookup(u32::try_from(offset).ok()?)
}

/// A word of memory, if there is memory.
fn read(address: usize) -> Option<usize> {
    let at = Address(address);
    let is_memory = at >= plan::DIRECT_MAP.start && !plan::DEVICES.range.contains(at) && at.is_aligned(8);
    // SAFETY: aligned, mapped (in the high half; a word does not cross a page), and not a device, whose registers may act
    // when read.
    (is_memory && memory::physical_address(at).is_some())
        .then(|| unsafe { core::ptr::with_exposed_provenance::<usize>(address).read_volatile() })
}

fn interrupted(at: usize) -> Option<Registers> {
    read(at)?;
    read(at.wrapping_add(size_of::<Registers>() - 8))?;
    // SAFETY: both ends are mapped memory, and the whole is shorter than a page.
    Some(unsafe { core::ptr::with_exposed_provenance::<Registers>(at).read_volatile() })
}
