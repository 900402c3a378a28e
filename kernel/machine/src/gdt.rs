//! Segments, and for each kind of trap a stack of its own.
//!
//! Long mode needs a code and a data segment for form's sake. The task state segment matters: it holds the seven
//! stacks that the interrupt table refers to. A trap never runs on the stack that it interrupted, which may have no room left:
//! a maskable interrupt that arrives at the edge of a growing stack would otherwise be lost.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use runtime::addr::{Address, Bytes, KIB, Range};
use spin::Once;
use x86_64::instructions::segmentation::{CS, DS, ES, FS, GS, SS, Segment};
use x86_64::instructions::tables::{lgdt, load_tss};
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::SegmentSelector;
use x86_64::{PrivilegeLevel, VirtAddr};

use crate::memory;

/// The slots of the interrupt stack table. A slot does not nest with itself: what runs on it keeps interrupts off.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Slot {
    DoubleFault = 1,
    Nmi,
    MachineCheck,
    PageFault,
    /// Large: a test's hook may collect on it.
    Debug,
    /// All maskable interrupts. Large: the collector marks on it.
    Interrupt,
    /// The other exceptions.
    Exception,
}

/// How large the slots' stacks are, from slot 1 on.
const STACK_SIZES: [Bytes; 7] = [
    Bytes(16 * KIB),
    Bytes(16 * KIB),
    Bytes(16 * KIB),
    Bytes(32 * KIB),
    Bytes(64 * KIB),
    Bytes(64 * KIB),
    Bytes(16 * KIB),
];

const STACK_NAMES: [&str; 7] = [
    "double faults' stack",
    "NMIs' stack",
    "machine checks' stack",
    "page faults' stack",
    "debug traps' stack",
    "interrupts' stack",
    "exceptions' stack",
];

pub(crate) const CODE: u16 = 1 << 3;
const DATA: u16 = 2 << 3;
const TASK: u16 = 3 << 3;

/// One CPU's tables. Atomic words, because the CPU itself writes to them (it marks the task segment busy).
#[repr(C, align(16))]
struct Tables {
    gdt: [AtomicU64; 5],
    /// The task state segment, SDM Vol. 3 §8.7: the word at 9 begins the seven stacks, the upper half of the last says
    /// where the port bitmap begins: behind the end, so there is none.
    task: [AtomicU32; 26],
}

/// Before there is memory for stacks all slots share this one: enough for the report of a fault in the bring-up.
#[repr(C, align(16))]
struct EarlyStack([AtomicU64; 1024]);

#[unsafe(link_section = ".bss.runtime")]
static EARLY_STACK: EarlyStack = EarlyStack([const { AtomicU64::new(0) }; 1024]);
#[unsafe(link_section = ".bss.runtime")]
static BOOT_CPU: Tables = Tables { gdt: [const { AtomicU64::new(0) }; 5], task: [const { AtomicU32::new(0) }; 26] };
#[unsafe(link_section = ".bss.runtime")]
static STACKS: [Once<Range>; 7] = [const { Once::new() }; 7];

/// Loads the segments and the task register. All traps share one small stack until [`give_stacks`].
pub(crate) fn load() {
    let tables = &BOOT_CPU;
    let top = Address((&raw const EARLY_STACK).addr() + size_of::<EarlyStack>());
    (1..=7).for_each(|slot| tables.set_stack(slot, top));
    tables.task[25].store((size_of_val(&tables.task) as u32) << 16, Ordering::Relaxed);

    let base = (&raw const tables.task).addr() as u64;
    let limit = size_of_val(&tables.task) as u64 - 1;
    let entries = [
        0,
        0x00af_9b00_0000_ffff,
        0x00cf_9300_0000_ffff,
        limit | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56,
        base >> 32,
    ];
    for (place, entry) in tables.gdt.iter().zip(entries) {
        place.store(entry, Ordering::Relaxed);
    }
    let pointer = DescriptorTablePointer {
        limit: size_of_val(&tables.gdt) as u16 - 1,
        base: VirtAddr::from_ptr(&raw const tables.gdt),
    };
    let selector = |bits: u16| SegmentSelector::new(bits >> 3, PrivilegeLevel::Ring0);
    // SAFETY: the table is a static with valid entries for ring 0, and every segment register is loaded from it at once.
    // GS base becomes 0 here; the runtime sets it when it starts.
    unsafe {
        lgdt(&pointer);
        CS::set_reg(selector(CODE));
        SS::set_reg(selector(DATA));
        DS::set_reg(selector(DATA));
        ES::set_reg(selector(DATA));
        FS::set_reg(SegmentSelector::NULL);
        GS::set_reg(SegmentSelector::NULL);
        load_tss(selector(TASK));
    }
}

/// Gives each slot its own stack, a guard page below each.
pub(crate) fn give_stacks() {
    for (slot, size) in (1..=7).zip(STACK_SIZES) {
        let top = memory::cpu_stack(size);
        BOOT_CPU.set_stack(slot, top);
        STACKS[slot - 1].call_once(|| Range { start: top.minus(size), end: top });
    }
}

/// Whether this stack pointer lies on the page fault's own stack: then the page fault's handler itself has faulted.
pub(crate) fn on_page_fault_stack(rsp: usize) -> bool {
    STACKS[Slot::PageFault as usize - 1].get().is_some_and(|stack| stack.contains(Address(rsp)))
}

/// The trap's stack that an address belongs to, the guard page below it included.
pub(crate) fn stack_name(address: Address) -> Option<&'static str> {
    const GUARD: Bytes = Bytes(4096);
    let is_of = |stack: &Range| stack.start.minus(GUARD) <= address && address < stack.end;
    let slot = STACKS.iter().position(|stack| stack.get().is_some_and(is_of))?;
    Some(STACK_NAMES[slot])
}

/// Points a slot to a place that is no memory.
#[cfg(feature = "switch-off")]
pub(crate) fn break_stack(slot: Slot) {
    BOOT_CPU.set_stack(slot as usize, Address(0x1000));
}

/// Undoes [`break_stack`].
#[cfg(feature = "switch-off")]
pub(crate) fn mend_stack(slot: Slot) {
    let stack = STACKS[slot as usize - 1].get().expect("`give_stacks` has run");
    BOOT_CPU.set_stack(slot as usize, stack.end);
}

impl Tables {
    fn set_stack(&self, slot: usize, top: Address) {
        let at = 7 + 2 * slot;
        self.task[at].store(top.0 as u32, Ordering::Relaxed);
        self.task[at + 1].store((top.0 >> 32) as u32, Ordering::Relaxed);
    }
}
