//! Physical frames of 4 KiB and 2 MiB: one record per 2 MiB block of RAM, every operation O(1).
//!
//! A block is in one of three states, by the number of its free frames: none (in no list), some (in `partial`), all 512 (in
//! `whole`). Small frames come from partial blocks first, so that whole ones last; a block whose last frame comes back is
//! whole again at once. The lists are linked by index, records never move:
//!
//! ```text
//!   whole ──▸ block 7 ⇄ block 8 ⇄ …                       alloc_2m takes the first
//!   partial ─▸ block 3 ⇄ block 0         free 0110…1     alloc_4k takes a set bit of the first, or splits a whole one
//! ```
//!
//! A record has a second bitmap, of the frames that were ever given to us: a frame that comes back twice, or was never ours,
//! is noticed before it does harm.

mod check;

pub use check::{Ledger, Mistake};

use super::map::MemoryMap;
use core::fmt;
use runtime::addr::Bytes;

pub const FRAME_4K: u64 = 4 << 10;
pub const FRAME_2M: u64 = 2 << 20;

/// Small frames in a large one, and entries in a page table.
pub const FRAMES_PER_BLOCK: usize = 512;

/// An address on the memory bus. Not to be dereferenced: [`super::plan::DIRECT_MAP`] says where it is visible.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct PhysicalAddress(pub u64);

impl fmt::Debug for PhysicalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "physical {:#x}", self.0)
    }
}

impl PhysicalAddress {
    pub const fn is_aligned(self, align: u64) -> bool {
        self.0 & (align - 1) == 0
    }
}

/// 4 KiB of physical memory, aligned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Frame4K(PhysicalAddress);

/// 2 MiB of physical memory, aligned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Frame2M(PhysicalAddress);

impl Frame4K {
    /// # Panics
    /// On an address that is no multiple of 4 KiB.
    pub fn at(address: PhysicalAddress) -> Frame4K {
        assert!(address.is_aligned(FRAME_4K), "a 4 KiB frame starts at a multiple of 4 KiB, found {address:?}");
        Frame4K(address)
    }

    pub const fn address(self) -> PhysicalAddress {
        self.0
    }
}

impl Frame2M {
    /// # Panics
    /// On an address that is no multiple of 2 MiB.
    pub fn at(address: PhysicalAddress) -> Frame2M {
        assert!(address.is_aligned(FRAME_2M), "a 2 MiB frame starts at a multiple of 2 MiB, found {address:?}");
        Frame2M(address)
    }

    pub const fn address(self) -> PhysicalAddress {
        self.0
    }
}

/// The record of 2 MiB of RAM. All zeroes is a block that has no frames.
#[derive(Clone)]
pub struct Block {
    ours: [u64; 8],
    free: [u64; 8],
    free_frames: u16,
    previous: Link,
    next: Link,
}

impl Block {
    pub const NONE: Block = Block { ours: [0; 8], free: [0; 8], free_frames: 0, previous: END, next: END };

    fn list(&self) -> Option<List> {
        match self.free_frames as usize {
            0 => None,
            FRAMES_PER_BLOCK => Some(List::Whole),
            _ => Some(List::Partial),
        }
    }
}

/// A block's index plus one; 0 ends a list.
type Link = u32;
const END: Link = 0;

#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    Partial,
    Whole,
}

/// Which blocks have records, and where: RAM comes in a few runs far apart, and a record per block up to the highest address
/// would cost more than some machines have.
#[derive(Clone, Copy)]
pub struct Extents {
    runs: [Extent; Extents::MOST],
    len: usize,
}

#[derive(Clone, Copy)]
struct Extent {
    first_block: u64,
    blocks: usize,
    /// The index of the first block's record.
    first_record: usize,
}

impl Extents {
    const MOST: usize = 16;
    /// Runs closer than this share an extent: the records of 1 GiB cost 72 KiB, less than a longer search is worth.
    const NEAR_BLOCKS: u64 = 512;

