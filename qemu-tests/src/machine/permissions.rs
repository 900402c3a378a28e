//! Memory protection: what may not be written is not, what may not be executed is not, and the low half is empty.
//!
//! Each access must fault at its own address with the right error code (SDM Vol. 3 §4.7). The twins take one protection away and
//! must see the access succeed: else these tests would pass on a machine that faults for another reason.

use alloc::boxed::Box;
use core::arch::asm;

use machine::memory::{self, plan};

use runtime::addr::{Address, Bytes, KIB, Range};
use runtime::kernel_test;
use runtime::testing::{CaughtFault, expect_fault};

const PAGE_FAULT: usize = 14;
const GENERAL_PROTECTION: usize = 13;

/// Bits of a page fault's error code; without `PRESENT` nothing is mapped there.
const PRESENT: usize = 1 << 0;
const WRITE: usize = 1 << 1;
const EXECUTE: usize = 1 << 4;

const RETURN: u8 = 0xc3;
static CONSTANT: [u8; 16] = [RETURN; 16];

#[kernel_test]
fn writing_text_faults() {
    let text = Address(load as *const () as usize);
    assert_faults(|| store(text, load(text)), text, PRESENT | WRITE);
}

#[kernel_test]
fn writing_constants_faults() {
    let constant = Address(CONSTANT.as_ptr().addr());
    assert_faults(|| store(constant, RETURN), constant, PRESENT | WRITE);
}

#[kernel_test]
fn writing_relocated_pointers_faults() {
    static POINTERS: &[&[u8]] = &[&CONSTANT];
    let pointer = Address(POINTERS.as_ptr().addr());
    assert_faults(|| store(pointer, load(pointer)), pointer, PRESENT | WRITE);
}

#[kernel_test]
fn executing_the_heap_faults() {
    let code = Box::new([RETURN; 64]);
    let code = Address(code.as_ptr().addr());
    assert_faults(|| call(code), code, PRESENT | EXECUTE);
}

#[kernel_test]
fn executing_the_stack_faults() {
    let code = core::hint::black_box([RETURN; 64]);
    let code = Address(code.as_ptr().addr());
    assert_faults(|| call(code), code, PRESENT | EXECUTE);
}

#[kernel_test]
fn executing_constants_faults() {
    let code = Address(CONSTANT.as_ptr().addr());
    assert_faults(|| call(code), code, PRESENT | EXECUTE);
}

#[kernel_test]
fn touching_null_faults_and_the_first_64_kib_with_it() {
    for address in (0..64 * KIB).step_by(4 * KIB).map(Address) {
        assert_faults(|| _ = load(address), address, 0);
        assert_faults(|| store(address, 0), address, WRITE);
        assert_faults(|| call(address), address, EXECUTE);
    }
}

#[kernel_test]
fn text_has_no_second_address_in_the_direct_map() {
    let text = Address(load as *const () as usize);
    let physical = memory::physical_address(text).expect("text is mapped");
    let alias = plan::DIRECT_MAP.start.plus(Bytes(physical.0 as usize));
    assert_faults(|| _ = load(alias), alias, 0);
}

#[kernel_test]
fn below_a_cpus_stack_nothing_is_mapped() {
    let size = Bytes(8 * KIB);
    let top = memory::cpu_stack(size);
    let bottom = top.minus(size);
    assert_eq!(expect_fault(|| store(bottom, 1)), None);
    let below = bottom.minus(Bytes(1));
    assert_faults(|| store(below, 1), below, WRITE);
}

#[kernel_test]
fn an_address_that_is_none_is_a_general_protection() {
    let caught = expect_fault(|| _ = load(Address(0x1234_5678_9abc_def0)));
    assert_eq!(caught.map(|caught| caught.vector), Some(GENERAL_PROTECTION));
}

#[kernel_test]
fn what_does_not_fault_is_not_caught() {
    let mut ran = false;
    assert_eq!(expect_fault(|| ran = true), None);
    assert!(ran);
}

#[kernel_test]
fn the_walk_over_all_tables_finds_no_hole() {
    if let Err(violation) = memory::check_permissions() {
        panic!("{violation}");
    }
}

