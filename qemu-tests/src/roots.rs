//! Each kind of root keeps its object; with the collector blind for that kind, the object is lost.
//!
//! A test that blinds the collector loses more than it looks at, so most have a boot of their own (`status = 0`).

use crate::canary::{Canary, Hidden, collect_cleanly, hatch_into, overwrite_dead_frames};
use crate::clock::{MS, deadline};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::arch::asm;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use runtime::kernel_test;
use runtime::prelude::*;
use runtime::switch_off::{Mechanism, disable};

type Slot = GcCell<Option<Gc<Canary>>>;

/// Not all zero, so it lies in `.data`.
struct InData {
    _not_zero: AtomicU64,
    slot: Slot,
}

static DATA: InData = InData { _not_zero: AtomicU64::new(1), slot: Slot::null() };
static BSS: Slot = Slot::null();

fn kept_by_static(slot: &'static Slot) {
    let object = hatch_into(|object| slot.set(Some(object)));
    collect_cleanly();
    assert!(object.is_allocated() && slot.get().is_some_and(|object| object.is_intact()));
    slot.set(None);
    collect_cleanly();
    assert!(!object.is_allocated(), "the object outlived its only reference");
}

#[kernel_test]
fn a_static_with_an_initial_value_keeps_its_object() {
    kept_by_static(&DATA.slot);
}

#[kernel_test]
fn a_zeroed_static_keeps_its_object() {
    kept_by_static(&BSS);
}

#[kernel_test(off)]
fn without_static_roots_their_objects_are_lost() {
    for slot in [&DATA.slot, &BSS] {
        let object = hatch_into(|object| slot.set(Some(object)));
        let off = disable(Mechanism::StaticRoots);
        collect_cleanly();
        drop(off);
        assert!(!object.is_allocated());
        slot.set(None);
    }
}

static WAS_INTACT: AtomicBool = AtomicBool::new(false);

/// Starts a thread whose handle nobody has; its closure, which has not run yet, holds the only reference.
#[inline(never)]
fn start_with_object() -> Hidden {
    let object = Canary::hatch();
    drop(go(move || WAS_INTACT.store(object.is_intact(), Ordering::Relaxed)));
    Hidden::of(object)
}

#[kernel_test]
fn a_closure_that_has_not_run_keeps_its_object() {
    let object = start_with_object();
    collect_cleanly();
    assert!(object.is_allocated());
    yield_now();
    assert!(WAS_INTACT.load(Ordering::Relaxed));
}

#[kernel_test(off, status = 0)]
fn without_thread_slots_a_new_threads_closure_is_lost() {
    // The thread must never run: that closure is gone.
    let object = start_with_object();
    let _off = disable(Mechanism::ThreadSlots);
    collect_cleanly();
    assert!(!object.is_allocated());
}

/// A thread that has left an object as its result, and who it was.
#[inline(never)]
fn ended_with_object() -> (JoinHandle<Gc<Canary>>, Hidden) {
    static OBJECT: AtomicUsize = AtomicUsize::new(0);
    let thread = go(|| {
        let object = Canary::hatch();
        OBJECT.store(Hidden::of(object).inverted(), Ordering::Relaxed);
        object
    });
    while OBJECT.load(Ordering::Relaxed) == 0 {
        yield_now();
    }
    (thread, Hidden::from_inverted(OBJECT.swap(0, Ordering::Relaxed)))
}

#[kernel_test]
fn a_result_that_nobody_has_joined_is_kept() {
    let (thread, object) = ended_with_object();
    collect_cleanly();
    assert!(object.is_allocated());
    assert!(thread.join().is_ok_and(|object| object.is_intact()));
}

#[kernel_test(off, status = 0)]
fn without_ambiguous_blocks_a_result_that_nobody_has_joined_is_lost() {
    let (_thread, object) = ended_with_object();
    let _off = disable(Mechanism::AmbiguousScan);
    collect_cleanly();
    assert!(!object.is_allocated());
}

