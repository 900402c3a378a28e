//! A panic unwinds its own thread. Go: panic.go; destructors are our `defer`, [`catch_unwind`] is our `recover`.
//!
//! 1. The message is formatted into the thread's record: a panic needs no memory. If nobody waits to catch it, it is reported now and in
//!    full, while all frames of its backtrace are there.
//! 2. The platform runs the destructors, frame by frame, up to the innermost [`catch_unwind`], or to the thread's base ([`contain`]);
//!    there it becomes a [`Failure`], at the base for whoever joins the thread. From 1 to here the stack may reach into a reserve
//!    below its limit.
//! 3. A destructor may catch panics of its own: that catch puts the outer exception aside and back. A second panic that
//!    it does not catch ends the thread where it stands, as does one where nothing may unwind (`extern "C"`), and one
//!    of the message's own `Display`.
//! 4. In a section, in a handler, off a thread's stack there is no thread that could be unwound: [`panic`] returns, and everything stops.
//! 5. Want of memory goes the same way (Go: fatal); the overflow of a stack does not, for the unwinder needs one (end.rs).
//!
//! A destructor may do what any code may: allocate, collect, give up the processor, and the timer may take it. All that
//! the unwinder knows is on the thread's own stack and in its record, so many threads unwind at once, and no other
//! learns of it.
//!
//! There are no locks yet that a panic could poison.
//!
//! Unsafe here: the record's cells.
#![allow(unsafe_code)]

use super::{Failure, Thread, end};
use crate::cpu::{self, SafepointsHeld};
use crate::platform::{Exception, is_started, platform};
use crate::switch_off::{self, Mechanism};
use crate::{fatal, report, throw};
use alloc::borrow::Cow;
use alloc::string::String;
use core::cell::{Cell, UnsafeCell};
use core::fmt::{self, Write};
use core::panic::Location;

/// What a panic said, and where. A long message is cut, with an ellipsis at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panic {
    message: Cow<'static, str>,
    place: Cow<'static, str>,
}

impl Panic {
    pub fn message(&self) -> &str {
        &self.message
    }

    /// File, line and column of the `panic!`, if known.
    pub fn place(&self) -> &str {
        &self.place
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Runs `f`. A panic in it ends it, destructors and all, and is the answer. Go: `recover` in a deferred function.
///
/// Without a panic this costs a few nanoseconds; a caught one a hundred microseconds and more with the frames to unwind. What `f` changed
/// before it panicked stays changed.
pub fn catch_unwind<R>(f: impl FnOnce() -> R) -> Result<R, Failure> {
    let panic = &running().panic;
    panic.catches.update(|catches| catches + 1);
    let result = contain(f);
    panic.catches.update(|catches| catches - 1);
    result
}

/// [`catch_unwind`] for a thread's base: what comes here has been reported, with its backtrace, as caught by nobody.
pub fn contain<R>(f: impl FnOnce() -> R) -> Result<R, Failure> {
    let thread = running();
    match thread.panic.stage.get() {
        Stage::None => catch(thread, f),
        _ => catch_within(thread, f),
    }
}

fn catch<R>(thread: &'static Thread, f: impl FnOnce() -> R) -> Result<R, Failure> {
    let (mut f, mut result) = (Some(f), None);
    match (run_to_panic(thread, &mut || result = f.take().map(|f| f())), result) {
        (Some(failure), _) => Err(failure),
        (None, Some(value)) => Ok(value),
        (None, None) => throw!("expected what did not panic to have returned, found no result"),
    }
}

/// Runs `f`, with no panic under way; says what ended it, if a panic did.
#[inline]
pub(super) fn run_to_panic(thread: &'static Thread, f: &mut dyn FnMut()) -> Option<Failure> {
    platform().catch(f).then(|| thread.panic.caught(thread))
}

/// A catch in a destructor that a panic runs, or in its message.
#[cold]
#[inline(never)]
fn catch_within<R>(thread: &'static Thread, f: impl FnOnce() -> R) -> Result<R, Failure> {
    let outer = thread.panic.put_aside();
    let result = catch(thread, f);
    thread.panic.put_back(outer);
    result
}

fn running() -> &'static Thread {
    match cpu::thread_outside_sections() {
        Some(thread) => thread,
        None => throw!("expected a thread outside any section to catch panics"),
    }
}

/// How far the thread's innermost panic is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    None,
    /// The message is being formatted, by the user's code.
    Message,
    Unwinding,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    Panic,
    OutOfMemory,
}

