//! Where objects come from: `Gc::new`, and the one global allocator, which is the collected heap.
//!
//! 1. The class of an object is a constant of its type; this CPU's cache has a span of it. Taking a slot, writing the
//!    value and, for a precise object, its pointer mask is one no-safepoint section: the collector never sees half an
//!    object. Tiny objects, of fewer than 16 bytes without references, share slots (heap/tiny.rs); the global
//!    allocator's never do, for it frees them one by one.
//! 2. An empty cache is refilled on the CPU's own stack. The heap never collects; it says [`Shortage`], and here it is decided: at the
//!    trigger, collect and go on; without memory, collect unless GOGC=off or that has just been done, give the memory of free pages back,
//!    and try once more; then it is [`Exhausted`].
//! 3. Plain Rust collections allocate through the global allocator. A layout of alignment under 8 cannot hold a
//!    reference, and is never scanned (`String`, `Vec<u8>`). One of 8 and more may, and every word of it counts. One
//!    byte is added there, so that a pointer one past the end stays inside the object. The linker inlines what of it is
//!    called `__rust_alloc` and `__rust_dealloc` into who calls them, for it is short, and a constant layout's class is
//!    folded there; the rest, taking and freeing a slot, is out of line.
//! 4. `dealloc` and [`Gc::free`](crate::Gc::free) reuse the slot at once if its span is in this CPU's cache; otherwise who next takes or
//!    sweeps the span finds it (heap/free.rs). No memory of a collection that was forgotten is ever lost: unreachable is unreachable.
//!
//! A limit that Rust's layouts do not let us close: an owner inside a *packed* struct (`#[repr(packed)] struct P(u8,
//! Box<u64>)`) has no aligned address, on a stack or in a block of alignment 1, and what it owns is not found. A kernel
//! with such a type is not booted (boot/src/hidden.rs).
//!
//! A handler that allocates is a bug, and thrown.
//!
//! Unsafe here: writing into fresh slots; `GlobalAlloc`.
#![allow(unsafe_code)]

mod slices;

pub(crate) use slices::{free_noscan, free_slice, new_noscan, new_slice, too_long, usable};

use crate::addr::{Address, Bytes, Pages};
use crate::cpu::{Allocating, ConstantClass, SafepointsHeld};
use crate::gc::trace::Readings;
use crate::gc::{self, HEAP, Reason, Scan, Trace, Zeroable, verify};
use crate::heap::{self, BLOCK, Kind, Object, Reading, Shortage, SpanClass};
use crate::platform::platform;
use crate::sched;
use crate::switch_off::{self, Mechanism};
use core::alloc::{GlobalAlloc, Layout};
use core::fmt;
use core::marker::PhantomData;
use core::ptr::{self, NonNull};

/// There is no memory, even after a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted {
    /// What was asked for.
    pub asked: Bytes,
    /// What the machine still has; not enough, or not in one piece.
    pub left: Bytes,
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = SafepointsHeld::enter();
        // SAFETY: nobody else uses the cache in this section.
        let live = HEAP.live(unsafe { held.cache() }).0 >> 10;
        drop(held);
        write!(
            f,
            "out of memory: asked for {} bytes, {} KiB of memory left, heap holds {live} KiB",
            self.asked.0,
            self.left.0 >> 10
        )
    }
}

/// Moves `value` into a new object.
#[inline(always)]
pub(crate) fn new_object<T: Trace>(value: T) -> Result<NonNull<T>, Exhausted> {
    // SAFETY: the place is a fresh object's, of T's size and alignment.
    new_with(false, |place| unsafe { place.write(value) })
}

/// A new object that `write` makes in its place, which spares a value of many words the way over the stack. All words that may be
/// references and are not written are zero if `T` is [`Scan::Ambiguous`].
///
/// # Safety
/// `write` leaves a `T` there.
#[inline(always)]
pub(crate) unsafe fn new_in_place<T: Trace>(write: impl FnOnce(NonNull<T>)) -> Result<NonNull<T>, Exhausted> {
    new_with(false, write)
}

