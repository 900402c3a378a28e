//! The stub on the host's own processor: what it calls overwrites every register that a function may, and nothing of that is seen.

use super::{HAS_XSAVE, choose_instruction, stub};
use crate::platform::RED_ZONE;
use core::arch::asm;
use core::hint::black_box;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::is_x86_feature_detected as has;

static CALLS: AtomicUsize = AtomicUsize::new(0);

/// Stands for the runtime's.
pub(super) extern "sysv64" fn preempted() {
    #[repr(align(16))]
    struct Aligned(u8);
    let here = Aligned(0);
    let flags: usize;
    // SAFETY: reads the flags.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags) };
    assert_eq!(flags & 1 << 10, 0, "the direction is up");
    let here = black_box(&raw const here.0).addr();
    assert!(here.is_multiple_of(16), "the stack is aligned as a call wants it");
    CALLS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: overwrites what a function may overwrite, as far as the processor has it.
    unsafe {
        asm!(
            "mov rax, -1", "mov rcx, rax", "mov rdx, rax", "mov rsi, rax", "mov rdi, rax",
            "mov r8, rax", "mov r9, rax", "mov r10, rax", "mov r11, rax", "add rax, 1",
            "pcmpeqd xmm0, xmm0", "movaps xmm15, xmm0",
            out("rax") _, out("xmm0") _, out("xmm15") _, clobber_abi("sysv64"),
        );
        if has!("avx") {
            asm!("vpxor xmm0, xmm0, xmm0", "vmovaps ymm15, ymm0", clobber_abi("sysv64"));
        }
        if has!("avx512f") {
            asm!("vpxorq zmm0, zmm0, zmm0", "vmovdqa64 zmm31, zmm0", "kxorw k1, k1, k1", clobber_abi("sysv64"));
        }
    }
}

/// Is interrupted with `$load`ed vector registers, and `$store`s them afterwards; r14 points to 256 bytes.
macro_rules! interrupt {
    ($misalignment:expr, $flags:expr, $area:expr, $load:literal, $store:literal) => {{
        let mut found: [usize; 11] = [0; 11];
        // SAFETY: the stub returns behind its call with all registers as they were, which is what is tested.
        unsafe {
            asm!(
                "mov r15, rsp",
                "sub rsp, r12",
                $load,
                "push r13", "popfq",
                // The handler's part.
                "lea rsp, [rsp - {red_zone}]",
                "call {stub}",
                "pushfq", "pop r13", "cld",
                $store,
                "add rsp, r12",
                "sub r15, rsp",
                red_zone = const RED_ZONE.0,
                stub = sym stub,
                in("r12") $misalignment, inout("r13") $flags => found[0], in("r14") $area.as_mut_ptr(), out("r15") found[1],
                inout("rax") 1usize => found[2], inout("rcx") 2usize => found[3], inout("rdx") 3usize => found[4],
                inout("rsi") 4usize => found[5], inout("rdi") 5usize => found[6], inout("r8") 6usize => found[7],
                inout("r9") 7usize => found[8], inout("r10") 8usize => found[9], inout("r11") 9usize => found[10],
                out("xmm0") _, out("xmm15") _, out("xmm31") _, out("k1") _,
            );
        }
        assert_eq!(found[0], $flags);
        assert_eq!(found[1..], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], "RSP and the registers");
    }};
}

/// Always on, interrupts on, and all or none of the arithmetic flags with the direction.
const FLAGS: [usize; 2] = [0x202, 0x202 | 0xcd5];

/// Calls `f` with different values for 128 bytes of vector registers, and room to store them behind.
fn with_vectors(f: impl Fn(usize, usize, &mut [u8; 256])) {
    for (misalignment, flags) in (0..64).step_by(8).flat_map(|by| FLAGS.map(|flags| (by, flags))) {
        let mut area: [u8; 256] = core::array::from_fn(|index| if index < 128 { index as u8 + 1 } else { 0 });
        f(misalignment, flags, &mut area);
        assert_eq!(area[..128], area[128..]);
    }
}

#[test]
#[cfg_attr(miri, ignore = "it is assembly")]
fn every_register_and_flag_comes_back() {
    let sse = |misalignment: usize, flags: usize, area: &mut [u8; 256]| {
        area[32..128].fill(0);
        interrupt!(
            misalignment,
            flags,
            area,
            "movups xmm0, [r14]\n movups xmm15, [r14 + 16]",
            "movups [r14 + 128], xmm0\n movups [r14 + 144], xmm15"
        );
    };
    with_vectors(sse);
    choose_instruction();
    assert!(HAS_XSAVE.load(Ordering::Relaxed) || !has!("avx"));
    with_vectors(sse);
    if has!("avx") {
        with_vectors(|misalignment, flags, area| {
            area[64..128].fill(0);
            interrupt!(
                misalignment,
                flags,
                area,
                "vmovups ymm0, [r14]\n vmovups ymm15, [r14 + 32]",
                "vmovups [r14 + 128], ymm0\n vmovups [r14 + 160], ymm15"
            );
        });
    }
    if has!("avx512f") {
        with_vectors(|misalignment, flags, area| {
            interrupt!(
                misalignment,
                flags,
                area,
                "vmovups zmm0, [r14]\n vmovups zmm31, [r14 + 64]\n kmovw k1, [r14 + 62]",
                "vmovups [r14 + 128], zmm0\n vmovups [r14 + 192], zmm31\n kmovw [r14 + 190], k1"
            );
        });
    }
    let ways = 2 + usize::from(has!("avx")) + usize::from(has!("avx512f"));
    assert_eq!(CALLS.load(Ordering::Relaxed), ways * 16);
}
