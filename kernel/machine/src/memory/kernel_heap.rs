//! The kernel's own heap, for the few records that are neither in a pool nor collected. Used through an explicit handle
//! (`Vec::new_in(KernelHeap)`), never as the global allocator: that one is the collected heap.

use super::{commit, plan};
use core::alloc::{AllocError, Allocator, Layout};
use core::ptr::NonNull;
use linked_list_allocator::Heap;
use runtime::addr::{Bytes, KIB, MIB, Range};
use spin::mutex::SpinMutex;
use x86_64::instructions::interrupts::without_interrupts;

/// Addresses for it.
const MOST: Bytes = Bytes(64 * MIB);

/// It is backed in steps of this, when the one before is full.
const STEP: usize = 64 * KIB;

/// The handle. First fit over a list of free blocks: O(blocks), interrupts off meanwhile. Not for handlers.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelHeap;

#[unsafe(link_section = ".bss.runtime")]
static MEMORY: SpinMutex<Memory> = SpinMutex::new(Memory { heap: Heap::empty(), room: Range::EMPTY });

struct Memory {
    heap: Heap,
    /// Reserved and not yet given to the heap; it follows what was.
    room: Range,
}

impl Memory {
    fn allocate(&mut self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        loop {
            match self.heap.allocate_first_fit(layout) {
                Ok(block) => return Ok(block),
                Err(()) => self.grow(layout)?,
            }
        }
    }

    /// Gives the heap as many steps more as `layout` needs at the worst.
    fn grow(&mut self, layout: Layout) -> Result<(), AllocError> {
        let bytes =
            layout.size().checked_add(layout.align()).and_then(|bytes| bytes.checked_add(64)).ok_or(AllocError)?;
        let bytes = bytes.checked_next_multiple_of(STEP).ok_or(AllocError)?;
        let is_first = self.room == Range::EMPTY;
        if is_first {
            self.room = plan::TABLES.take(MOST, STEP).ok_or(AllocError)?;
        }
        if bytes > self.room.bytes().0 {
            return Err(AllocError);
        }
        let step = Range::new(self.room.start, Bytes(bytes));
        commit::commit(step).map_err(|_| AllocError)?;
        self.room.start = step.end;
        match self.heap.bottom().is_null() {
            // SAFETY: the range is reserved for this heap, committed for good, and nobody else refers to it.
            true => unsafe { self.heap.init(step.start.0 as *mut u8, bytes) },
            // SAFETY: as above; it follows directly on what the heap has, since `room` shrinks from its start only.
            false => unsafe { self.heap.extend(bytes) },
        }
        Ok(())
    }
}

// SAFETY: blocks come from one heap behind a lock, stay where they are until they are deallocated, and every handle is the same
// allocator. Nothing here unwinds but for a broken invariant, which stops the machine.
unsafe impl Allocator for KernelHeap {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let block = match layout.size() {
            0 => layout.dangling_ptr(),
            _ => without_interrupts(|| MEMORY.lock().allocate(layout))?,
        };
        Ok(NonNull::slice_from_raw_parts(block, layout.size()))
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() != 0 {
            // SAFETY: the caller promises that the block came from `allocate` with this layout.
            without_interrupts(|| unsafe { MEMORY.lock().heap.deallocate(block, layout) });
        }
    }
}