/// A new object of all zero bytes.
#[inline]
pub(crate) fn new_zeroed<T: Zeroable>() -> Result<NonNull<T>, Exhausted> {
    new_with(true, |place: NonNull<T>| match const { is_tiny::<T>() } {
        // SAFETY: the place is a fresh object's.
        true => unsafe { place.write_bytes(0, 1) },
        // SAFETY: the place is a fresh object's, and precise: words, and one at least is a reference.
        false => unsafe { heap::zero(place.cast(), Bytes(size_of::<T>())) },
    })
}

/// A new object that `write` makes a `T` of; `zeroed` says that all zero bytes are one, and all but precise and tiny objects come so.
#[inline(always)]
fn new_with<T: Trace>(zeroed: bool, write: impl FnOnce(NonNull<T>)) -> Result<NonNull<T>, Exhausted> {
    let Some(class) = (const { class_of::<T>() }) else {
        let place = allocate_large(Bytes(size_of::<T>()), align_of::<T>(), T::OBJECT, zeroed)?.cast::<T>();
        if !zeroed {
            write(place);
        }
        return Ok(place);
    };
    let mut held = Allocating::enter();
    loop {
        if const { is_tiny::<T>() }
            // SAFETY: the only reference in this section.
            && let Some(place) = unsafe { held.cache() }.allocate_tiny(size_of::<T>())
        {
            write(place.cast());
            return Ok(place.cast());
        }
        let span = held.current_span::<ClassOf<T>>();
        let place = match T::SCAN {
            Scan::Precise(mask) => span.allocate_precise(class, mask, T::SURE),
            Scan::Repeated(_) => span.allocate_patterned(class, T::OBJECT),
            Scan::Noscan if !zeroed => span.allocate(Bytes(class.slot_bytes())),
            Scan::Noscan | Scan::Ambiguous => span.allocate_zeroed(class),
        };
        if let Some(place) = place {
            if const { is_tiny::<T>() } && !switch_off::is_off(Mechanism::TinyCombining) {
                // SAFETY: as above.
                unsafe { held.cache() }.share(place, size_of::<T>());
            }
            if !zeroed || class.kind() == Kind::Precise && span.needs_zero() {
                write(place.cast());
            }
            return Ok(place.cast());
        }
        let zeroed = zeroed || matches!(T::SCAN, Scan::Ambiguous);
        held = refill(held, class, zeroed).ok_or_else(|| exhausted(class))?;
    }
}

/// The class of objects of this type; none: each is a large one.
pub(crate) const fn class_of<T: Trace>() -> Option<SpanClass> {
    // A tiny object may be the first of its slot.
    let bytes = if is_tiny::<T>() { BLOCK } else { size_of::<T>() };
    SpanClass::for_request(bytes, align_of::<T>(), T::OBJECT.kind)
}

/// Whether objects of this type share slots.
const fn is_tiny<T: Trace>() -> bool {
    matches!(T::SCAN, Scan::Noscan) && size_of::<T>() < BLOCK
}

/// The class of objects of this type, which is asked of small ones only.
struct ClassOf<T>(PhantomData<T>);

impl<T: Trace> ConstantClass for ClassOf<T> {
    const CLASS: SpanClass = match class_of::<T>() {
        Some(class) => class,
        None => SpanClass::large(Kind::Noscan),
    };
}

/// Makes an object's slot free for the next, at once if its span is in this CPU's cache. What is no object of this class is fatal.
///
/// # Safety
/// Nobody uses the object any more, and what it owns has been dropped or moved out.
#[inline(always)]
pub(crate) unsafe fn free_object(held: &SafepointsHeld, class: SpanClass, object: NonNull<u8>) {
    // SAFETY: the only reference to the cache; the object is not used any more.
    if !unsafe { held.cache().free(class, object) } {
        // SAFETY: the caller's promise.
        return unsafe { free_elsewhere(held, class, object) };
    }
    if HEAP.clobbers() {
        // SAFETY: there was an object in the slot, and nobody has it yet.
        unsafe { heap::clobber(object, Bytes(class.usable_bytes())) };
    }
}

/// [`free_object`] in a section of its own.
///
/// # Safety
/// As there.
#[inline(never)]
unsafe fn free_small(class: SpanClass, object: NonNull<u8>) {
    let held = Allocating::enter();
    // SAFETY: the only reference to the cache; the caller's promise.
    if HEAP.clobbers() || !unsafe { held.cache().free(class, object) } {
        // SAFETY: the caller's promise.
        unsafe { free_small_cold(held, class, object) };
    }
}

