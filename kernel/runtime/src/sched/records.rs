//! The threads' records: made when needed, used again, never freed. Go: `allgs`, `gfget`, `gfput` in proc.go.
//!
//! A record keeps its stack: the next thread with the same limit starts on pages that are still there.
//!
//! Unsafe here: the name of a link section, the lock passed by.
#![allow(unsafe_code)]

use super::{State, Thread};
use crate::addr::Bytes;
use crate::allocator::Exhausted;
use crate::heap::FixedPool;
use crate::platform::platform;
use crate::stack::Stack;
use core::cell::Cell;
use spin::Mutex;

#[unsafe(link_section = ".data.runtime")]
static THREADS: Mutex<FixedPool<Thread>> = Mutex::new(FixedPool::new());

/// How many threads may exist at once: as many as have stacks of the default limit in the reserved 64 TiB.
const MOST_THREADS: usize = 1 << 20;

/// Reserves the records' addresses.
pub(super) fn set_up() {
    let reserved = THREADS.lock().reserve(platform(), MOST_THREADS);
    assert!(reserved, "the address plan has room for {MOST_THREADS} thread records");
}

/// The records of one CPU whose threads have ended, most recent first: its stack is warm. Go: `gFree` of a P.
///
/// Only its CPU touches it, inside a section. So a thread that ends may put its own record here: nobody takes it before the CPU has gone on
/// with another thread, on another stack.
pub(crate) struct Spares {
    first: Cell<Option<&'static Thread>>,
    /// With more CPUs, each will take its numbers by the dozen, as Go's `goidcache`.
    last_id: Cell<u64>,
}

impl Spares {
    pub(crate) const fn new() -> Spares {
        Spares { first: Cell::new(None), last_id: Cell::new(0) }
    }

    /// The last one, if its stack has this limit, and a page.
    pub(super) fn take_warm(&self, limit: Bytes) -> Option<&'static Thread> {
        let thread = self.first.get()?;
        if thread.stack().limit() != limit || thread.stack().committed() == Bytes(0) {
            return None;
        }
        self.first.set(thread.next.get());
        Some(thread)
    }

    /// Any that has this limit, or a new one, its stack's first page committed.
    #[cold]
    pub(super) fn take_or_make(&self, limit: Bytes) -> Result<&'static Thread, Exhausted> {
        let thread = match self.take(limit) {
            Some(thread) => thread,
            None => {
                let stack = Stack::reserve(limit).ok_or(Exhausted { asked: limit, left: platform().free_memory() })?;
                let record = THREADS.lock().take(platform(), || Thread::new(stack));
                record.map_err(|out| Exhausted { asked: Bytes(size_of::<Thread>()), left: out.left })?
            }
        };
        if let Err(out) = thread.stack().commit_first_page() {
            self.put(thread);
            return Err(Exhausted { asked: Bytes(4096), left: out.left });
        }
        Ok(thread)
    }

    /// Unlinks the first whose stack has this limit.
    fn take(&self, limit: Bytes) -> Option<&'static Thread> {
        let mut place = &self.first;
        while let Some(thread) = place.get() {
            if thread.stack().limit() == limit {
                place.set(thread.next.get());
                return Some(thread);
            }
            place = &thread.next;
        }
        None
    }

    /// Makes a record that was taken here a thread's.
    pub(super) fn number(&self, thread: &Thread) -> u64 {
        let id = self.last_id.get().wrapping_add(1);
        self.last_id.set(id);
        thread.id.set(id);
        thread.state.set(State::Runnable);
        id
    }

    /// The thread has ended; what its stack grew beyond a few pages has been given back.
    pub(super) fn give_back(&self, thread: &'static Thread) {
        thread.state.set(State::Free);
        thread.id.set(0);
        thread.ready_token.set(false);
        self.put(thread);
    }

    fn put(&self, thread: &'static Thread) {
        thread.next.set(self.first.replace(Some(thread)));
    }
}

/// Calls `f` with every record in use; for the collector.
pub(crate) fn for_each_thread(f: impl FnMut(&'static Thread)) {
    let threads = THREADS.lock();
    threads.all().filter(|thread| thread.state.get() != State::Free).for_each(f);
}

/// The same for the report of a fatal error: whoever holds the lock will never give it back.
pub(crate) fn for_each_thread_at_the_end(f: impl FnMut(&'static Thread)) {
    if THREADS.is_locked() {
        // SAFETY: whoever holds the lock was interrupted and does not go on. What it left half done is one new record; the
        // pool counts a record when it is whole.
        unsafe { THREADS.force_unlock() };
    }
    for_each_thread(f);
}