/// A thread's panic, in its record; only that thread touches it.
pub(crate) struct PanicSlot {
    exception: Exception,
    words: UnsafeCell<Words>,
    cause: Cell<Cause>,
    stage: Cell<Stage>,
    /// How many `catch_unwind` are waiting.
    catches: Cell<u32>,
    /// How many panics have been raised and not been caught: more than one if a destructor raises and catches.
    under_way: Cell<u32>,
}

#[derive(Clone)]
struct Words {
    message: Text<256>,
    place: Text<96>,
}

impl Words {
    const NONE: Words = Words { message: Text::new(), place: Text::new() };
}

/// What a catch inside a destructor keeps for the panic outside.
struct Outer {
    exception: [usize; 8],
    words: Words,
    cause: Cause,
    stage: Stage,
}

impl PanicSlot {
    pub(super) fn new() -> PanicSlot {
        PanicSlot {
            exception: Exception::default(),
            words: UnsafeCell::new(Words::NONE),
            cause: Cell::new(Cause::Panic),
            stage: Cell::new(Stage::None),
            catches: Cell::new(0),
            under_way: Cell::new(0),
        }
    }

    /// For the record's next thread.
    pub(super) fn reset(&self) {
        self.stage.set(Stage::None);
        self.catches.set(0);
        self.under_way.set(0);
    }

    /// The stack may use its reserve.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.get() != 0
    }

    fn words(&self) -> Words {
        // SAFETY: only this thread writes them, and not now.
        unsafe { (*self.words.get()).clone() }
    }

    fn set_words(&self, words: Words) {
        // SAFETY: only this thread uses them; nobody holds a reference.
        unsafe { *self.words.get() = words };
    }

    fn put_aside(&self) -> Outer {
        // SAFETY: the unwinder does not run while a destructor does.
        let exception = unsafe { *self.exception.0.get() };
        Outer { exception, words: self.words(), cause: self.cause.get(), stage: self.stage.replace(Stage::None) }
    }

    fn put_back(&self, outer: Outer) {
        // SAFETY: as above.
        unsafe { *self.exception.0.get() = outer.exception };
        self.set_words(outer.words);
        self.cause.set(outer.cause);
        self.stage.set(outer.stage);
    }

    /// The panic is over.
    #[cold]
    #[inline(never)]
    fn caught(&self, thread: &Thread) -> Failure {
        self.stage.set(Stage::None);
        self.under_way.update(|panics| panics - 1);
        if self.under_way.get() == 0 && thread.stack().reaches_into_reserve() {
            SafepointsHeld::enter().on_system_stack(|| thread.stack().take_reserve_back(thread.saved_sp().get()));
        }
        self.failure()
    }

    /// Allocates for the words, if it can.
    fn failure(&self) -> Failure {
        match self.cause.get() {
            Cause::OutOfMemory => Failure::OutOfMemory,
            Cause::Panic => {
                let words = self.words();
                Failure::Panicked(Panic { message: words.message.keep(), place: words.place.keep() })
            }
        }
    }
}

/// Raises a panic on the running thread. Returns if there is none that could be unwound.
pub(crate) fn panic(message: fmt::Arguments<'_>, place: Option<&Location<'_>>, can_unwind: bool) {
    if is_started()
        && let Some(thread) = cpu::thread_outside_sections()
    {
        raise(thread, Cause::Panic, message, place, can_unwind);
    }
}

/// Raises a panic for want of memory.
pub(crate) fn out_of_memory(message: fmt::Arguments<'_>) -> ! {
    match cpu::thread_outside_sections() {
        Some(thread) => raise(thread, Cause::OutOfMemory, message, None, true),
        None => throw!("{message}"),
    }
}

/// Opens the stack's reserve, before anything that needs more stack than a call.
#[inline(never)]
fn raise(
    thread: &'static Thread,
    cause: Cause,
    message: fmt::Arguments<'_>,
    place: Option<&Location<'_>>,
    can_unwind: bool,
) -> ! {
    thread.panic.under_way.update(|panics| panics + 1);
    raise_in_reserve(thread, cause, message, place, can_unwind)
}