/// The rest of [`free_small`], which so need save no register.
///
/// # Safety
/// As there.
#[cold]
#[inline(never)]
unsafe fn free_small_cold(held: Allocating, class: SpanClass, object: NonNull<u8>) {
    // SAFETY: the caller's promise.
    unsafe { free_object(&held, class, object) };
}

/// [`free_object`] in a span that this CPU has not.
///
/// # Safety
/// As there.
#[cold]
#[inline(never)]
unsafe fn free_elsewhere(held: &SafepointsHeld, class: SpanClass, object: NonNull<u8>) {
    let found = check_free(held, class, Bytes(class.slot_bytes()), object);
    // SAFETY: there is such an object, and the caller promises that nobody uses it any more.
    unsafe {
        if HEAP.clobbers() {
            heap::clobber(object, Bytes(class.usable_bytes()));
        }
        HEAP.release(found);
    }
}

/// Gives the pages of a large object of so many bytes back.
///
/// # Safety
/// As [`free_object`].
#[cold]
#[inline(never)]
unsafe fn free_large(kind: Kind, object: NonNull<u8>, bytes: Bytes) {
    let held = Allocating::enter();
    held.on_system_stack(|| {
        check_free(&held, SpanClass::large(kind), bytes, object);
        // SAFETY: there is a large object, and nobody uses it any more.
        unsafe {
            if HEAP.clobbers() {
                heap::clobber(object, bytes);
            }
            HEAP.free_large(object);
        }
    });
}

/// The object that is to be freed.
fn check_free(held: &SafepointsHeld, class: SpanClass, bytes: Bytes, object: NonNull<u8>) -> Object {
    // SAFETY: the only reference to the cache.
    let checked = HEAP.check_free(unsafe { held.cache() }, class, bytes, Address(object.addr().get()));
    checked.unwrap_or_else(|bad| crate::throw!("{bad}"))
}

/// Frees a typed object; see [`Gc::free`](crate::Gc::free).
///
/// # Safety
/// As there.
pub(crate) unsafe fn free_typed<T: Trace>(object: NonNull<T>) {
    if const { is_tiny::<T>() || size_of::<T>() == 0 } || switch_off::is_off(Mechanism::ExplicitFree) {
        return;
    }
    // SAFETY: the caller's promise.
    unsafe { free_block(object.cast(), const { class_of::<T>() }, T::OBJECT.kind, Bytes(size_of::<T>())) };
}

/// Frees an object of so many bytes, in this class or (`None`) as a large one of this kind.
///
/// # Safety
/// Nobody uses it any more.
#[inline(always)]
unsafe fn free_block(object: NonNull<u8>, class: Option<SpanClass>, kind: Kind, bytes: Bytes) {
    match class {
        // SAFETY: the caller's promise.
        Some(class) => unsafe { free_small(class, object) },
        // SAFETY: the caller's promise.
        None => unsafe { free_large(kind, object, bytes) },
    }
}

/// Gives this CPU's cache a span with free slots, collecting first where that is called for. A collection ends the section; the one that
/// comes back may be another, and the cache still has the span. `None`: there is no memory.
///
/// It answers in a register: a place for an error in every allocating frame would be one more word that the collector finds, not written by
/// this call but by some earlier one.
///
/// Under gcstress every allocation comes here: the section in which it ends flushes the cache.
#[cold]
#[inline(never)]
fn refill(mut held: Allocating, class: SpanClass, zeroed: bool) -> Option<Allocating> {
    if verify::stress_is_due() {
        drop(held);
        gc::collect_for(Reason::Allocation);
        held = Allocating::enter();
    }
    let mut done = Done::Nothing;
    loop {
        let even_past_trigger = done != Done::Nothing;
        // SAFETY: the caller's reference is not used any more.
        let outcome = held.on_system_stack(|| unsafe { held.cache() }.refill(&HEAP, class, zeroed, even_past_trigger));
        let Err(shortage) = outcome else { break };
        drop(held);
        answer(shortage, &mut done, Bytes(class.slot_bytes())).ok()?;
        held = Allocating::enter();
    }
    if verify::is_stressed() {
        held.cpu().note_empty_cache();
    }
    Some(held)
}

