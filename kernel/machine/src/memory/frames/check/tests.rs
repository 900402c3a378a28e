//! The ledger finds every way in which a record or an owner can be wrong.

use super::*;
use crate::memory::frames::tests::frames_over;
use crate::memory::frames::{Frame2M, Frame4K};
use crate::memory::random::{Random, seeds};
use std::{vec, vec::Vec};

struct Lab {
    frames: Frames<'static>,
    small: Vec<Frame4K>,
    large: Vec<Frame2M>,
}

impl Lab {
    /// Some frames free, some in use, of a ragged memory.
    fn new(random: &mut Random) -> Lab {
        let mut frames = frames_over(&[(300, 5000), (5010, 9000)]);
        let large = (0..3).map(|_| frames.alloc_2m().expect("memory")).collect();
        let mut small: Vec<_> = (0..1500).map(|_| frames.alloc_4k().expect("memory")).collect();
        for _ in 0..700 {
            frames.free_4k(small.swap_remove(random.below(small.len() as u64) as usize));
        }
        Lab { frames, small, large }
    }

    fn audit(&self) -> Result<usize, Mistake> {
        let mut owned = vec![[0; 8]; self.frames.records()];
        let mut ledger = Ledger::open(&self.frames, &mut owned)?;
        self.small.iter().try_for_each(|frame| ledger.claim(frame.address(), FRAME_4K))?;
        self.large.iter().try_for_each(|frame| ledger.claim(frame.address(), FRAME_2M))?;
        ledger.close()
    }

    fn block(&mut self, random: &mut Random, wanted: fn(&Block) -> bool) -> &mut Block {
        let mut all: Vec<_> = self.frames.blocks.iter_mut().filter(|block| wanted(block)).collect();
        let chosen = random.below(all.len() as u64) as usize;
        all.swap_remove(chosen)
    }
}

fn is_partial(block: &Block) -> bool {
    block.list() == Some(List::Partial)
}

fn is_any(_: &Block) -> bool {
    true
}

fn is_listed(block: &Block) -> bool {
    block.list().is_some()
}

fn flip(bits: &mut [u64; 8], bit: Option<usize>) {
    let bit = bit.expect("there is such a frame");
    bits[bit / 64] ^= 1 << (bit % 64);
}

type Corrupt = fn(&mut Lab, &mut Random);

const CORRUPTIONS: [(&str, Corrupt); 20] = [
    ("a frame more counted free in a block", |lab, random| lab.block(random, is_any).free_frames += 1),
    ("a frame less counted free in a block", |lab, random| lab.block(random, is_partial).free_frames -= 1),
    ("a frame more counted free", |lab, _| lab.frames.free_frames += 1),
    ("a frame less counted free", |lab, _| lab.frames.free_frames -= 1),
    ("a free frame marked as in use", |lab, random| {
        let block = lab.block(random, is_partial);
        let bit = lowest(&block.free);
        flip(&mut block.free, bit);
    }),
    ("a free frame forgotten, counted", |lab, random| {
        let block = lab.block(random, |block| is_partial(block) && block.free_frames > 1);
        let bit = lowest(&block.free);
        flip(&mut block.free, bit);
        block.free_frames -= 1;
        lab.frames.free_frames -= 1;
    }),
    ("a frame in use marked as free", |lab, random| {
        let block = lab.block(random, is_partial);
        let used = core::array::from_fn(|word| block.ours[word] & !block.free[word]);
        flip(&mut block.free, lowest(&used));
    }),
    ("a frame in use given out again, counted", |lab, random| {
        let block = lab.block(random, |block| is_partial(block) && block.free_frames < 200);
        let used = core::array::from_fn(|word| block.ours[word] & !block.free[word]);
        flip(&mut block.free, lowest(&used));
        block.free_frames += 1;
        lab.frames.free_frames += 1;
    }),
    ("a free frame no longer ours", |lab, random| {
        let block = lab.block(random, is_listed);
        let bit = lowest(&block.free);
        flip(&mut block.ours, bit);
    }),
    ("a frame in use no longer ours", |lab, random| {
        let block = lab.block(random, is_partial);
        let used = core::array::from_fn(|word| block.ours[word] & !block.free[word]);
        flip(&mut block.ours, lowest(&used));
    }),
    ("a hole declared ours", |lab, _| {
        let block = &mut lab.frames.blocks[5000 / 512];
        let hole = core::array::from_fn(|word| !block.ours[word]);
        flip(&mut block.ours, lowest(&hole));
    }),
    ("a list that begins nowhere", |lab, _| lab.frames.partial = super::super::END),
    ("a list that begins beyond all records", |lab, _| lab.frames.whole = 1 << 20),
    ("the two lists swapped", |lab, _| core::mem::swap(&mut lab.frames.partial, &mut lab.frames.whole)),
    ("a link back to nowhere", |lab, random| {
        lab.block(random, |block| is_listed(block) && block.previous != 0).previous = 0
    }),
    ("a link to itself", |lab, _| {
        let head = lab.frames.whole;
        lab.frames.blocks[head as usize - 1].next = head;
    }),
    ("a list cut off", |lab, random| lab.block(random, |block| is_listed(block) && block.next != 0).next = 0),
    ("a frame with two owners", |lab, random| {
        let twice = lab.small[random.below(lab.small.len() as u64) as usize];
        lab.small.push(twice);
    }),
    ("a frame without owner", |lab, random| _ = lab.small.swap_remove(random.below(lab.small.len() as u64) as usize)),
    ("a small frame inside a large one", |lab, random| {
        let inside = lab.large[0].address().0 + random.below(512) * FRAME_4K;
        lab.small.push(Frame4K::at(PhysicalAddress(inside)));
    }),
];

#[test]
fn twenty_kinds_of_corruption_of_the_frames_are_found() {
    for seed in seeds(10) {
        for (name, corrupt) in CORRUPTIONS {
            let mut random = Random(seed);
            let mut lab = Lab::new(&mut random);
            assert_eq!(lab.audit(), Ok(4700 + 3990), "seed {seed}");
            corrupt(&mut lab, &mut random);
            assert!(lab.audit().is_err(), "seed {seed}: {name}");
        }
    }
}

#[test]
fn what_is_not_ours_has_no_owner_here() {
    let mut random = Random(1);
    let lab = Lab::new(&mut random);
    let mut owned = vec![[0; 8]; lab.frames.records()];
    let mut ledger = Ledger::open(&lab.frames, &mut owned).expect("sound");
    assert_eq!(ledger.leave(PhysicalAddress(5002 * FRAME_4K), FRAME_4K), Ok(()));
    assert!(ledger.leave(PhysicalAddress(5002 * FRAME_4K), 10 * FRAME_4K).is_err());
    assert!(ledger.claim(PhysicalAddress(5002 * FRAME_4K), FRAME_4K).is_err());
    assert!(ledger.claim(PhysicalAddress(1 << 40), FRAME_4K).is_err());
}
