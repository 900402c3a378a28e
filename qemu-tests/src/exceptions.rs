//! An exception that nobody expects ends the kernel with status 2, and the report says what a reader needs.

use core::arch::asm;
use core::hint::black_box;

use runtime::kernel_test;
use runtime::testing::expect_fault;

#[kernel_test(status = 2, says = "fatal error: invalid opcode")]
fn an_invalid_opcode_ends_the_kernel() {
    invalid_opcode();
}

#[kernel_test(status = 2, says = "write to the absent 0x0000000000001234")]
fn a_stray_write_is_reported_with_its_address() {
    // SAFETY: nothing is mapped there.
    unsafe { asm!("mov byte ptr [{}], 1", in(reg) 0x1234usize, options(nostack)) };
}

#[kernel_test(status = 2, says = "::plunge(...)")]
fn the_report_has_the_call_chain_with_names() {
    plunge(3);
}

#[kernel_test(status = 1, says = "panic: on purpose")]
fn a_panic_ends_the_kernel() {
    panic!("on purpose");
}

#[kernel_test]
fn an_expected_exception_inside_another_expectation_is_the_inner_ones() {
    let mut inner = None;
    let outer = expect_fault(|| inner = expect_fault(invalid_opcode));
    assert_eq!(outer, None);
    assert_eq!(inner.map(|caught| caught.vector), Some(6));
    assert_eq!(expect_fault(invalid_opcode).map(|caught| caught.vector), Some(6), "the next one is caught too");
}

#[kernel_test]
fn registers_survive_an_exception() {
    let numbers: [usize; 6] = core::array::from_fn(|index| black_box(index + 7));
    for round in 0..1000 {
        assert!(expect_fault(invalid_opcode).is_some());
        assert_eq!(numbers, [7, 8, 9, 10, 11, 12], "round {round}");
    }
}

#[kernel_test]
fn the_clock_never_goes_back() {
    let mut last = runtime::now();
    for _ in 0..100_000 {
        let now = runtime::now();
        assert!(now >= last, "{now} after {last}");
        last = now;
    }
}

fn invalid_opcode() {
    // SAFETY: the instruction that is none.
    unsafe { asm!("ud2") };
}

/// Calls itself `depth` times, then meets the instruction that is none.
#[inline(never)]
fn plunge(depth: usize) -> usize {
    match depth {
        0 => crash(),
        _ => black_box(plunge(black_box(depth) - 1)) + 1,
    }
}

fn crash() -> usize {
    invalid_opcode();
    0
}
