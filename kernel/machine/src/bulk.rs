//! `memcpy` and `memset`, in place of those of `compiler_builtins`, which are three string instructions in a row whatever the length.
//!
//! A processor takes tens of cycles to get a string instruction going, so below [`LONG`] bytes plain moves do it. Beyond, the string
//! instruction wins, but not under QEMU's translator: there each of its steps is a translated loop of its own, and in a copy each step uses
//! the pages of source and destination in turn, which may share an entry of QEMU's TLB: then every step misses. So [`choose`] looks
//! once who runs us. Without SSE there is nothing wider than a word.
//!
//! Both have a frame, so that whoever is interrupted or faults here is seen with its caller.
//!
//! Unsafe here: all of it.

use core::arch::naked_asm;
use core::arch::x86_64::__cpuid;
use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, Ordering};

/// From here on a string instruction pays.
const LONG: usize = 512;

/// Whether string instructions never pay.
#[unsafe(link_section = ".bss.runtime")]
static IS_TRANSLATED: AtomicBool = AtomicBool::new(false);

/// Asks the processor whether it is QEMU's translator (TCG).
#[cfg_attr(test, expect(dead_code, reason = "the tests choose"))]
pub(crate) fn choose() {
    const HYPERVISOR: u32 = 1 << 31;
    if __cpuid(1).ecx & HYPERVISOR != 0 {
        let name = __cpuid(0x4000_0000);
        let words = [name.ebx, name.ecx, name.edx].map(u32::to_le_bytes);
        IS_TRANSLATED.store(words.as_flattened() == b"TCGTCGTCGTCG", Ordering::Relaxed);
    }
}

/// C's: the ranges do not overlap, or are the same. What is left of a length at the end is copied with some bytes before it once more.
///
/// # Safety
/// `from` may be read and `to` written for so many bytes.
#[cfg_attr(target_os = "none", unsafe(no_mangle))]
#[unsafe(naked)]
unsafe extern "C" fn memcpy(to: *mut c_void, from: *const c_void, bytes: usize) -> *mut c_void {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "mov rax, rdi",
        "cmp rdx, 16",
        "jb 5f",
        "cmp rdx, {long}",
        "jae 4f",
        // By 32 bytes.
        "9:", "sub rdx, 32", "jb 3f",
        "2:",
        "mov rcx, [rsi]", "mov r8, [rsi + 8]", "mov r9, [rsi + 16]", "mov r10, [rsi + 24]",
        "mov [rdi], rcx", "mov [rdi + 8], r8", "mov [rdi + 16], r9", "mov [rdi + 24], r10",
        "add rsi, 32", "add rdi, 32", "sub rdx, 32", "jae 2b",
        // Up to 31; RDX is by 32 less.
        "3:", "mov r10, [rsi + rdx + 16]", "mov r11, [rsi + rdx + 24]",
        "cmp rdx, -16", "jl 3f",
        "mov rcx, [rsi]", "mov r8, [rsi + 8]", "mov [rdi], rcx", "mov [rdi + 8], r8",
        "3:", "mov [rdi + rdx + 16], r10", "mov [rdi + rdx + 24], r11",
        "pop rbp", "ret",
        // Many.
        "4:", "cmp byte ptr [rip + {is_translated}], 0", "jne 9b",
        "mov rcx, rdx", "shr rcx, 3", "and edx, 7", "rep movsq",
        "mov rcx, [rsi + rdx - 8]", "mov [rdi + rdx - 8], rcx",
        "pop rbp", "ret",
        // Up to 15.
        "5:", "cmp edx, 8", "jb 6f",
        "mov rcx, [rsi]", "mov r8, [rsi + rdx - 8]", "mov [rdi], rcx", "mov [rdi + rdx - 8], r8",
        "pop rbp", "ret",
        "6:", "cmp edx, 4", "jb 7f",
        "mov ecx, [rsi]", "mov r8d, [rsi + rdx - 4]", "mov [rdi], ecx", "mov [rdi + rdx - 4], r8d",
        "pop rbp", "ret",
        "7:", "test edx, edx", "je 8f",
        "mov r10, rdx", "shr r10",
        "mov cl, [rsi]", "mov r8b, [rsi + r10]", "mov r9b, [rsi + rdx - 1]",
        "mov [rdi], cl", "mov [rdi + r10], r8b", "mov [rdi + rdx - 1], r9b",
        "8:", "pop rbp", "ret",
        long = const LONG,
        is_translated = sym IS_TRANSLATED,
    )
}

