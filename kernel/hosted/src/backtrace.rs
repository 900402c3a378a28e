//! What the runtime's backtraces ask of the process: the table of names, words that may not be there, and what a signal has interrupted.

use core::ptr;

use libc::ucontext_t;
use runtime::addr::Address;
use runtime::platform::Registers;
use runtime::symbols::Symbols;
use spin::Once;

use crate::bring_up::variable;
use crate::console::report;
use crate::{memory, signals};

#[unsafe(link_section = ".bss.runtime")]
static SYMBOLS: Once<Symbols<'static>> = Once::new();

/// Maps the table of names, if there is one.
pub(crate) fn load_names() {
    let Some(path) = variable(c"TRICOLOR_SYMBOLS") else { return };
    match memory::map_file(path).and_then(Symbols::decode) {
        Some(symbols) => drop(SYMBOLS.call_once(|| symbols)),
        None => report!("warning: the symbol table cannot be read; backtraces will have no names"),
    }
}

pub(crate) fn symbols() -> Option<&'static Symbols<'static>> {
    SYMBOLS.get()
}

/// A word of the runtime's memory or of the executable.
pub(crate) fn read(at: Address) -> Option<usize> {
    // SAFETY: aligned, and readable.
    memory::is_readable(at).then(|| unsafe { ptr::with_exposed_provenance::<usize>(at.0).read_volatile() })
}

/// Linux calls a handler as if from libc's `sigreturn`, with the context right above.
pub(crate) fn interrupted(return_address: usize, above: usize) -> Option<Registers> {
    let context = ptr::with_exposed_provenance::<ucontext_t>(above);
    let is_context = signals::is_return_address(return_address) && signals::is_handlers_stack(above);
    // SAFETY: such a return address is found above a handler's frame alone, so Linux has put a context there.
    is_context.then(|| signals::registers(unsafe { &*context }))
}
