//! The machine as the runtime sees it.

use core::sync::atomic::{AtomicBool, Ordering};

use runtime::addr::{Address, Bytes, Range};
use runtime::platform::{Exception, OutOfFrames, Platform, Registers, Stream};
use runtime::symbols::Symbols;
use x86_64::VirtAddr;
use x86_64::instructions::interrupts;
use x86_64::registers::model_specific::GsBase;

use crate::{apic, backtrace, console, exit, memory, random, softmmu, tsc, unwind};

/// The one machine.
pub(crate) struct Machine;

pub(crate) static MACHINE: Machine = Machine;

#[unsafe(link_section = ".bss.runtime")]
static STARTED: AtomicBool = AtomicBool::new(false);

/// From now on the runtime answers page faults.
pub(crate) fn hand_over() {
    STARTED.store(true, Ordering::Relaxed);
}

pub(crate) fn is_started() -> bool {
    STARTED.load(Ordering::Relaxed)
}

// SAFETY: `memory` hands out disjoint ranges and keeps the tables; the linker draws the roots.
unsafe impl Platform for Machine {
    fn reserve(&self, bytes: Bytes, align: usize) -> Option<Range> {
        memory::reserve(bytes, align)
    }

    fn commit(&self, range: Range) -> Result<(), OutOfFrames> {
        memory::commit(range)
    }

    fn has_small_pages(&self) -> bool {
        true
    }

    fn commit_small(&self, range: Range) -> Result<(), OutOfFrames> {
        memory::commit_small(range)
    }

    fn decommit(&self, range: Range) -> bool {
        // SAFETY: the runtime decommits what it has reserved and uses no more.
        unsafe { memory::decommit(range) };
        true
    }

    fn grow_in_fault(&self, range: Range) -> Result<(), OutOfFrames> {
        memory::grow_in_fault(range)
    }

    fn free_memory(&self) -> Bytes {
        memory::free_memory()
    }

    fn on_huge_pages(&self, range: Range) -> Option<Bytes> {
        Some(memory::on_large_pages(range))
    }

    fn static_roots(&self) -> &[Range] {
        memory::static_roots()
    }

    fn cpu_count(&self) -> usize {
        1
    }

    fn set_cpu_header(&self, header: usize) {
        GsBase::write(VirtAddr::new(header as u64));
    }

    /// There is no other CPU yet.
    fn interrupt_others(&self) {}

    fn halt(&self) {
        // An interrupt between the two is not lost: `sti` takes effect after the instruction that follows it.
        interrupts::enable_and_hlt();
        interrupts::disable();
    }

    fn set_interrupts(&self, on: bool) -> bool {
        let were_on = interrupts::are_enabled();
        if on {
            interrupts::enable()
        } else {
            interrupts::disable()
        }
        were_on
    }

    fn now(&self) -> u64 {
        tsc::now()
    }

    fn random(&self) -> u64 {
        random::number()
    }

    fn set_timer(&self, at_ns: u64) {
        softmmu::flush_now_and_then();
        apic::set_timer(at_ns);
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
        backtrace::symbols().map(|symbols| (symbols, memory::plan::IMAGE))
    }

    fn catch(&self, f: &mut dyn FnMut()) -> bool {
        unwind::catch(f)
    }

    fn raise(&self, exception: &Exception) {
        unwind::raise(exception);
    }

    fn exit(&self, status: u8) -> ! {
        exit::exit(status)
    }
}
