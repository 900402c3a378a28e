//! Signals as traps: a stack of their own, the interrupted registers as the runtime knows them, and what answers.
//!
//! While a handler runs all other signals wait, but for those of a fault: a fault of the handler's own is found out
//! ([`crate::fault`]) and ends everything. Linux restores the mask with the registers, whatever these say by then.

use core::arch::asm;
use core::mem::{transmute, zeroed};
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use libc::{c_int, siginfo_t, sigset_t, ucontext_t};
use runtime::addr::{Address, Bytes, KIB, Range};
use runtime::platform::Registers;
use runtime::{testing, upcall};
use spin::Once;

use crate::{clock, fault, memory};

/// The safepoint interrupt. Nobody minds it who has not asked for it. Go: `sigPreempt`.
pub(crate) const TIMER: c_int = libc::SIGURG;
const FAULTS: [c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP];
/// In a terminal Ctrl-\.
const QUIT: c_int = libc::SIGQUIT;

/// Marking runs there; Linux takes up to 12 KiB for the vector registers.
const HANDLER_STACK: Bytes = Bytes(256 * KIB);

#[unsafe(link_section = ".bss.runtime")]
static STACK: Once<Range> = Once::new();
/// Known from the first signal on.
#[unsafe(link_section = ".bss.runtime")]
static RETURN_ADDRESS: AtomicUsize = AtomicUsize::new(0);