#[kernel_test(off)]
fn without_write_protection_constants_can_be_written() {
    const WRITE_PROTECT: usize = 1 << 16;
    let constant = Address(CONSTANT.as_ptr().addr());
    let set_cr0 = |change: fn(usize) -> usize| {
        let cr0: usize;
        // SAFETY: changes the one bit about writes to read-only pages; interrupts are off while it is changed.
        unsafe {
            asm!("mov {}, cr0", out(reg) cr0, options(nomem, nostack));
            asm!("mov cr0, {}", in(reg) change(cr0), options(nostack));
        }
    };
    // SAFETY: for the few lines until they are on again nobody needs an interrupt.
    unsafe { asm!("cli", options(nomem, nostack)) };
    set_cr0(|cr0| cr0 & !WRITE_PROTECT);
    let caught = expect_fault(|| store(constant, RETURN));
    set_cr0(|cr0| cr0 | WRITE_PROTECT);
    // SAFETY: they were on: a test runs on a thread.
    unsafe { asm!("sti", options(nomem, nostack)) };
    assert_eq!(caught, None);
}

#[kernel_test(off)]
fn without_no_execute_data_can_be_executed_and_the_walk_sees_it() {
    const NO_EXECUTE: u64 = 1 << 63;
    let page = fresh_page();
    store(page, RETURN);
    assert_faults(|| call(page), page, PRESENT | EXECUTE);
    let entry = leaf_entry(page);
    // SAFETY: the entry is that of a page which only this test knows.
    let set_entry = |value: u64| unsafe {
        entry.write_volatile(value);
        asm!("invlpg [{}]", in(reg) page.0, options(nostack));
    };
    // SAFETY: as above.
    let before = unsafe { entry.read_volatile() };
    set_entry(before & !NO_EXECUTE);
    let caught = expect_fault(|| call(page));
    let walk = memory::check_permissions();
    set_entry(before);
    assert_eq!(caught, None);
    assert!(walk.is_err(), "the walk passes over a page that is writable and executable");
    assert!(memory::check_permissions().is_ok());
}

fn assert_faults(access: impl FnOnce(), at: Address, error_code: usize) {
    let Some(CaughtFault { vector, error_code: found, address, rip }) = expect_fault(access) else {
        panic!("the access to {at} went through");
    };
    assert_eq!((vector, found, address), (PAGE_FAULT, error_code, at), "vector, error code, address; at rip {rip:#x}");
    assert!(error_code & EXECUTE == 0 || rip == at.0, "the instruction at {rip:#x} is not the one at {at}");
}

/// A committed page that nobody else uses.
pub(crate) fn fresh_page() -> Address {
    let page: Range = memory::reserve(Bytes(4 * KIB), 4 * KIB).expect("addresses abound");
    memory::commit(page).expect("one frame is left");
    page.start
}

/// The entry of the last level for a page, seen through the direct map.
pub(crate) fn leaf_entry(page: Address) -> *mut u64 {
    const FRAME: u64 = 0x000f_ffff_ffff_f000;
    let mut table: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr3", out(reg) table, options(nomem, nostack)) };
    for level in (0..4).rev() {
        let at = plan::DIRECT_MAP.start.0 + (table & FRAME) as usize + (page.0 >> (12 + 9 * level) & 511) * 8;
        let entry = core::ptr::with_exposed_provenance_mut::<u64>(at);
        if level == 0 {
            return entry;
        }
        // SAFETY: page tables are RAM, and RAM is in the direct map.
        table = unsafe { entry.read_volatile() };
    }
    unreachable!("the last level returns")
}

// The accesses are assembly: that they are not allowed is the point, and the compiler must not reason from it.

fn load(address: Address) -> u8 {
    let byte: u8;
    // SAFETY: reads a byte or faults, and whoever calls this expects either.
    unsafe { asm!("mov {}, [{}]", out(reg_byte) byte, in(reg) address.0, options(nostack, readonly)) };
    byte
}

fn store(address: Address, byte: u8) {
    // SAFETY: faults, or writes what was there before, or writes to memory that the test owns.
    unsafe { asm!("mov [{}], {}", in(reg) address.0, in(reg_byte) byte, options(nostack)) };
}

fn call(address: Address) {
    // SAFETY: faults, or runs the `ret` that the test put there.
    unsafe { asm!("call {}", in(reg) address.0, clobber_abi("sysv64")) };
}
