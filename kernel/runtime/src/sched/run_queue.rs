//! The runnable threads of one CPU: first in, first out, linked through the threads' records. Go: proc.go, `runqput`, `runqget`.

use super::Thread;
use core::cell::Cell;

/// Only its CPU touches it, inside a section.
pub(crate) struct RunQueue {
    first: Cell<Option<&'static Thread>>,
    last: Cell<Option<&'static Thread>>,
}

impl RunQueue {
    pub(crate) const fn new() -> RunQueue {
        RunQueue { first: Cell::new(None), last: Cell::new(None) }
    }

    pub(crate) fn push(&self, thread: &'static Thread) {
        thread.next.set(None);
        match self.last.replace(Some(thread)) {
            Some(last) => last.next.set(Some(thread)),
            None => self.first.set(Some(thread)),
        }
    }

    pub(crate) fn pop(&self) -> Option<&'static Thread> {
        let thread = self.first.get()?;
        self.first.set(thread.next.get());
        if self.first.get().is_none() {
            self.last.set(None);
        }
        Some(thread)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.get().is_none()
    }
}
