//! The process as the runtime sees it.

use core::sync::atomic::{AtomicBool, Ordering};

use runtime::addr::{Address, Bytes, Range};
use runtime::platform::{Exception, OutOfFrames, Platform, Registers, Stream};
use runtime::symbols::Symbols;

use crate::{backtrace, clock, console, memory, random, signals, unwind};

/// The one process.
pub(crate) struct Process;

pub(crate) static PROCESS: Process = Process;

#[unsafe(link_section = ".bss.runtime")]
static STARTED: AtomicBool = AtomicBool::new(false);

/// From now on the runtime answers page faults.
pub(crate) fn hand_over() {
    STARTED.store(true, Ordering::Relaxed);
}

pub(crate) fn is_started() -> bool {
    STARTED.load(Ordering::Relaxed)
}

// SAFETY: `memory` hands out disjoint ranges, which Linux keeps as they are set.
unsafe impl Platform for Process {
    fn reserve(&self, bytes: Bytes, align: usize) -> Option<Range> {
        memory::reserve(bytes, align)
    }

    fn commit(&self, range: Range) -> Result<(), OutOfFrames> {
        memory::commit(range)
    }

    fn commits_zeroes(&self) -> bool {
        true
    }

    fn decommit(&self, range: Range) -> bool {
        // SAFETY: the runtime decommits what it has reserved and uses no more.
        unsafe { memory::decommit(range) }
    }

    /// No lock is taken for any commit.
    fn grow_in_fault(&self, range: Range) -> Result<(), OutOfFrames> {
        memory::grow_in_fault(range)
    }

    fn free_memory(&self) -> Bytes {
        memory::free_memory()
    }

    fn on_huge_pages(&self, range: Range) -> Option<Bytes> {
        memory::on_huge_pages(range)
    }

    fn static_roots(&self) -> &[Range] {
        memory::static_roots()
    }

    fn cpu_count(&self) -> usize {
        1
    }

    fn set_cpu_header(&self, header: usize) {
        const ARCH_SET_GS: libc::c_int = 0x1001;
        // SAFETY: libc leaves GS alone; its own thread-locals are behind FS.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, header) };
    }

    /// There is no other CPU yet.
    fn interrupt_others(&self) {}

    fn halt(&self) {
        signals::halt();
    }

    fn set_interrupts(&self, on: bool) -> bool {
        signals::set_interrupts(on)
    }

    fn now(&self) -> u64 {
        clock::now()
    }

    fn random(&self) -> u64 {
        random::number()
    }

    fn set_timer(&self, at_ns: u64) {
        clock::set_timer(at_ns);
    }

    fn write(&self, to: Stream, bytes: &[u8]) {
        console::write(to, bytes);
    }

    fn read(&self, at: Address) -> Option<usize> {
        backtrace::read(at)
    }

    fn interrupted(&self, return_address: usize, above: usize) -> Option<Registers> {
        backtrace::interrupted(return_address, above)
    }

    fn symbols(&self) -> Option<(&Symbols<'static>, Address)> {
        backtrace::symbols().map(|symbols| (symbols, Address(0)))
    }

    fn catch(&self, f: &mut dyn FnMut()) -> bool {
        unwind::catch(f)
    }

    fn raise(&self, exception: &Exception) {
        unwind::raise(exception);
    }

    fn exit(&self, status: u8) -> ! {
        // SAFETY: ends the process as it stands; nothing of libc's wants to be tidied up.
        unsafe { libc::_exit(status.into()) }
    }
}
