//! A thread that is made to give the processor notices nothing: wherever it was, it goes on with all that it had.

use crate::canary::{hatch_into, overwrite_dead_frames};
use crate::clock::deadline;
use core::arch::asm;
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use runtime::addr::{Bytes, KIB, Range};
use runtime::kernel_test;
use runtime::platform::Registers;
use runtime::prelude::*;
use runtime::switch_off::{Mechanism, disable};
use runtime::testing::{self, Hook};
use runtime::upcall;
use spin::Mutex;

/// What a thread had in its registers, but for rcx and rsp, and its flags.
type Found = [usize; 15];

/// Waits with these flags, and with a number in every register, until another thread has run.
#[inline(never)]
fn wait_with(flags: usize) -> Found {
    static GO_ON: AtomicU64 = AtomicU64::new(0);
    let mut found: Found = [0; 15];
    GO_ON.store(0, Ordering::Relaxed);
    drop(go(|| GO_ON.store(1, Ordering::Relaxed)));
    // SAFETY: writes to `found` alone, and puts back rbx, rbp and the direction. What waits changes only rcx, and no flag.
    unsafe {
        asm!(
            "push rbx", "push rbp", "push rcx", "push rax", "popfq",
            "mov rax, 1", "mov rbx, 2", "mov rdx, 3", "mov rsi, 4", "mov rdi, 5", "mov rbp, 6", "mov r8, 7", "mov r9, 8",
            "mov r10, 9", "mov r11, 10", "mov r12, 11", "mov r13, 12", "mov r14, 13", "mov r15, 14",
            "2:", "pause", "mov rcx, [rip + {go_on}]", "jrcxz 2b",
            "mov rcx, [rsp]",
            "mov [rcx], rax", "mov [rcx + 8], rbx", "mov [rcx + 16], rdx", "mov [rcx + 24], rsi", "mov [rcx + 32], rdi",
            "mov [rcx + 40], rbp", "mov [rcx + 48], r8", "mov [rcx + 56], r9", "mov [rcx + 64], r10", "mov [rcx + 72], r11",
            "mov [rcx + 80], r12", "mov [rcx + 88], r13", "mov [rcx + 96], r14", "mov [rcx + 104], r15",
            "pushfq", "pop [rcx + 112]", "cld", "pop rcx", "pop rbp", "pop rbx",
            go_on = sym GO_ON,
            in("rcx") &raw mut found, inout("rax") flags => _, out("rdx") _, out("rsi") _, out("rdi") _,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _, out("r12") _, out("r13") _, out("r14") _, out("r15") _,
        );
    }
    found
}

#[kernel_test(status = 0)]
fn a_preempted_threads_registers_and_flags_come_back() {
    /// Interrupts on, and the bit that is always one.
    const ALWAYS: usize = 0x202;
    runtime::set_preemption(true);
    // None and all of carry, parity, adjust, zero, sign, direction and overflow; some.
    for flags in [0, 0xcd5, 0x455, 0x880].map(|flags| ALWAYS | flags) {
        let found = go(move || wait_with(flags)).join().expect("nothing stops it");
        assert_eq!(found, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, flags]);
    }
}

/// The turns of a thread that wants the processor all the time.
static TURNS: AtomicUsize = AtomicUsize::new(0);

fn start_rival() {
    runtime::set_preemption(true);
    drop(go(|| -> () {
        loop {
            TURNS.fetch_add(1, Ordering::Relaxed);
            yield_now();
        }
    }));
}

/// Waits with RSP so many bytes above a small stack's limit until the rival has had a turn, or for so long. Whether it has had one.
fn loses_processor(left: usize, at_most_ms: u64) -> Result<bool, Failure> {
    const LIMIT: usize = 64 * KIB;
    let thread = Builder::new().stack_limit(LIMIT).spawn(move || {
        let bottom = runtime::inspect::current_stack().top.0 - LIMIT;
        let deadline = deadline(at_most_ms);
        let (before, after): (usize, usize);
        // SAFETY: the stack between is this thread's, and nothing uses it.
        unsafe {
            asm!(
                "xchg rsp, rdi",
                "mov rcx, [rip + {turns}]",
                "2:", "pause", "mov r8, [rip + {turns}]", "cmp r8, rcx", "jne 3f",
                "rdtsc", "shl rdx, 32", "or rax, rdx", "cmp rax, rsi", "jb 2b",
                "3:", "xchg rsp, rdi",
                turns = sym TURNS,
                inout("rdi") bottom + left => _, in("rsi") deadline, out("rcx") before, out("r8") after, out("rax") _, out("rdx") _,
            );
        }
        before != after
    });
    thread.expect("there is memory for one thread").join()
}

const PATIENCE_MS: u64 = 30_000;

/// Above this a thread has room for what preemption puts on its stack; a process saves vector registers there.
const ROOM: usize = if cfg!(hosted) { 6 * KIB } else { 3 * KIB };

