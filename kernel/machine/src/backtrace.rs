//! The call chain, by frame pointers: each frame begins with the address of its caller's frame, and above that lies the return address.
//!
//! It is walked when things are broken, so it believes nothing: an address is read only if it is mapped memory, the chain must
//! climb, and it ends after [`MOST`] frames. Across a trap it goes on with the registers that the trap's stub saved.

use runtime::addr::Address;
use runtime::platform::Registers;
use spin::Once;

use crate::memory::{self, plan};
use crate::symbols::Symbols;
use crate::{fw_cfg, idt, report, watchdog};

/// How many frames are shown from each end. Go: `tracebackInnerFrames`, `tracebackOuterFrames`.
const INNERMOST: usize = 50;
const OUTERMOST: usize = 50;
/// How many are walked: those of the deepest stack end, whatever it holds.
const MOST: usize = 1 << 21;
/// The watchdog lets a walk take its time, a tenth of a second for each 100,000 frames; it is fed after so many.
const FEEDING: usize = 10_000;
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

/// Prints the chain from here on, innermost first, in Go's form: `name(...)`, below it the place and how far into the function it
/// is. The address printed for a call is the call's own, not where it returns to, for the host to find its line.
pub(crate) fn report(rip: usize, rbp: usize) {
    let mut shown = 0;
    let mut last = [Frame::NONE; OUTERMOST];
    walk(rip, rbp, &mut |frame| {
        match shown < INNERMOST {
            true => frame.report(),
            false => last[(shown - INNERMOST) % OUTERMOST] = frame,
        }
        shown += 1;
    });
    let left = shown.saturating_sub(INNERMOST);
    if left > OUTERMOST {
        report!("...{} frames elided...", left - OUTERMOST);
    }
    (left.saturating_sub(OUTERMOST)..left).for_each(|index| last[index % OUTERMOST].report());
}

/// One line of the chain.
#[derive(Clone, Copy)]
enum Frame {
    /// Here the CPU was, or here it was called.
    Code { address: usize, is_call: bool },
    /// Here a trap of this number began.
    Trap(usize),
}

impl Frame {
    const NONE: Frame = Frame::Trap(0);

    fn report(self) {
        match self {
            Frame::Trap(vector) => report!("trap {vector:#x}(...)\n\t{:#x}", idt::return_address() - 1),
            Frame::Code { address, is_call } => match function_at(address) {
                Some((name, into)) => report!("{name}(...)\n\t{address:#x} +{:#x}", into + usize::from(is_call)),
                None => report!("?(...)\n\t{address:#x}"),
            },
        }
    }
}

fn walk(rip: usize, rbp: usize, frame: &mut dyn FnMut(Frame)) {
    frame(Frame::Code { address: rip, is_call: false });
    let mut rbp = rbp;
    for number in 0..MOST {
        if number % FEEDING == 0 {
            watchdog::feed();
        }
        let (Some(caller), Some(back)) = (read(rbp), read(rbp.wrapping_add(8))) else { return };
        if back == 0 {
            return;
        }
        if back == idt::return_address() {
            let at = rbp.wrapping_add(16);
            let Some(registers) = interrupted(at) else { return };
            frame(Frame::Trap(registers.vector));
            frame(Frame::Code { address: registers.rip, is_call: false });
            if at.wrapping_sub(registers.rsp) < SMALLEST_STACK {
                // A trap that interrupted itself has overwritten its first frame.
                return;
            }
            rbp = registers.rbp;
            continue;
        }
        // A call that never returns may be its function's last instruction: look the call up, not what follows it.
        frame(Frame::Code { address: back - 1, is_call: true });
        // Upwards on one stack; from a CPU's stack, which lies above them, down to a thread's.
        if caller <= rbp
            && !(plan::CPU_STACKS.range.contains(Address(rbp)) && plan::STACKS.range.contains(Address(caller)))
        {
            return;
        }
        rbp = caller;
    }
}

/// The function around an address, and how far into it the address is.
pub(crate) fn function_at(address: usize) -> Option<(&'static str, usize)> {
    let offset = address.checked_sub(plan::IMAGE.0)?;
    let (name, into) = SYMBOLS.get()?.lookup(u32::try_from(offset).ok()?)?;
    Some((name, into as usize))
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
