//! What a kernel of tests needs from the machine: the list of tests, and whose fault a death is.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicPtr, Ordering};

use runtime::Failure;

use crate::{exit, report};

/// One test; `#[kernel_test]` puts it into the link section `tests`.
#[repr(C)]
pub struct KernelTest {
    /// `module::path::name`.
    pub name: &'static str,
    pub run: fn(),
}

#[unsafe(link_section = ".bss.runtime")]
static CURRENT: AtomicPtr<KernelTest> = AtomicPtr::new(core::ptr::null_mut());

/// Runs a test, between its `@start` and `@ok` lines, and then checks what it leaves behind. If it dies, its death names it.
pub fn run(test: &'static KernelTest) {
    report!("@start {}", test.name);
    CURRENT.store(core::ptr::from_ref(test).cast_mut(), Ordering::Relaxed);
    match runtime::contain(test.run) {
        Ok(()) => {}
        Err(Failure::Panicked(panic)) => {
            fail(format_args!("{panic} at {}", panic.place()));
            exit::exit(1);
        }
        Err(_) => exit::exit(2),
    }
    if !is_machine_sound() {
        return CURRENT.store(core::ptr::null_mut(), Ordering::Relaxed);
    }
    CURRENT.store(core::ptr::null_mut(), Ordering::Relaxed);
    report!("@ok {}", test.name);
}

/// Walks the heap and the frames; what is broken fails the test that has just run.
#[cfg(target_os = "none")]
fn is_machine_sound() -> bool {
    if let Err(broken) = runtime::inspect::check_heap() {
        return !fail(format_args!("it leaves the heap broken: {broken}"));
    }
    // SAFETY: the walk only reads.
    if let Err(broken) = unsafe { runtime::inspect::standing_still(crate::memory::check_frames) } {
        return !fail(format_args!("it leaves the machine's frames broken: {broken}"));
    }
    true
}

#[cfg(not(target_os = "none"))]
fn is_machine_sound() -> bool {
    true
}

/// The test that is running.
pub fn current() -> Option<&'static KernelTest> {
    // SAFETY: `run`, the only writer, stores a `&'static` or null.
    unsafe { CURRENT.load(Ordering::Relaxed).as_ref() }
}

/// Says, if a test is running, that it has failed, and why, in one line. Returns whether one was.
pub fn fail(reason: fmt::Arguments<'_>) -> bool {
    if let Some(test) = current() {
        report!("@fail {}: {}", test.name, OneLine(reason));
    }
    current().is_some()
}

struct OneLine<'a>(fmt::Arguments<'a>);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Joined<'a, 'b>(&'a mut fmt::Formatter<'b>);
        impl fmt::Write for Joined<'_, '_> {
            fn write_str(&mut self, words: &str) -> fmt::Result {
                words.split_inclusive('\n').try_for_each(|line| match line.strip_suffix('\n') {
                    Some(line) => write!(self.0, "{line}; "),
                    None => self.0.write_str(line),
                })
            }
        }
        write!(Joined(f), "{}", self.0)
    }
}