/// C's.
///
/// # Safety
/// `to` may be written for so many bytes.
#[cfg_attr(target_os = "none", unsafe(no_mangle))]
#[unsafe(naked)]
unsafe extern "C" fn memset(to: *mut c_void, byte: i32, bytes: usize) -> *mut c_void {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "mov r8, rdi",
        "movzx ecx, sil",
        "mov rax, 0x0101010101010101",
        "imul rax, rcx",
        "cmp rdx, 16",
        "jb 5f",
        "cmp rdx, {long}",
        "jae 4f",
        // By 128 bytes, then by 32.
        "9:", "sub rdx, 128", "jb 3f",
        "2:",
        "mov [rdi], rax", "mov [rdi + 8], rax", "mov [rdi + 16], rax", "mov [rdi + 24], rax",
        "mov [rdi + 32], rax", "mov [rdi + 40], rax", "mov [rdi + 48], rax", "mov [rdi + 56], rax",
        "mov [rdi + 64], rax", "mov [rdi + 72], rax", "mov [rdi + 80], rax", "mov [rdi + 88], rax",
        "mov [rdi + 96], rax", "mov [rdi + 104], rax", "mov [rdi + 112], rax", "mov [rdi + 120], rax",
        "sub rdi, -128", "sub rdx, 128", "jae 2b",
        "3:", "add rdx, 96", "js 3f",
        "2:",
        "mov [rdi], rax", "mov [rdi + 8], rax", "mov [rdi + 16], rax", "mov [rdi + 24], rax",
        "add rdi, 32", "sub rdx, 32", "jae 2b",
        // Up to 31; RDX is by 32 less.
        "3:", "mov [rdi + rdx + 16], rax", "mov [rdi + rdx + 24], rax",
        "cmp rdx, -16", "jl 8f",
        "mov [rdi], rax", "mov [rdi + 8], rax",
        "jmp 8f",
        // Many.
        "4:", "cmp byte ptr [rip + {is_translated}], 0", "jne 4f",
        "mov rcx, rdx", "shr rcx, 3", "and edx, 7", "rep stosq",
        "mov [rdi + rdx - 8], rax",
        "jmp 8f",
        // By 256 bytes, to either side of RDI, as far as a displacement of a byte reaches.
        "4:", "sub rdi, -128", "sub rdx, 256",
        "2:",
        ".irp at, -128, -120, -112, -104, -96, -88, -80, -72, -64, -56, -48, -40, -32, -24, -16, -8",
        "mov [rdi + \\at], rax", "mov [rdi + \\at + 128], rax",
        ".endr",
        "add rdi, 256", "sub rdx, 256", "jae 2b",
        "add rdi, -128", "add rdx, 256", "jmp 9b",
        // Up to 15.
        "5:", "cmp edx, 8", "jb 6f",
        "mov [rdi], rax", "mov [rdi + rdx - 8], rax",
        "jmp 8f",
        "6:", "cmp edx, 4", "jb 7f",
        "mov [rdi], eax", "mov [rdi + rdx - 4], eax",
        "jmp 8f",
        "7:", "test edx, edx", "je 8f",
        "mov rcx, rdx", "shr rcx",
        "mov [rdi], al", "mov [rdi + rcx], al", "mov [rdi + rdx - 1], al",
        "8:", "mov rax, r8", "pop rbp", "ret",
        long = const LONG,
        is_translated = sym IS_TRANSLATED,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every length up to two thresholds and more, at every place in a word, and nothing around it.
    fn check(is_translated: bool) {
        IS_TRANSLATED.store(is_translated, Ordering::Relaxed);
        let from: Vec<u8> = (0..2 * LONG + 200).map(|at| (at * 7 % 251) as u8).collect();
        for bytes in (0..LONG + 100).chain([2 * LONG + 1, 2 * LONG + 131]) {
            for (skew, start) in (0..8).flat_map(|skew| [(skew, 32), (skew, 32 + skew)]) {
                let range = start..start + bytes;
                let (mut copied, mut expected) = (vec![0; 2 * LONG + 300], vec![0; 2 * LONG + 300]);
                expected[range.clone()].iter_mut().zip(&from[skew..]).for_each(|(to, from)| *to = *from);
                let place = copied[range.clone()].as_mut_ptr().cast();
                // SAFETY: both ranges are inside their vectors.
                assert_eq!(unsafe { memcpy(place, from[skew..].as_ptr().cast(), bytes) }, place);
                assert!(copied == expected, "{bytes} bytes copied from {skew} to {start}, {is_translated}");
                expected[range.clone()].iter_mut().for_each(|to| *to = 0xab);
                // SAFETY: as above. Only the lowest byte counts.
                assert_eq!(unsafe { memset(place, 0x7ab, bytes) }, place);
                assert!(copied == expected, "{bytes} bytes set at {start}, {is_translated}");
            }
        }
    }

    #[test]
    fn bytes_are_copied_and_set_and_no_others() {
        check(false);
        check(true);
    }
}