#[kernel_test(status = 0)]
fn preemption_kills_no_thread_near_its_limit() {
    start_rival();
    for left in [0, 8, 64, 128, 512, 1024, 1536] {
        assert_eq!(loses_processor(left, 40), Ok(false), "{left} bytes above the limit");
    }
    // From here on it may be let alone, but not be killed.
    for left in (2 * KIB..ROOM).step_by(64) {
        assert!(loses_processor(left, 40).is_ok(), "{left} bytes above the limit");
    }
    for left in [ROOM, ROOM + 8, ROOM + KIB, 63 * KIB] {
        assert_eq!(loses_processor(left, PATIENCE_MS), Ok(true), "{left} bytes above the limit");
    }
}

#[kernel_test(off, status = 2, says = "fatal error: page fault: write to the absent")]
fn without_the_look_for_room_preemption_writes_where_no_stack_is() {
    start_rival();
    let _off = disable(Mechanism::PreemptionRoom);
    let _ = loses_processor(0, PATIENCE_MS);
}

/// What the unwinder's last step keeps below RSP.
type Block = [usize; 17];

const BLOCK: Block = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17];

/// Stands, in a destructor that a panic runs, where the unwinder's last step does between two of its instructions, until the rival has
/// had a turn, or for so long. What is left of what was below RSP.
fn stand_in_the_unwinders_last_step(at_most_ms: u64) -> Block {
    struct Stands<'a>(&'a mut Block, u64);

    impl Drop for Stands<'_> {
        fn drop(&mut self) {
            let deadline = deadline(self.1);
            // SAFETY: writes to this stack below RSP, where on bare metal nobody else does: handlers have stacks of their own.
            unsafe {
                asm!(
                    "lea rdi, [rsp - 136]", "mov ecx, 17",
                    "2:", "mov [rdi + 8 * rcx - 8], rcx", "dec ecx", "jnz 2b",
                    "mov rcx, [rip + {turns}]",
                    "2:", "pause", "cmp rcx, [rip + {turns}]", "jne 3f",
                    "rdtsc", "shl rdx, 32", "or rax, rdx", "cmp rax, rsi", "jb 2b",
                    "3:", "mov rsi, rdi", "mov rdi, r8", "mov ecx, 17", "rep movsq",
                    turns = sym TURNS,
                    in("r8") self.0.as_mut_ptr(), inout("rsi") deadline => _,
                    out("rdi") _, out("rcx") _, out("rax") _, out("rdx") _,
                );
            }
        }
    }

    let mut block = [0; 17];
    let stands = Stands(&mut block, at_most_ms);
    let ended = catch_unwind(move || {
        let _stands = stands;
        panic!("to be caught");
    });
    assert!(matches!(ended, Err::<(), _>(Failure::Panicked(_))));
    block
}

#[kernel_test(status = 0)]
fn preemption_leaves_the_unwinders_last_step_alone() {
    start_rival();
    assert_eq!(go(|| stand_in_the_unwinders_last_step(40)).join(), Ok(BLOCK));
}

#[kernel_test(off, status = 0)]
fn without_the_look_for_the_unwinders_registers_preemption_overwrites_them() {
    start_rival();
    let _off = disable(Mechanism::UnwindersRegisters);
    assert!(go(|| stand_in_the_unwinders_last_step(PATIENCE_MS)).join().is_ok_and(|block| block != BLOCK));
}

/// Where the platform has saved the rest of the interrupted context, as the hook below says.
static EXTENDED: Mutex<Range> = Mutex::new(Range::EMPTY);

/// Collects at a stop while an object's address is only in a page that is, or is not, part of the interrupted context.
/// Whether the object was there after that.
fn collect_beside_context(is_part: bool) -> bool {
    fn look(registers: &Registers, _: Range) {
        let extended = *EXTENDED.lock();
        // SAFETY: a hook runs in the trap's handler.
        unsafe { upcall::at_stop(registers, extended, |world| world.collect()) };
    }
    let page = testing::platform().reserve(Bytes(4 * KIB), 4 * KIB).expect("the address plan has room");
    testing::platform().commit(page).expect("there is a frame");
    // SAFETY: committed above, and nobody else's.
    let object = hatch_into(|object| unsafe { (page.start.0 as *mut usize).write(Gc::as_ptr(object).addr()) });
    *EXTENDED.lock() = if is_part { page } else { Range::EMPTY };
    overwrite_dead_frames();
    testing::each_instruction(&(look as Hook), || black_box(1));
    object.is_allocated()
}

#[kernel_test]
fn an_object_only_in_the_rest_of_an_interrupted_context_is_kept() {
    assert!(collect_beside_context(true) && !collect_beside_context(false));
}

#[kernel_test(off)]
fn without_the_rest_of_the_context_such_an_object_is_lost() {
    let _off = disable(Mechanism::VectorRegisters);
    assert!(!collect_beside_context(true));
}
