//! Vector registers and the red zone: what an interrupted thread has there is a root, and there again when it goes on.

use crate::canary::{hatch_into, overwrite_dead_frames};
use crate::clock::{MS, deadline};
use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, Ordering};
use runtime::kernel_test;
use runtime::prelude::*;
use runtime::switch_off::{Mechanism, disable};

/// Whether the processor has AVX, and AVX-512.
fn avx() -> [bool; 2] {
    const OSXSAVE_AND_AVX: u32 = 3 << 27;
    const AVX512F: u32 = 1 << 16;
    let avx = __cpuid(1).ecx & OSXSAVE_AND_AVX == OSXSAVE_AND_AVX;
    [avx, avx && __cpuid_count(7, 0).ebx & AVX512F != 0]
}

/// Waits in a loop with the address of an object only where the instructions have put it from r12, until the timer's tick has collected.
/// Whether the object was there after that.
macro_rules! collect_while_held {
    ($($put:literal),* ; $remove:literal) => {{
        let cycles = runtime::cycles();
        let deadline = deadline(500);
        let object = hatch_into(|_| ());
        overwrite_dead_frames();
        runtime::set_forced_period(20 * MS);
        // SAFETY: writes to registers, and to this stack below RSP, where nobody else does: handlers have stacks of their own.
        unsafe {
            asm!(
                "not r12", $($put,)*
                "xor r12d, r12d", "xor ecx, ecx", "xor edi, edi", "xor r8d, r8d", "xor r9d, r9d", "xor r10d, r10d", "xor r11d, r11d",
                "2:", "pause", "rdtsc", "shl rdx, 32", "or rax, rdx", "cmp rax, rsi", "jb 2b",
                $remove,
                inout("r12") object.inverted() => _, inout("rsi") deadline => _, out("rax") _, out("rcx") _, out("rdx") _,
                out("rdi") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _, clobber_abi("sysv64"),
            );
        }
        let kept = object.is_allocated();
        runtime::set_forced_period(120_000 * MS);
        assert!(runtime::cycles() > cycles, "the timer's tick has not collected");
        kept
    }};
}

fn in_xmm9() -> bool {
    collect_while_held!("movq xmm9, r12"; "pxor xmm9, xmm9")
}

fn in_upper_half_of_ymm9() -> bool {
    collect_while_held!("movq xmm1, r12", "vpxor xmm8, xmm8, xmm8", "vinsertf128 ymm9, ymm8, xmm1, 1", "vpxor xmm1, xmm1, xmm1"; "vzeroall")
}

fn in_zmm31() -> bool {
    collect_while_held!("movq xmm1, r12", "vpxor xmm8, xmm8, xmm8", "vshufi64x2 zmm31, zmm8, zmm1, 0", "vpxor xmm1, xmm1, xmm1"; "vpxorq zmm31, zmm31, zmm31")
}

fn at_the_red_zones_end() -> bool {
    collect_while_held!("mov [rsp - 128], r12"; "mov qword ptr [rsp - 128], 0")
}

fn right_below_rsp() -> bool {
    collect_while_held!("mov [rsp - 8], r12"; "mov qword ptr [rsp - 8], 0")
}

/// Those of the places that this processor has.
fn vectors() -> impl Iterator<Item = fn() -> bool> {
    let [avx, avx512] = avx();
    let places: [(bool, fn() -> bool); 3] = [(true, in_xmm9), (avx, in_upper_half_of_ymm9), (avx512, in_zmm31)];
    places.into_iter().filter(|(is_there, _)| *is_there).map(|(_, place)| place)
}

#[kernel_test]
fn an_object_only_in_a_vector_register_is_kept() {
    assert!(vectors().all(|place| place()));
}

#[kernel_test(off)]
fn without_vector_registers_it_is_lost() {
    let _off = disable(Mechanism::VectorRegisters);
    assert!(!vectors().any(|place| place()));
}

#[kernel_test]
fn an_object_only_in_the_red_zone_is_kept() {
    assert!(right_below_rsp() && at_the_red_zones_end());
}

#[kernel_test(off)]
fn without_the_red_zone_it_is_lost() {
    let _off = disable(Mechanism::RedZone);
    assert!(!right_below_rsp() && !at_the_red_zones_end());
}

static HAS_OTHER_RUN: AtomicBool = AtomicBool::new(false);

/// Loads all vector registers from one place and stores them in another, in between waits until another thread has put other numbers into
/// them. What was there and what was found.
macro_rules! wait_with {
    ($register:literal, $bytes:literal, $numbers:literal, $move:literal, $registers:literal) => {{
        let mut numbers = [0u64; $bytes / 8 * $registers];
        numbers.iter_mut().zip(1..).for_each(|(word, number)| *word = number);
        let mut found = [0u64; $bytes / 8 * $registers];
        let zeros = found;
        HAS_OTHER_RUN.store(false, Ordering::Relaxed);
        let other = go(move || {
            // SAFETY: reads the zeros, and changes what a call may change.
            unsafe {
                asm!(
                    concat!(".irp n, ", $numbers, "\n", $move, " ", $register, "\\n, [rdi + ", $bytes, " * \\n]\n.endr"),
                    in("rdi") &zeros, clobber_abi("sysv64"),
                );
            }
            HAS_OTHER_RUN.store(true, Ordering::Relaxed);
        });
        // SAFETY: reads the numbers, writes what is found, and changes what a call may change.
        unsafe {
            asm!(
                concat!(".irp n, ", $numbers, "\n", $move, " ", $register, "\\n, [rdi + ", $bytes, " * \\n]\n.endr"),
                "2:", "pause", "cmp byte ptr [rip + {other}], 0", "je 2b",
                concat!(".irp n, ", $numbers, "\n", $move, " [rsi + ", $bytes, " * \\n], ", $register, "\\n\n.endr"),
                other = sym HAS_OTHER_RUN,
                in("rdi") &numbers, in("rsi") &mut found, clobber_abi("sysv64"),
            );
        }
        assert_eq!(other.join(), Ok(()));
        assert_eq!(black_box(found), numbers);
    }};
}

#[kernel_test(status = 0)]
fn a_preempted_threads_vector_registers_come_back() {
    runtime::set_preemption(true);
    let [avx, avx512] = avx();
    for _ in 0..5 {
        wait_with!("xmm", 16, "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15", "movups", 16);
        if avx {
            wait_with!("ymm", 32, "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15", "vmovups", 16);
        }
        if avx512 {
            wait_with!(
                "zmm",
                64,
                "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
                "vmovups",
                32
            );
        }
    }
}

/// Stores vectors across the end of what a stack has, at every distance: it grows, and the vector is there.
#[kernel_test]
fn growth_by_a_vector_at_every_alignment() {
    for above in 0..=16 {
        let found = go(move || {
            let stack = runtime::inspect::current_stack();
            let low = stack.top.0 - stack.committed.0;
            let (numbers, mut found) = ([1u64, 2], [0u64; 2]);
            // SAFETY: the stack between is this thread's, and nothing uses it.
            unsafe {
                asm!(
                    "movups xmm0, [{numbers}]", "xchg rsp, {sp}", "movups [rsp - 16], xmm0", "movups xmm1, [rsp - 16]", "xchg rsp, {sp}",
                    "movups [{found}], xmm1",
                    sp = inout(reg) low + above => _, numbers = in(reg) &numbers, found = in(reg) &mut found,
                    out("xmm0") _, out("xmm1") _,
                );
            }
            (black_box(found), stack.committed < runtime::inspect::current_stack().committed)
        });
        assert_eq!(found.join(), Ok(([1, 2], above < 16)), "{above} bytes above the end");
    }
}
