//! Rows `machine/*`: what any runtime on this machine pays, memory bandwidth and latency first of all.

use super::measure::{Bench, MIB};
use super::pcg::Pcg;
use alloc::{format, vec};
use core::arch::{asm, naked_asm};
use core::hint::black_box;
use core::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use runtime::prelude::*;

static SINK: AtomicU64 = AtomicU64::new(0);
static COUNT: AtomicI64 = AtomicI64::new(0);

pub(super) fn machine(bench: &Bench) {
    bench.row("machine/alu-chain", 1_000_000, |count| {
        let mut x = SINK.load(Ordering::Relaxed);
        for _ in 0..count {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // SAFETY: nothing. So that no two rounds become one.
            unsafe { asm!("/* {} */", inout(reg) x, options(nomem, nostack, preserves_flags)) };
        }
        SINK.store(x, Ordering::Relaxed);
    });
    bench.row("machine/atomic-add", 1_000_000, |count| {
        for _ in 0..count {
            COUNT.fetch_add(1, Ordering::SeqCst);
        }
    });
    bench.row("machine/call", 1_000_000, |count| {
        for _ in 0..count {
            // SAFETY: it returns, and that is all it does.
            unsafe { nop() };
        }
    });
    bench.row("machine/time.Now", 100_000, |count| {
        for _ in 0..count {
            SINK.store(now(), Ordering::Relaxed);
        }
    });
    for (name, size) in [("64", 64), ("1KiB", 1 << 10), ("32KiB", 32 << 10), ("64MiB", 64 * MIB)] {
        bulk(bench, name, size);
    }
    ways(bench);
    for (name, lines) in [("32KiB", 512), ("1MiB", 16 << 10), ("256MiB", 4 << 20)] {
        if !bench.quick || lines <= 1 << 20 {
            chase(bench, name, lines);
        }
    }
}

/// A function of which the compiler knows nothing.
#[unsafe(naked)]
unsafe extern "sysv64" fn nop() {
    naked_asm!("ret")
}

/// What `fill` and `copy_from_slice` come to: memset and memcpy.
fn bulk(bench: &Bench, size_name: &str, size: usize) {
    let [clear, copy] = ["clear", "copy"].map(|what| format!("machine/{what}/{size_name}"));
    let wanted = bench.wants(&clear) || bench.wants(&copy);
    if !wanted || !bench.fits(&copy, 2 * size) {
        return;
    }
    let fixed = (FIXED_BYTES / size).clamp(2, 100_000) as u64;
    let (mut from, mut to) = (vec![0u8; size], vec![0u8; size]);
    if bench.wants(&clear) {
        let each = bench.per_op(fixed, &mut |count| (0..count).for_each(|_| black_box(&mut *from).fill(0)));
        bench.report(&clear, each.rate(size as u64), "GB/s");
    }
    if bench.wants(&copy) {
        let each =
            bench.per_op(fixed, &mut |count| (0..count).for_each(|_| black_box(&mut *to).copy_from_slice(&from)));
        bench.report(&copy, each.rate(size as u64), "GB/s");
    }
}

const FIXED_BYTES: usize = 128 * MIB;

/// Ways to clear and copy that a kernel would choose from.
fn ways(bench: &Bench) {
    const SIZE: usize = 32 << 10;
    let (mut x, mut y) = (vec![0u8; SIZE], vec![0u8; SIZE]);
    let mut way = |name: &str, f: fn(&mut [u8], &mut [u8])| {
        if bench.wants(name) {
            let each =
                bench.per_op((FIXED_BYTES / SIZE) as u64, &mut |count| (0..count).for_each(|_| f(&mut x, &mut y)));
            bench.report(name, each.rate(SIZE as u64), "GB/s");
        }
    };
    // SAFETY: the registers say exactly the bytes of the slice, whose length is a multiple of 64.
    way("machine/clear/32KiB/mov8", |x, _| unsafe {
        asm!("2:", "mov [{at}], {zero}", "mov [{at} + 8], {zero}", "mov [{at} + 16], {zero}", "mov [{at} + 24], {zero}",
             "mov [{at} + 32], {zero}", "mov [{at} + 40], {zero}", "mov [{at} + 48], {zero}", "mov [{at} + 56], {zero}",
             "add {at}, 64", "sub {left}, 64", "jne 2b",
             at = inout(reg) x.as_mut_ptr() => _, left = inout(reg) x.len() => _, zero = in(reg) 0u64, options(nostack));
    });
    // SAFETY: as above.
    #[cfg(target_feature = "sse2")]
    way("machine/clear/32KiB/sse16", |x, _| unsafe {
        asm!("2:", "movups [{at}], {zero}", "movups [{at} + 16], {zero}", "movups [{at} + 32], {zero}", "movups [{at} + 48], {zero}",
             "add {at}, 64", "sub {left}, 64", "jne 2b",
             at = inout(reg) x.as_mut_ptr() => _, left = inout(reg) x.len() => _,
             zero = in(xmm_reg) core::arch::x86_64::_mm_setzero_si128(), options(nostack));
    });
    // SAFETY: as above.
    way("machine/clear/32KiB/rep-stosq", |x, _| unsafe {
        asm!("rep stosq", inout("rdi") x.as_mut_ptr() => _, inout("rcx") x.len() / 8 => _, in("rax") 0u64, options(nostack, preserves_flags));
    });
    // SAFETY: as above.
    way("machine/clear/32KiB/rep-stosb", |x, _| unsafe {
        asm!("rep stosb", inout("rdi") x.as_mut_ptr() => _, inout("rcx") x.len() => _, in("al") 0u8, options(nostack, preserves_flags));
    });
    // SAFETY: as above, of both.
    way("machine/copy/32KiB/rep-movsq", |x, y| unsafe {
        asm!("rep movsq", inout("rdi") y.as_mut_ptr() => _, inout("rsi") x.as_ptr() => _, inout("rcx") x.len() / 8 => _,
             options(nostack, preserves_flags));
    });
}

/// Dependent loads over a random cycle, one per 64-byte line.
fn chase(bench: &Bench, size_name: &str, lines: usize) {
    let name = format!("machine/chase/{size_name}");
    if !bench.wants(&name) || !bench.fits(&name, lines * (64 + 8)) {
        return;
    }
    let mut memory = vec![[0u32; 8]; 2 * lines]; // 32 bytes each, every other one used
    let order = Pcg::new(1, 2).permutation(lines);
    for (index, &line) in order.iter().enumerate() {
        memory[2 * line][0] = 2 * order[(index + 1) % lines] as u32;
    }
    let mut at = 2 * order[0] as u32;
    bench.row(&name, 100_000, |count| {
        for _ in 0..count {
            at = memory[at as usize][0];
        }
    });
    black_box(at);
}
