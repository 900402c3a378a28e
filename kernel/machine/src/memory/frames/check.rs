//! The accounts of the frames, and a ledger in which every frame finds its one owner. Slow and obviously right, for tests.

use super::{
    Block, FRAME_2M, FRAME_4K, FRAMES_PER_BLOCK, Frames, Link, List, PhysicalAddress, first, is_set, lowest, set,
};
use core::fmt;

/// What is wrong with a frame or a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mistake {
    pub what: &'static str,
    pub at: PhysicalAddress,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.what, self.at)
    }
}

fn ensure(holds: bool, what: &'static str, at: PhysicalAddress) -> Result<(), Mistake> {
    if holds { Ok(()) } else { Err(Mistake { what, at }) }
}

impl Frames<'_> {
    /// How many blocks have records.
    pub fn records(&self) -> usize {
        self.extents.blocks()
    }

    /// Checks each record against itself, and that each is in the list that it belongs to.
    pub fn check(&self) -> Result<(), Mistake> {
        let (mut free_frames, mut lengths) = (0, [0, 0]);
        for (record, block) in self.blocks[..self.records()].iter().enumerate() {
            let at = self.extents.block_of(record);
            let free: u32 = block.free.iter().map(|word| word.count_ones()).sum();
            ensure(free == u32::from(block.free_frames), "free frames of a block are counted", at)?;
            ensure((0..8).all(|word| block.free[word] & !block.ours[word] == 0), "only frames of ours are free", at)?;
            free_frames += free as usize;
            match block.list() {
                Some(List::Partial) => lengths[0] += 1,
                Some(List::Whole) => lengths[1] += 1,
                None => {}
            }
        }
        ensure(free_frames == self.free_frames, "free frames are counted", PhysicalAddress(0))?;
        self.check_list(self.partial, List::Partial, lengths[0])?;
        self.check_list(self.whole, List::Whole, lengths[1])
    }

    fn check_list(&self, head: Link, list: List, length: usize) -> Result<(), Mistake> {
        let (mut at, mut before, mut count) = (head, super::END, 0);
        while let Some(record) = first(at) {
            let known = self.blocks[..self.records()].get(record);
            let belongs = |block: &&Block| block.list() == Some(list) && block.previous == before;
            // More than there are: a ring.
            let Some(block) = known.filter(belongs).filter(|_| count < length) else {
                return Err(Mistake {
                    what: "a list is of its blocks, linked both ways",
                    at: PhysicalAddress(record as u64),
                });
            };
            count += 1;
            before = at;
            at = block.next;
        }
        ensure(count == length, "every block with free frames is in its list", PhysicalAddress(0))
    }

    fn record_if_ours(&self, frame: PhysicalAddress) -> Option<(usize, usize)> {
        let record = self.extents.record_of(frame)?;
        let bit = (frame.0 % FRAME_2M / FRAME_4K) as usize;
        is_set(&self.blocks[record].ours, bit).then_some((record, bit))
    }
}

/// Who has which frame: filled by claims, one for each frame of ours.
pub struct Ledger<'a, 'f> {
    frames: &'a Frames<'f>,
    owned: &'a mut [[u64; 8]],
}

impl<'a, 'f> Ledger<'a, 'f> {
    /// A ledger with the free frames entered, in space for as many [`records`](Frames::records).
    pub fn open(frames: &'a Frames<'f>, owned: &'a mut [[u64; 8]]) -> Result<Ledger<'a, 'f>, Mistake> {
        frames.check()?;
        for (owned, block) in owned.iter_mut().zip(frames.blocks.iter()) {
            *owned = block.free;
        }
        Ok(Ledger { frames, owned })
    }

    /// Somebody has `bytes` from `start`: nobody else may have any of it.
    pub fn claim(&mut self, start: PhysicalAddress, bytes: u64) -> Result<(), Mistake> {
        for at in (start.0..start.0 + bytes).step_by(FRAME_4K as usize).map(PhysicalAddress) {
            let Some((record, bit)) = self.frames.record_if_ours(at) else {
                return Err(Mistake { what: "only frames of ours are used", at });
            };
            ensure(!is_set(&self.owned[record], bit), "a frame has one owner, or is free", at)?;
            set(&mut self.owned[record], bit, true);
        }
        Ok(())
    }

    /// None of `bytes` from `start` is ours: the image, devices.
    pub fn leave(&self, start: PhysicalAddress, bytes: u64) -> Result<(), Mistake> {
        let mut all = (start.0..start.0 + bytes).step_by(FRAME_4K as usize).map(PhysicalAddress);
        match all.find(|at| self.frames.record_if_ours(*at).is_some()) {
            Some(at) => Err(Mistake { what: "frames of ours are neither image nor device", at }),
            None => Ok(()),
        }
    }

    /// After all claims: no frame of ours is left without an owner. Returns how many there are.
    pub fn close(self) -> Result<usize, Mistake> {
        let mut count = 0;
        for (record, (block, owned)) in self.frames.blocks.iter().zip(self.owned.iter()).enumerate() {
            let lost: [u64; 8] = core::array::from_fn(|word| block.ours[word] & !owned[word]);
            if let Some(bit) = lowest(&lost) {
                let at = PhysicalAddress(self.frames.extents.block_of(record).0 + bit as u64 * FRAME_4K);
                return Err(Mistake { what: "every frame has an owner, or is free", at });
            }
            count += block.ours.iter().map(|word| word.count_ones() as usize).sum::<usize>();
        }
        Ok(count)
    }
}

const _: () = assert!(FRAMES_PER_BLOCK == 8 * 64);

#[cfg(test)]
mod tests;