#[inline(never)]
fn raise_in_reserve(
    thread: &'static Thread,
    cause: Cause,
    message: fmt::Arguments<'_>,
    place: Option<&Location<'_>>,
    can_unwind: bool,
) -> ! {
    let panic = &thread.panic;
    let before = panic.stage.replace(Stage::Message);
    let unwinds = can_unwind && before == Stage::None && !switch_off::is_off(Mechanism::Unwinding);
    let is_reported = !unwinds || panic.catches.get() == 0;

    if before == Stage::None {
        panic.cause.set(cause);
    }
    // What it happened in comes first, as in Go.
    let outer = panic.words();
    let said = match before {
        Stage::None => message,
        Stage::Unwinding => format_args!("{}\n\tpanic: {message}", outer.message.as_str()),
        Stage::Message => format_args!("the message of a panic panicked"),
    };
    // An error means that the words are cut.
    let mut words = Words::NONE;
    let _ = words.message.write_fmt(said);
    if let Some(place) = place {
        let _ = write!(words.place, "{place}");
    }
    if is_reported {
        report_death(thread, said, words.place.as_str());
    }
    panic.set_words(words);
    if unwinds {
        panic.stage.set(Stage::Unwinding);
        platform().raise(&panic.exception);
        report!("fatal error: goroutine {} has a frame that cannot be unwound", thread.id.get());
        if !is_reported {
            let words = panic.words();
            report_death(thread, format_args!("{}", words.message.as_str()), words.place.as_str());
        }
    }
    end::fail_current(thread, panic.failure())
}

/// Go: `printpanics`, `traceback`.
fn report_death(thread: &Thread, message: fmt::Arguments<'_>, place: &str) {
    let prefix = if thread.panic.cause.get() == Cause::Panic { "panic" } else { "fatal error" };
    report!("{prefix}: {message}");
    if !place.is_empty() {
        report!("\t{place}");
    }
    let (rip, rbp) = cpu::here();
    fatal::write_thread_or_all(rip, rbp);
}

/// A text of at most so many bytes; what is longer is cut.
#[derive(Clone)]
struct Text<const BYTES: usize> {
    bytes: [u8; BYTES],
    used: usize,
}

const ELLIPSIS: &str = "…";

impl<const BYTES: usize> Text<BYTES> {
    const fn new() -> Text<BYTES> {
        Text { bytes: [0; BYTES], used: 0 }
    }

    fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..self.used]).unwrap_or_default()
    }

    /// On the heap, if there is memory.
    fn keep(&self) -> Cow<'static, str> {
        let mut text = String::new();
        match text.try_reserve_exact(self.used) {
            Ok(()) => {
                text.push_str(self.as_str());
                Cow::Owned(text)
            }
            Err(_) => Cow::Borrowed("there was no memory to keep the words"),
        }
    }

    fn append(&mut self, words: &str) {
        self.bytes[self.used..self.used + words.len()].copy_from_slice(words.as_bytes());
        self.used += words.len();
    }
}

impl<const BYTES: usize> Write for Text<BYTES> {
    fn write_str(&mut self, words: &str) -> fmt::Result {
        let room = (BYTES - ELLIPSIS.len()).checked_sub(self.used).ok_or(fmt::Error)?;
        if words.len() <= room {
            self.append(words);
            return Ok(());
        }
        self.append(&words[..words.floor_char_boundary(room)]);
        self.append(ELLIPSIS);
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::Text;
    use core::fmt::Write;

    #[test]
    fn a_long_text_is_cut_at_a_character_and_stays_cut() {
        let mut text = Text::<12>::new();
        assert!(text.write_str("123456").is_ok());
        assert!(text.write_str("78äö").is_err());
        assert_eq!(text.as_str(), "12345678…");
        assert!(text.write_str("x").is_err() || text.as_str().ends_with('x'));
    }

    #[test]
    fn a_text_that_fits_to_the_last_byte_before_the_ellipsis_is_whole() {
        let mut text = Text::<12>::new();
        assert!(text.write_str("123456789").is_ok() && text.write_str("").is_ok());
        assert!(text.write_str("0").is_err());
        assert_eq!(text.as_str(), "123456789…");
    }
}