    pub fn of(map: &MemoryMap) -> Extents {
        let mut extents =
            Extents { runs: [Extent { first_block: 0, blocks: 0, first_record: 0 }; Extents::MOST], len: 0 };
        for (start, end) in map.ram() {
            let (first_block, end_block) = (start.0 / FRAME_2M, end.0.div_ceil(FRAME_2M));
            let records = extents.blocks();
            match extents.runs[..extents.len].last_mut() {
                Some(last)
                    if extents.len == Extents::MOST || first_block <= last.end_block() + Extents::NEAR_BLOCKS =>
                {
                    last.blocks = (end_block - last.first_block) as usize;
                }
                _ => {
                    let blocks = (end_block - first_block) as usize;
                    extents.runs[extents.len] = Extent { first_block, blocks, first_record: records };
                    extents.len += 1;
                }
            }
        }
        extents
    }

    /// How many records are needed.
    pub fn blocks(&self) -> usize {
        self.runs[..self.len].last().map_or(0, |last| last.first_record + last.blocks)
    }

    fn record_of(&self, address: PhysicalAddress) -> Option<usize> {
        let block = address.0 / FRAME_2M;
        let extent =
            self.runs[..self.len].iter().find(|extent| extent.first_block <= block && block < extent.end_block())?;
        Some(extent.first_record + (block - extent.first_block) as usize)
    }

    fn block_of(&self, record: usize) -> PhysicalAddress {
        let of_record = |extent: &&Extent| extent.first_record <= record;
        let extent = self.runs[..self.len].iter().rfind(of_record).expect("every record belongs to an extent");
        PhysicalAddress((extent.first_block + (record - extent.first_record) as u64) * FRAME_2M)
    }
}

impl Extent {
    fn end_block(&self) -> u64 {
        self.first_block + self.blocks as u64
    }
}

/// All frames of the machine. The caller brings the lock.
pub struct Frames<'a> {
    blocks: &'a mut [Block],
    extents: Extents,
    partial: Link,
    whole: Link,
    free_frames: usize,
}

