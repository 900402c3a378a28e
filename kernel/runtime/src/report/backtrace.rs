//! The call chain, by frame pointers: each frame begins with the address of its caller's frame, and above that lies the return address.
//!
//! It is walked when things are broken, so it believes nothing: a word is read only if the platform has memory there, the chain must
//! climb, and it ends after [`MOST`] frames. Across a trap it goes on with the registers that the trap has saved.

use crate::addr::Address;
use crate::platform::Platform;
use crate::stack;
use core::fmt::Arguments;

/// How many frames are shown from each end. Go: `tracebackInnerFrames`, `tracebackOuterFrames`.
const INNERMOST: usize = 50;
const OUTERMOST: usize = 50;
/// How many are walked: those of the deepest stack end, whatever it holds.
const MOST: usize = 1 << 21;
const SMALLEST_STACK: usize = 16 << 10;

/// Hands on the chain from here on, innermost first, in Go's form: `name(...)`, below it the place and how far into the function it
/// is. The address printed for a call is the call's own, not where it returns to, for the host to find its line.
pub fn write(platform: &dyn Platform, rip: usize, rbp: usize, line: &mut dyn FnMut(Arguments<'_>)) {
    let mut shown = 0;
    let mut last = [Frame::NONE; OUTERMOST];
    walk(platform, rip, rbp, &mut |frame| {
        match shown < INNERMOST {
            true => frame.write(platform, line),
            false => last[(shown - INNERMOST) % OUTERMOST] = frame,
        }
        shown += 1;
    });
    let left = shown.saturating_sub(INNERMOST);
    if left > OUTERMOST {
        line(format_args!("...{} frames elided...", left - OUTERMOST));
    }
    (left.saturating_sub(OUTERMOST)..left).for_each(|index| last[index % OUTERMOST].write(platform, line));
}

/// The function around an address, and how far into it the address is.
pub fn function_at(platform: &dyn Platform, address: usize) -> Option<(&'static str, usize)> {
    let (symbols, base) = platform.symbols()?;
    let (name, into) = symbols.lookup(u32::try_from(address.checked_sub(base.0)?).ok()?)?;
    Some((name, into as usize))
}

/// One line of the chain.
#[derive(Clone, Copy)]
enum Frame {
    /// Here the CPU was, or here it was called.
    Code { address: usize, is_call: bool },
    /// Here a trap of this number began.
    Trap { vector: usize, address: usize },
}

impl Frame {
    const NONE: Frame = Frame::Trap { vector: 0, address: 0 };

    fn write(self, platform: &dyn Platform, line: &mut dyn FnMut(Arguments<'_>)) {
        match self {
            Frame::Trap { vector, address } => line(format_args!("trap {vector:#x}(...)\n\t{address:#x}")),
            Frame::Code { address, is_call } => match function_at(platform, address) {
                Some((name, into)) => {
                    line(format_args!("{name}(...)\n\t{address:#x} +{:#x}", into + usize::from(is_call)))
                }
                None => line(format_args!("?(...)\n\t{address:#x}")),
            },
        }
    }
}

fn walk(platform: &dyn Platform, rip: usize, rbp: usize, frame: &mut dyn FnMut(Frame)) {
    frame(Frame::Code { address: rip, is_call: false });
    let mut rbp = rbp;
    for _ in 0..MOST {
        let (Some(caller), Some(back)) = (read(platform, rbp), read(platform, rbp.wrapping_add(8))) else { return };
        if back == 0 {
            return;
        }
        if let Some(registers) = platform.interrupted(back, rbp.wrapping_add(16)) {
            frame(Frame::Trap { vector: registers.vector, address: back - 1 });
            frame(Frame::Code { address: registers.rip, is_call: false });
            if rbp.wrapping_sub(registers.rsp) < SMALLEST_STACK {
                // A trap that interrupted itself has overwritten its first frame.
                return;
            }
            rbp = registers.rbp;
            continue;
        }
        // A call that never returns may be its function's last instruction: look the call up, not what follows it.
        frame(Frame::Code { address: back - 1, is_call: true });
        // Upwards on one stack; from a CPU's stack, wherever that lies, to a thread's.
        if caller <= rbp && (stack::is_in_slots(Address(rbp)) || !stack::is_in_slots(Address(caller))) {
            return;
        }
        rbp = caller;
    }
}

fn read(platform: &dyn Platform, address: usize) -> Option<usize> {
    if Address(address).is_aligned(8) { platform.read(Address(address)) } else { None }
}