#[derive(Trace)]
struct Waiting {
    thread: ThreadRef,
    object: AtomicUsize,
}

static WAITING: GcCell<Option<Gc<Waiting>>> = GcCell::null();

/// A parked thread with the only reference to an object on its stack.
#[inline(never)]
fn park_with_object() -> (JoinHandle<bool>, Hidden) {
    let thread = go(|| {
        let objects = [Canary::hatch()];
        black_box(&objects);
        WAITING.set(Some(Gc::new(Waiting {
            thread: current(),
            object: AtomicUsize::new(Hidden::of(objects[0]).inverted()),
        })));
        park();
        black_box(&objects)[0].is_intact()
    });
    loop {
        yield_now();
        if let Some(waiting) = WAITING.get() {
            return (thread, Hidden::from_inverted(waiting.object.load(Ordering::Relaxed)));
        }
    }
}

#[kernel_test]
fn a_parked_threads_stack_keeps_its_object() {
    let (thread, object) = park_with_object();
    collect_cleanly();
    assert!(object.is_allocated());
    if let Some(waiting) = WAITING.swap(None) {
        waiting.thread.ready();
    }
    assert_eq!(thread.join(), Ok(true));
}

#[kernel_test(off, status = 0)]
fn without_stacks_a_parked_threads_object_is_lost() {
    let (_thread, object) = park_with_object();
    let _off = disable(Mechanism::StackRoots);
    collect_cleanly();
    assert!(!object.is_allocated());
}

/// Collects with the only reference in this very frame; whether the object is still there.
#[inline(never)]
fn collect_beside_object() -> bool {
    let objects = [Canary::hatch()];
    black_box(&objects);
    collect();
    let object = black_box(&objects)[0];
    Hidden::of(object).is_allocated() && object.is_intact()
}

#[kernel_test]
fn the_running_threads_stack_keeps_its_object() {
    assert!(collect_beside_object());
}

#[kernel_test(off, status = 0)]
fn without_stacks_the_running_threads_object_is_lost() {
    let _off = disable(Mechanism::StackRoots);
    assert!(!collect_beside_object());
}

/// Collects with nothing but a pointer into the object's middle.
#[inline(never)]
fn collect_beside_interior_pointer() -> (bool, u64) {
    #[inline(never)]
    fn middle() -> (Hidden, &'static u64) {
        let object = Canary::hatch();
        // SAFETY: the object lives as long as the pointer is found, which is what is tested.
        (Hidden::of(object), unsafe { &*core::ptr::from_ref(object.middle()) })
    }
    let (object, pointer) = middle();
    let pointers = [pointer];
    black_box(&pointers);
    collect_cleanly();
    (object.is_allocated(), *black_box(&pointers)[0])
}

#[kernel_test]
fn an_interior_pointer_keeps_the_whole_object() {
    assert_eq!(collect_beside_interior_pointer(), (true, Canary::MIDDLE));
}

#[kernel_test(off, status = 0)]
fn without_interior_pointers_the_object_is_lost() {
    let _off = disable(Mechanism::InteriorPointers);
    assert!(!collect_beside_interior_pointer().0);
}

/// Blocks of the global allocator with the only references: boxes in a vector's buffer.
type Blocks = Vec<Box<(u64, Gc<Canary>)>>;

#[inline(never)]
fn blocks_with_objects() -> (Blocks, [Hidden; 3]) {
    let blocks: Blocks = (0..3).map(|number| Box::new((number, Canary::hatch()))).collect();
    let hidden = core::array::from_fn(|index| Hidden::of(blocks[index].1));
    (blocks, hidden)
}

#[kernel_test]
fn ambiguous_blocks_keep_their_objects() {
    let (blocks, objects) = blocks_with_objects();
    collect_cleanly();
    assert!(objects.iter().all(|object| object.is_allocated()));
    assert!(black_box(&blocks).iter().zip(0..).all(|(block, number)| block.0 == number && block.1.is_intact()));
}