impl<'a> Frames<'a> {
    /// An allocator without frames; [`Frames::add_region`] gives it some.
    ///
    /// # Panics
    /// If there are fewer `blocks` (all [`Block::NONE`]) than `extents` needs.
    pub fn new(blocks: &'a mut [Block], extents: Extents) -> Frames<'a> {
        assert!(
            blocks.len() >= extents.blocks(),
            "a record for each of {} blocks, found {}",
            extents.blocks(),
            blocks.len()
        );
        Frames { blocks, extents, partial: END, whole: END, free_frames: 0 }
    }

    /// Gives whole pages from `start` to `end` to the allocator. Highest first: what is added last, and of one region the
    /// lowest, is handed out first, and a page table that another CPU starts with must lie low.
    ///
    /// # Panics
    /// On a page that is ours already, or outside the map that the extents came from.
    pub fn add_region(&mut self, start: PhysicalAddress, end: PhysicalAddress) {
        let mut at = end;
        while at > start {
            let block = PhysicalAddress((at.0 - 1) / FRAME_2M * FRAME_2M).max(start);
            let (record, low) = self.locate(block);
            let high = low + ((at.0 - block.0) / FRAME_4K) as usize;
            self.change(record, |block| {
                for word in 0..8 {
                    let mask = ones(low, high, word);
                    let twice = block.ours[word] & mask;
                    assert!(twice == 0, "a frame is added once, found {start:?} to {end:?} partly added already");
                    block.ours[word] |= mask;
                    block.free[word] |= mask;
                }
                block.free_frames += (high - low) as u16;
            });
            self.free_frames += high - low;
            at = block;
        }
    }

    pub fn alloc_4k(&mut self) -> Option<Frame4K> {
        let record = first(self.partial).or(first(self.whole))?;
        let bit = lowest(&self.blocks[record].free).expect("a block in a list has a free frame");
        self.change(record, |block| {
            set(&mut block.free, bit, false);
            block.free_frames -= 1;
        });
        self.free_frames -= 1;
        Some(Frame4K(PhysicalAddress(self.extents.block_of(record).0 + bit as u64 * FRAME_4K)))
    }

    pub fn alloc_2m(&mut self) -> Option<Frame2M> {
        let record = first(self.whole)?;
        self.change(record, |block| {
            block.free = [0; 8];
            block.free_frames = 0;
        });
        self.free_frames -= FRAMES_PER_BLOCK;
        Some(Frame2M(self.extents.block_of(record)))
    }

    /// Also for a part of a large frame: it is 512 small ones from then on.
    ///
    /// # Panics
    /// On a frame that is free already, or was never ours.
    pub fn free_4k(&mut self, frame: Frame4K) {
        let (record, bit) = self.locate(frame.0);
        assert!(is_set(&self.blocks[record].ours, bit), "a frame of ours is freed, found {:?}, which is not", frame.0);
        assert!(!is_set(&self.blocks[record].free, bit), "a frame in use is freed, found {:?} free already", frame.0);
        self.change(record, |block| {
            set(&mut block.free, bit, true);
            block.free_frames += 1;
        });
        self.free_frames += 1;
    }

    /// # Panics
    /// Unless all of the frame is ours and in use.
    pub fn free_2m(&mut self, frame: Frame2M) {
        let (record, _) = self.locate(frame.0);
        let block = &self.blocks[record];
        assert!(block.ours == [u64::MAX; 8], "a frame of ours is freed, found {:?}, which is not all ours", frame.0);
        assert!(
            block.free_frames == 0,
            "a 2 MiB frame in use is freed, found {} KiB of {:?} free",
            4 * block.free_frames,
            frame.0
        );
        self.change(record, |block| {
            block.free = [u64::MAX; 8];
            block.free_frames = FRAMES_PER_BLOCK as u16;
        });
        self.free_frames += FRAMES_PER_BLOCK;
    }

    pub fn free_bytes(&self) -> Bytes {
        Bytes(self.free_frames * FRAME_4K as usize)
    }

    fn locate(&self, address: PhysicalAddress) -> (usize, usize) {
        let record = self.extents.record_of(address);
        let record =
            record.unwrap_or_else(|| panic!("a frame of RAM was expected, found {address:?} outside the memory map"));
        (record, (address.0 % FRAME_2M / FRAME_4K) as usize)
    }

    /// Changes a record and moves it to the list where it belongs then.
    fn change(&mut self, record: usize, change: impl FnOnce(&mut Block)) {
        let before = self.blocks[record].list();
        change(&mut self.blocks[record]);
        let after = self.blocks[record].list();
        if before != after {
            before.inspect(|&list| self.unlink(list, record));
            after.inspect(|&list| self.link(list, record));
        }
    }

    fn head(&mut self, list: List) -> &mut Link {
        match list {
            List::Partial => &mut self.partial,
            List::Whole => &mut self.whole,
        }
    }

    fn link(&mut self, list: List, record: usize) {
        let link = record as Link + 1;
        let next = core::mem::replace(self.head(list), link);
        first(next).inspect(|&next| self.blocks[next].previous = link);
        self.blocks[record].previous = END;
        self.blocks[record].next = next;
    }

    fn unlink(&mut self, list: List, record: usize) {
        let (previous, next) = (self.blocks[record].previous, self.blocks[record].next);
        match first(previous) {
            Some(previous) => self.blocks[previous].next = next,
            None => *self.head(list) = next,
        }
        first(next).inspect(|&next| self.blocks[next].previous = previous);
    }
}

fn first(link: Link) -> Option<usize> {
    (link as usize).checked_sub(1)
}

fn is_set(bits: &[u64; 8], bit: usize) -> bool {
    bits[bit / 64] >> (bit % 64) & 1 == 1
}

fn set(bits: &mut [u64; 8], bit: usize, on: bool) {
    bits[bit / 64] = bits[bit / 64] & !(1 << (bit % 64)) | (on as u64) << (bit % 64);
}

/// The bits from `low` up to, not including, `high` that lie in the given word of a bitmap.
fn ones(low: usize, high: usize, word: usize) -> u64 {
    let up_to = |bit: usize| 1_u64.checked_shl(bit.saturating_sub(word * 64) as u32).map_or(u64::MAX, |bit| bit - 1);
    up_to(high) & !up_to(low)
}

fn lowest(bits: &[u64; 8]) -> Option<usize> {
    let word = bits.iter().position(|&word| word != 0)?;
    Some(word * 64 + bits[word].trailing_zeros() as usize)
}

#[cfg(test)]
mod tests;
