//! The threads' records: made when needed, used again, never freed. Go: `allgs`, `gfget`, `gfput` in proc.go.
//!
//! A record keeps its stack: the next thread with the same limit starts on pages that are still there.
//!
//! Unsafe here: one `Send`, the lock passed by.
#![allow(unsafe_code)]

use super::{State, Thread};
use crate::addr::Bytes;
use crate::allocator::Exhausted;
use crate::heap::FixedPool;
use crate::platform::platform;
use crate::stack::Stack;
use spin::Mutex;

struct Threads {
    records: FixedPool<Thread>,
    /// Records whose thread has ended, most recent first: its stack is warm.
    free: Option<&'static Thread>,
    last_id: u64,
}

// SAFETY: records are touched by the one CPU, inside sections.
unsafe impl Send for Threads {}

#[unsafe(link_section = ".data.runtime")]
static THREADS: Mutex<Threads> = Mutex::new(Threads { records: FixedPool::new(), free: None, last_id: 0 });

/// How many threads may exist at once: as many as have stacks of the default limit in the reserved 64 TiB.
const MOST_THREADS: usize = 1 << 20;

/// Reserves the records' addresses.
pub(super) fn set_up() {
    let reserved = THREADS.lock().records.reserve(platform(), MOST_THREADS);
    assert!(reserved, "the address plan has room for {MOST_THREADS} thread records");
}

/// A record and stack from the free list or new, state `Runnable`.
pub(super) fn take_record(limit: Bytes) -> Result<&'static Thread, Exhausted> {
    let mut threads = THREADS.lock();
    let limit = Bytes(limit.0.max(1).next_multiple_of(4096));
    let reused = match threads.free {
        Some(thread) if thread.stack().limit() == limit => {
            threads.free = thread.next.take();
            Some(thread)
        }
        first => take_from_rest(first, limit),
    };
    let thread = match reused {
        Some(thread) => thread,
        None => {
            let stack = Stack::reserve(limit).ok_or(Exhausted { asked: limit, left: platform().free_memory() })?;
            let record = threads.records.take(platform(), || Thread::new(stack));
            record.map_err(|out| Exhausted { asked: Bytes(size_of::<Thread>()), left: out.left })?
        }
    };
    if let Err(out) = thread.stack().commit_first_page() {
        thread.next.set(threads.free.replace(thread));
        return Err(Exhausted { asked: Bytes(4096), left: out.left });
    }
    threads.last_id += 1;
    thread.id.set(threads.last_id);
    thread.state.set(State::Runnable);
    thread.ready_token.set(false);
    thread.panic.reset();
    Ok(thread)
}

/// Unlinks the first record behind `first` whose stack has this limit.
fn take_from_rest(first: Option<&'static Thread>, limit: Bytes) -> Option<&'static Thread> {
    let mut before = first?;
    while let Some(thread) = before.next.get() {
        if thread.stack().limit() == limit {
            before.next.set(thread.next.take());
            return Some(thread);
        }
        before = thread;
    }
    None
}

/// The thread has ended: its record and stack are free for the next. Nobody is on that stack.
pub(super) fn give_back(thread: &'static Thread) {
    thread.stack().trim();
    thread.state.set(State::Free);
    thread.id.set(0);
    let mut threads = THREADS.lock();
    thread.next.set(threads.free.replace(thread));
}

/// Calls `f` with every record in use; for the collector.
pub(crate) fn for_each_thread(f: impl FnMut(&'static Thread)) {
    let threads = THREADS.lock();
    threads.records.all().filter(|thread| thread.state.get() != State::Free).for_each(f);
}

/// The same for the report of a fatal error: whoever holds the lock will never give it back.
pub(crate) fn for_each_thread_at_the_end(f: impl FnMut(&'static Thread)) {
    if THREADS.is_locked() {
        // SAFETY: whoever holds the lock was interrupted and does not go on. What it left half done are the free list and one
        // new record; the pool counts a record when it is whole.
        unsafe { THREADS.force_unlock() };
    }
    for_each_thread(f);
}
