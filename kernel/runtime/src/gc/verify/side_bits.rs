//! A bit per word of the heap, beside it. Go: `checkmarksMap` in mcheckmark.go.
//!
//! Addresses for as much as the heap could become; memory for as much as it has, taken when first asked for.
//!
//! Unsafe here: the bits' memory.
#![allow(unsafe_code)]

use crate::addr::{Address, Bytes, Range};
use crate::heap::Heap;
use crate::platform::{OutOfFrames, Platform};

/// A bit per 8 bytes: 64 bytes of heap for one of bits.
const BYTES_PER_BYTE: usize = 64;
const FRAME: usize = 4096;

pub(super) struct SideBits {
    range: Range,
    committed: Address,
    heap_start: Address,
}

impl SideBits {
    pub(super) const fn new() -> SideBits {
        SideBits { range: Range::EMPTY, committed: Address(0), heap_start: Address(0) }
    }

    /// All bits zero, for the heap as it is now.
    pub(super) fn cover(&mut self, heap: &Heap, platform: &dyn Platform) -> Result<(), OutOfFrames> {
        let out = |platform: &dyn Platform| OutOfFrames { left: platform.free_memory() };
        if self.range == Range::EMPTY {
            let most = Bytes(heap.reserved().bytes().0.div_ceil(BYTES_PER_BYTE));
            self.range = platform.reserve(most, FRAME).ok_or_else(|| out(platform))?;
            self.committed = self.range.start;
            self.heap_start = heap.reserved().start;
        }
        let bytes = (heap.grown().0 / BYTES_PER_BYTE).next_multiple_of(FRAME);
        let end = self.range.start.plus(Bytes(bytes));
        if end > self.committed {
            platform.commit(Range { start: self.committed, end })?;
            self.committed = end;
        }
        // SAFETY: committed just now or before, and this table's own.
        unsafe { (self.range.start.0 as *mut u8).write_bytes(0, bytes) };
        Ok(())
    }

    fn place(&self, address: Address) -> (*mut u64, u64) {
        let word = (address.0 - self.heap_start.0) / 8;
        ((self.range.start.0 as *mut u64).wrapping_add(word / 64), 1 << (word % 64))
    }

    /// Sets the bit of an address in the heap's memory; whether it was clear.
    pub(super) fn set(&mut self, address: Address) -> bool {
        let (place, bit) = self.place(address);
        // SAFETY: `cover` saw to the bits of all the heap's memory.
        unsafe {
            let word = place.read();
            place.write(word | bit);
            word & bit == 0
        }
    }

    pub(super) fn is_set(&self, address: Address) -> bool {
        let (place, bit) = self.place(address);
        // SAFETY: as in `set`.
        unsafe { place.read() & bit != 0 }
    }
}