#[cold]
#[inline(never)]
fn exhausted(class: SpanClass) -> Exhausted {
    Exhausted { asked: Bytes(class.slot_bytes()), left: platform().free_memory() }
}

/// What has been done so far for who finds no memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Done {
    Nothing,
    /// Whoever comes here goes on past the trigger.
    Collected,
    Released,
}

/// The decision that the heap leaves to us: `Ok` means try again.
fn answer(shortage: Shortage, done: &mut Done, asked: Bytes) -> Result<(), Exhausted> {
    match shortage {
        Shortage::Exhausted { left } if *done == Done::Released => return Err(Exhausted { asked, left }),
        Shortage::Unswept => gc::finish_sweep(),
        _ => {
            if *done == Done::Nothing && !gc::is_off() {
                gc::collect_for(Reason::Allocation);
            }
            *done = Done::Collected;
            if shortage != Shortage::Trigger {
                // A long run needs frames that short ones have.
                gc::release_free_pages();
                *done = Done::Released;
            }
        }
    }
    Ok(())
}

fn allocate_large(bytes: Bytes, align: usize, reading: Reading, zeroed: bool) -> Result<NonNull<u8>, Exhausted> {
    let mut done = Done::Nothing;
    if verify::stress_is_due() {
        gc::collect_for(Reason::Allocation);
    }
    sweep_for(bytes);
    loop {
        let held = Allocating::enter();
        let even_past_trigger = done != Done::Nothing;
        let outcome = held.on_system_stack(|| {
            // SAFETY: the only reference in this section.
            let cache = unsafe { held.cache() };
            HEAP.open_large(cache, bytes, align, reading.kind, even_past_trigger)
        });
        drop(held);
        match outcome.and_then(commit_large) {
            Ok(object) if !zeroed && reading.kind == Kind::Noscan => return Ok(object),
            Ok(object) => {
                let held = switch_off::is_off(Mechanism::ZeroingOutside).then(SafepointsHeld::enter);
                // SAFETY: a fresh object, this function's alone.
                unsafe { HEAP.zero_large(object) };
                drop(held);
                let _held = SafepointsHeld::enter();
                HEAP.read_large(object, reading);
                return Ok(object);
            }
            Err(shortage) => answer(shortage, &mut done, bytes)?,
        }
    }
}

/// Sees to it that a new large object has all its memory, with safepoints let in. After an error it is none.
fn commit_large(object: NonNull<u8>) -> Result<NonNull<u8>, Shortage> {
    let _held = switch_off::is_off(Mechanism::CommittingOutside).then(SafepointsHeld::enter);
    let mut done = Pages(0);
    while HEAP.is_bare(object) {
        // SAFETY: it is bare, this function's alone, and not returned after an error.
        SafepointsHeld::enter().on_system_stack(|| unsafe { HEAP.commit_large(object, &mut done) })?;
    }
    Ok(object)
}

/// Sweeps what falls to whoever is going to allocate a large object of so many bytes, with safepoints let in.
fn sweep_for(bytes: Bytes) {
    let Some(mut debt) = HEAP.sweep_debt(Pages::holding(bytes)) else { return };
    // Found before anything is swept: whoever allocates inside a section.
    drop(Allocating::enter());
    let _held = switch_off::is_off(Mechanism::SweepingOutside).then(SafepointsHeld::enter);
    while SafepointsHeld::enter().on_system_stack(|| HEAP.pay(&mut debt)) {}
}

/// Runs `attempt` until there is memory for it, or nothing left to be done about that.
pub(crate) fn retrying<T>(attempt: impl Fn() -> Result<T, Exhausted>) -> Result<T, Exhausted> {
    let mut done = Done::Nothing;
    loop {
        match attempt() {
            Err(Exhausted { asked, left }) => answer(Shortage::Exhausted { left }, &mut done, asked)?,
            made => return made,
        }
    }
}

/// Unwinds the calling thread for want of memory, as a panic does; with the main thread the program ends, status 2. Needs no memory.
///
/// Collections of `alloc`'s are not all made for that: a `BTreeMap` that wants memory for a second node of one
/// insertion loses the first, and who walks through it then, its own destructor for one, aborts. That is fatal to all.
#[cold]
pub fn out_of_memory(exhausted: Exhausted) -> ! {
    sched::out_of_memory(format_args!("{exhausted}"))
}

