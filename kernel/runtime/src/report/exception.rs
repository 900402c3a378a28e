//! An exception of the CPU's in words: its name, what a page fault was about, and all registers.

use crate::platform::Registers;
use core::fmt;

/// In the order of their numbers (SDM Vol. 3 §6.3.1).
const NAMES: &str = "divide error, debug, non-maskable interrupt, breakpoint, overflow, bound range exceeded, invalid opcode, \
    device not available, double fault, coprocessor segment overrun, invalid TSS, segment not present, stack-segment fault, \
    general protection, page fault, reserved, x87 floating-point error, alignment check, machine check, \
    SIMD floating-point error, virtualization, control protection, reserved, reserved, reserved, reserved, reserved, reserved, \
    hypervisor injection, VMM communication, security";

pub fn name(vector: usize) -> &'static str {
    NAMES.split(", ").nth(vector).unwrap_or("reserved")
}

/// Bits of a page fault's error code.
pub const PRESENT: usize = 1 << 0;
pub const WRITE: usize = 1 << 1;
pub const EXECUTE: usize = 1 << 4;

/// What a page fault's access wanted to do; the address goes behind it.
pub fn deed(error_code: usize) -> &'static str {
    match (error_code & EXECUTE != 0, error_code & WRITE != 0, error_code & PRESENT != 0) {
        (true, _, true) => "execution is forbidden at",
        (true, _, false) => "execution of the absent",
        (_, true, true) => "write is forbidden to",
        (_, true, false) => "write to the absent",
        (_, false, true) => "read is forbidden of",
        (_, false, false) => "read of the absent",
    }
}

/// All of them, three a line.
impl fmt::Display for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = self;
        write!(f, "vector {:#04x}  error code {:#06x}  rflags {:#010x}", r.vector, r.error_code, r.rflags)?;
        writeln!(f, "  cs {:#x}  ss {:#x}", r.cs, r.ss)?;
        writeln!(f, "rip {:#018x}  rsp {:#018x}  rbp {:#018x}", r.rip, r.rsp, r.rbp)?;
        writeln!(f, "rax {:#018x}  rbx {:#018x}  rcx {:#018x}", r.rax, r.rbx, r.rcx)?;
        writeln!(f, "rdx {:#018x}  rsi {:#018x}  rdi {:#018x}", r.rdx, r.rsi, r.rdi)?;
        writeln!(f, "r8  {:#018x}  r9  {:#018x}  r10 {:#018x}", r.r8, r.r9, r.r10)?;
        writeln!(f, "r11 {:#018x}  r12 {:#018x}  r13 {:#018x}", r.r11, r.r12, r.r13)?;
        write!(f, "r14 {:#018x}  r15 {:#018x}", r.r14, r.r15)
    }
}