#[kernel_test(off, status = 0)]
fn without_ambiguous_blocks_their_objects_are_lost() {
    let (blocks, objects) = blocks_with_objects();
    let _off = disable(Mechanism::AmbiguousScan);
    collect_cleanly();
    assert!(!objects.iter().any(|object| object.is_allocated()));
    core::mem::forget(blocks);
}

static IN_REGISTER: AtomicBool = AtomicBool::new(false);
static GO_ON: AtomicBool = AtomicBool::new(false);

/// A thread holds its object in r12 and nowhere else, the timer takes the processor from it, this thread collects.
/// Whether the object was there after that.
fn collect_while_preempted() -> bool {
    IN_REGISTER.store(false, Ordering::Relaxed);
    GO_ON.store(false, Ordering::Relaxed);
    let thread = go(|| {
        let object = hatch_into(|_| ());
        overwrite_dead_frames();
        // SAFETY: writes one static's byte and reads the other's. What the call left in the other registers is
        // overwritten, for all of them are saved and scanned.
        unsafe {
            asm!(
                "not r12",
                "xor eax, eax", "xor ecx, ecx", "xor edx, edx", "xor r8d, r8d", "xor r9d, r9d", "xor r10d, r10d", "xor r11d, r11d",
                "mov byte ptr [rsi], 1",
                "2:", "pause", "cmp byte ptr [rdi], 0", "je 2b",
                "xor r12d, r12d",
                inout("r12") object.inverted() => _, in("rsi") IN_REGISTER.as_ptr(), in("rdi") GO_ON.as_ptr(),
                out("rax") _, out("rcx") _, out("rdx") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _,
                options(nostack),
            );
        }
        object.is_allocated()
    });
    runtime::set_preemption(true);
    while !IN_REGISTER.load(Ordering::Relaxed) {
        yield_now();
    }
    collect();
    GO_ON.store(true, Ordering::Relaxed);
    let kept = thread.join();
    runtime::set_preemption(false);
    kept == Ok(true)
}

#[kernel_test]
fn an_object_only_in_a_register_of_a_preempted_thread_is_kept() {
    assert!(collect_while_preempted());
}

#[kernel_test(off, status = 0)]
fn without_stacks_a_preempted_threads_object_is_lost() {
    let _off = disable(Mechanism::StackRoots);
    assert!(!collect_while_preempted());
}

/// Waits in a loop with its object in r12 and nowhere else until the timer's tick has collected.
/// Whether the object was there after that.
fn collect_by_tick() -> bool {
    let (cycles_before, deadline) = (runtime::cycles(), deadline(500));
    let object = hatch_into(|_| ());
    overwrite_dead_frames();
    runtime::set_forced_period(20 * MS);
    let live: usize;
    // SAFETY: reads the time only. rax and rdx are overwritten by it, the others here.
    unsafe {
        asm!(
            "not r12",
            "xor ecx, ecx", "xor edi, edi", "xor r8d, r8d", "xor r9d, r9d", "xor r10d, r10d", "xor r11d, r11d",
            "2:", "pause", "rdtsc", "shl rdx, 32", "or rax, rdx", "cmp rax, rsi", "jb 2b",
            inout("r12") object.inverted() => live, in("rsi") deadline,
            out("rax") _, out("rcx") _, out("rdx") _, out("rdi") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            options(nomem, nostack),
        );
    }
    runtime::set_forced_period(120_000 * MS);
    let kept = object.is_allocated();
    // Until now: after a stall of the host the tick may come between the loop and the look.
    core::hint::black_box(live);
    assert!(runtime::cycles() > cycles_before, "the timer's tick has not collected");
    kept
}

#[kernel_test]
fn an_object_only_in_a_callee_saved_register_survives_a_stop() {
    assert!(collect_by_tick());
}

#[kernel_test(off)]
fn without_saved_registers_it_does_not_survive_the_stop() {
    let _off = disable(Mechanism::SavedRegisters);
    // A stall may also let every tick come after the loop.
    assert!((0..5).any(|_| !collect_by_tick()));
}