/// The global allocator: the collected heap. A kernel declares its one with `#[global_allocator]`.
pub struct Collected;

/// How a layout is kept: its class (`None`: large), and the size with the byte that keeps an end pointer inside. No
/// layout any more: rounded up to its alignment it may be more than isize::MAX.
#[inline(always)]
fn plan(layout: Layout) -> (Option<SpanClass>, Bytes, Kind) {
    let (kind, extra) = match layout.align() {
        ..8 => (Kind::Noscan, 0),
        _ if switch_off::is_off(Mechanism::SpareByte) => (Kind::Ambiguous, 0),
        _ => (Kind::Ambiguous, 1),
    };
    let bytes = layout.size().wrapping_add(extra);
    (SpanClass::for_request(bytes, layout.align(), kind), Bytes(bytes), kind)
}

/// A block as the layout says, or null. Inlined, so that the class is a constant where the layout is.
#[inline(always)]
fn allocate(layout: Layout, zeroed: bool) -> *mut u8 {
    let (class, bytes, kind) = plan(layout);
    match class {
        Some(class) if zeroed || kind == Kind::Ambiguous => allocate_small::<true>(class),
        Some(class) => allocate_small::<false>(class),
        None => allocate_large_block(bytes, layout.align(), kind, zeroed),
    }
}

/// A block of this class, or null; `ZEROED`: of all zero bytes.
#[inline(never)]
fn allocate_small<const ZEROED: bool>(class: SpanClass) -> *mut u8 {
    let held = Allocating::enter();
    // SAFETY: the only reference in this section.
    let span = unsafe { held.cache() }.current(class);
    match span.allocate_in_window() {
        Some(place) => {
            if ZEROED && span.needs_zero() {
                // SAFETY: a fresh slot: a multiple of 8 bytes at a multiple of 8.
                unsafe { heap::zero(place, span.slot_bytes()) };
            }
            place.as_ptr()
        }
        None => allocate_elsewhere::<ZEROED>(held, class),
    }
}

/// [`allocate_small`] where the window has no free slot.
#[cold]
#[inline(never)]
fn allocate_elsewhere<const ZEROED: bool>(mut held: Allocating, class: SpanClass) -> *mut u8 {
    loop {
        // SAFETY: the only reference in this section.
        let span = unsafe { held.cache() }.current(class);
        match if ZEROED { span.allocate_zeroed(class) } else { span.allocate(span.slot_bytes()) } {
            Some(place) => return place.as_ptr(),
            None => match refill(held, class, ZEROED) {
                Some(refilled) => held = refilled,
                None => return ptr::null_mut(),
            },
        }
    }
}

#[cold]
#[inline(never)]
fn allocate_large_block(bytes: Bytes, align: usize, kind: Kind, zeroed: bool) -> *mut u8 {
    allocate_large(bytes, align, Reading::of_block(kind), zeroed).map_or(ptr::null_mut(), NonNull::as_ptr)
}

// SAFETY: slots are disjoint, as large as the class says, aligned by the class, and not reused before they are freed or unreachable:
// the heap keeps the first three, the collector the last. Nothing unwinds.
unsafe impl GlobalAlloc for Collected {
    #[inline(always)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        allocate(layout, false)
    }

    #[inline(always)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        allocate(layout, true)
    }

    #[inline(always)]
    unsafe fn dealloc(&self, object: *mut u8, layout: Layout) {
        let (class, bytes, kind) = plan(layout);
        // SAFETY: the caller frees what `alloc` gave, so it is not null; the same layout gives the same class.
        unsafe { free_block(NonNull::new_unchecked(object), class, kind, bytes) };
    }

    unsafe fn realloc(&self, object: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller promises a valid size.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        let ((class, ..), (new_class, ..)) = (plan(layout), plan(new_layout));
        if class.is_some() && class == new_class {
            return object;
        }
        // SAFETY: as for any allocation.
        let new = unsafe { self.alloc(new_layout) };
        if !new.is_null() {
            // SAFETY: both are as large as the smaller size, and disjoint; the old one is used no more.
            unsafe {
                ptr::copy_nonoverlapping(object, new, layout.size().min(new_size));
                self.dealloc(object, layout);
            }
        }
        new
    }
}