/// Blocks the timer's signal and no other, and installs the handlers, on a stack of their own for this thread.
pub(crate) fn start() {
    // What our parent has blocked is blocked here too: without SIGSEGV the first stack that grows would be our end.
    let timer = timers_signal();
    // SAFETY: the set outlives the call.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const timer, ptr::null_mut()) };
    let stack = *STACK.call_once(|| memory::cpu_stack(HANDLER_STACK).expect("at the start there is memory"));
    let bottom = ptr::with_exposed_provenance_mut(stack.start.0);
    let alternate = libc::stack_t { ss_sp: bottom, ss_flags: 0, ss_size: stack.bytes().0 };
    // SAFETY: the stack is this thread's alone.
    let stacked = unsafe { libc::sigaltstack(&raw const alternate, ptr::null_mut()) };
    assert_eq!(stacked, 0, "the stack is large enough for Linux");
    // SAFETY: an array of integers and a null function are values of it.
    let mut action: libc::sigaction = unsafe { zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    // SAFETY: `action` outlives the calls.
    unsafe { libc::sigfillset(&raw mut action.sa_mask) };
    for signal in FAULTS {
        // SAFETY: as above.
        unsafe { libc::sigdelset(&raw mut action.sa_mask, signal) };
    }
    for signal in FAULTS.into_iter().chain([TIMER, QUIT]) {
        let nests = if FAULTS.contains(&signal) { libc::SA_NODEFER } else { libc::SA_RESTART };
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | nests;
        // SAFETY: the handler is of that kind, and runs on a stack of its own.
        unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
    }
}

/// Where the registers lie in a signal's context, in the order of [`Registers`]; libc packs the segments into one word.
const ORDER: [c_int; 21] = [
    libc::REG_R15,
    libc::REG_R14,
    libc::REG_R13,
    libc::REG_R12,
    libc::REG_R11,
    libc::REG_R10,
    libc::REG_R9,
    libc::REG_R8,
    libc::REG_RBP,
    libc::REG_RDI,
    libc::REG_RSI,
    libc::REG_RDX,
    libc::REG_RCX,
    libc::REG_RBX,
    libc::REG_RAX,
    libc::REG_TRAPNO,
    libc::REG_ERR,
    libc::REG_RIP,
    libc::REG_CSGSFS,
    libc::REG_EFL,
    libc::REG_RSP,
];
const WORDS: usize = size_of::<Registers>() / size_of::<usize>();
const _: () = assert!(WORDS == ORDER.len() + 1, "all but SS, which is beside CS");

/// What a signal has interrupted.
pub(crate) fn registers(context: &ucontext_t) -> Registers {
    let mut words = [0; WORDS];
    ORDER.iter().zip(&mut words).for_each(|(at, word)| *word = context.uc_mcontext.gregs[*at as usize] as usize);
    // SAFETY: `repr(C)`, and nothing but words.
    let registers = unsafe { transmute::<[usize; WORDS], Registers>(words) };
    Registers { cs: registers.cs & 0xffff, ss: registers.cs >> 48, ..registers }
}

fn set_registers(context: &mut ucontext_t, registers: Registers) {
    // SAFETY: as above.
    let words = unsafe { transmute::<Registers, [usize; WORDS]>(registers) };
    let changed = ORDER.iter().zip(&words).filter(|(at, _)| **at != libc::REG_CSGSFS);
    changed.for_each(|(at, word)| context.uc_mcontext.gregs[*at as usize] = *word as i64);
}

extern "C" fn handler(signal: c_int, info: &siginfo_t, context: &mut ucontext_t) {
    RETURN_ADDRESS.store(return_address(), Relaxed);
    // SAFETY: this thread's own. What was interrupted may be about to read it.
    let errno = unsafe { *libc::__errno_location() };
    let mut registers = registers(context);
    upcall::in_handler(|| match signal {
        // SAFETY: this is the handler, and these are the registers.
        TIMER if clock::timer_is_due() => unsafe { upcall::timer(&mut registers, vectors(context)) },
        TIMER => clock::ask_again(),
        libc::SIGTRAP if testing::stepped(&registers, vectors(context)) => {}
        _ => fault::answer(info, &mut registers),
    });
    set_registers(context, registers);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// The interrupted thread's vector registers: the frame's XSAVE area, or as much of it as processors without XSAVE have.
fn vectors(context: &ucontext_t) -> Range {
    /// What Linux says of the area is in its bytes that the processor leaves alone (`struct _fpx_sw_bytes`).
    const NOTE: usize = 464;
    const MAGIC: u32 = 0x4650_5853;
    const LEGACY: usize = 512;
    let area = context.uc_mcontext.fpregs.cast::<u32>().cast_const();
    // SAFETY: a 64-bit process always has the area, and the note is in its first 512 bytes.
    let (magic, bytes) = unsafe { (*area.byte_add(NOTE), *area.byte_add(NOTE + size_of::<u32>())) };
    let bytes = if magic == MAGIC { bytes as usize & !7 } else { LEGACY };
    Range::new(Address(area.expose_provenance()), Bytes(bytes))
}

/// Where the function that this is inlined into returns to.
#[inline(always)]
fn return_address() -> usize {
    let address;
    // SAFETY: all our functions keep a frame pointer; the return address lies above the word at rbp.
    unsafe { asm!("mov {}, [rbp + 8]", out(reg) address, options(readonly, nostack, preserves_flags)) };
    address
}

/// Whether a handler returns to this address: libc's, by which Linux takes the context back.
pub(crate) fn is_return_address(address: usize) -> bool {
    address == RETURN_ADDRESS.load(Relaxed)
}

/// Whether a handler runs there.
pub(crate) fn is_handlers_stack(address: usize) -> bool {
    STACK.get().is_some_and(|stack| stack.contains(Address(address)))
}

/// The timer's signal blocked or not; how it was.
pub(crate) fn set_interrupts(on: bool) -> bool {
    let mut before = no_signals();
    let how = if on { libc::SIG_UNBLOCK } else { libc::SIG_BLOCK };
    let timer = timers_signal();
    // SAFETY: the sets outlive the calls.
    unsafe {
        libc::pthread_sigmask(how, &raw const timer, &raw mut before);
        libc::sigismember(&raw const before, TIMER) == 0
    }
}

/// Waits for a signal. The timer's is blocked before and after, so none is lost in between.
pub(crate) fn halt() {
    let blocked = no_signals();
    // SAFETY: the set outlives the call.
    unsafe { libc::sigsuspend(&raw const blocked) };
}

fn timers_signal() -> sigset_t {
    let mut set = no_signals();
    // SAFETY: the set outlives the call.
    unsafe { libc::sigaddset(&raw mut set, TIMER) };
    set
}

fn no_signals() -> sigset_t {
    // SAFETY: an array of integers.
    unsafe { zeroed() }
}
