//! Blocks of every size class and kind, also large ones: what their owners give back, what is freed by hand, what grows
//! and shrinks, and what only the collector finds dead. What is in a block is computed from its seed, and looked at
//! whenever the block is touched.
//!
//! Unsafe here: freeing by hand; the bug that is planted on demand.

use super::Difference;
use crate::random::Random;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use runtime::prelude::*;

const BLOCKS: u64 = 96;

/// How many bytes: mostly a size class's, now and then some pages, seldom many.
const LARGE: u64 = 256 << 10;
const LARGEST: u64 = 4 << 20;

pub(super) struct Store(Vec<Option<Block>>);

struct Block {
    seed: u64,
    memory: Box<dyn Memory>,
}

trait Memory: Send {
    fn is_intact(&self, seed: u64) -> bool;

    /// Grows or shrinks to about so many bytes, if it can.
    fn resize(&mut self, _seed: u64, _bytes: usize) {}

    /// Leaves it to the collector; dropped it is given back.
    fn forget(self: Box<Self>);

    /// Gives it back, if dropping does not.
    fn free(self: Box<Self>) {}
}

/// What a block is made of: all of it follows from the block's seed and the place.
trait Element: Sized + Send {
    fn new(seed: u64, index: usize) -> Self;
    fn is(&self, seed: u64, index: usize) -> bool;
}

fn word(seed: u64, index: usize) -> u64 {
    seed.rotate_left(index as u32).wrapping_add(index as u64)
}

impl Element for u8 {
    fn new(seed: u64, index: usize) -> u8 {
        word(seed, index) as u8
    }

    fn is(&self, seed: u64, index: usize) -> bool {
        *self == u8::new(seed, index)
    }
}

impl Element for u64 {
    fn new(seed: u64, index: usize) -> u64 {
        word(seed, index)
    }

    fn is(&self, seed: u64, index: usize) -> bool {
        *self == word(seed, index)
    }
}

/// References among words that are none. Nothing else knows what they lead to.
impl Element for Option<Gc<[u64; 2]>> {
    fn new(seed: u64, index: usize) -> Self {
        word(seed, index).is_multiple_of(16).then(|| Gc::new([word(seed, index); 2]))
    }

    fn is(&self, seed: u64, index: usize) -> bool {
        match self {
            Some(object) => **object == [word(seed, index); 2],
            None => !word(seed, index).is_multiple_of(16),
        }
    }
}

/// An element that an array can be read by, and one reference of it alone.
impl Element for (u64, Option<Gc<[u64; 2]>>) {
    fn new(seed: u64, index: usize) -> Self {
        (word(seed, index), Element::new(seed, index))
    }

    fn is(&self, seed: u64, index: usize) -> bool {
        self.0 == word(seed, index) && self.1.is(seed, index)
    }
}

macro_rules! aligned {
    ($($name:ident $align:literal)*) => {$(
        #[repr(align($align))]
        struct $name([u64; $align / 8]);

        impl Element for $name {
            fn new(seed: u64, index: usize) -> $name {
                $name([word(seed, index); $align / 8])
            }

            fn is(&self, seed: u64, index: usize) -> bool {
                (&raw const *self).addr().is_multiple_of($align) && self.0.iter().all(|found| *found == word(seed, index))
            }
        }
    )*};
}

aligned!(Line 64 Sheet 4096 Panel 65536);

/// Its owner's: noscan or ambiguous by the element's alignment.
struct Owned<T>(Vec<T>);

impl<T: Element> Owned<T> {
    fn length(bytes: usize) -> usize {
        bytes.div_ceil(size_of::<T>())
    }

    fn block(seed: u64, bytes: usize) -> Box<dyn Memory>
    where
        T: 'static,
    {
        let length = Owned::<T>::length(bytes);
        let mut elements = Vec::with_capacity(length);
        elements.extend((0..length).map(|index| T::new(seed, index)));
        Box::new(Owned(elements))
    }
}

impl<T: Element> Memory for Owned<T> {
    fn is_intact(&self, seed: u64) -> bool {
        self.0.iter().enumerate().all(|(index, element)| element.is(seed, index))
    }

    fn resize(&mut self, seed: u64, bytes: usize) {
        let (old, new) = (self.0.len(), Owned::<T>::length(bytes));
        self.0.truncate(new);
        self.0.extend((old..new).map(|index| T::new(seed, index)));
        self.0.shrink_to_fit();
    }

    fn forget(self: Box<Self>) {
        core::mem::forget(self);
    }
}

/// Read by the element, and growing by Go's rule: noscan, or precise of any size.
struct Typed<T: Trace>(GcVec<T>);

impl<T: Element + Trace> Typed<T> {
    fn block(seed: u64, bytes: usize) -> Box<dyn Memory>
    where
        T: 'static,
    {
        Box::new(Typed::<T>::of(seed, Owned::<T>::length(bytes)))
    }

    fn of(seed: u64, length: usize) -> Typed<T> {
        Typed((0..length).map(|index| T::new(seed, index)).collect())
    }
}

impl<T: Element + Trace> Memory for Typed<T> {
    fn is_intact(&self, seed: u64) -> bool {
        self.0.iter().enumerate().all(|(index, element)| element.is(seed, index))
    }

    fn resize(&mut self, seed: u64, bytes: usize) {
        let (old, new) = (self.0.len(), Owned::<T>::length(bytes));
        match new < old / 2 {
            true => *self = Typed::of(seed, new),
            false => {
                self.0.truncate(new);
                self.0.extend((old..new).map(|index| T::new(seed, index)));
            }
        }
    }

    fn forget(self: Box<Self>) {
        core::mem::forget(self);
    }
}

/// A table of them by number, noscan or ambiguous.
struct Mapped<T: Trace>(GcMap<u64, T>);

impl<T: Element + Trace> Mapped<T> {
    fn block(seed: u64, bytes: usize) -> Box<dyn Memory>
    where
        T: 'static,
    {
        let mut empty = Box::new(Mapped::<T>(GcMap::new()));
        empty.resize(seed, bytes);
        empty
    }
}

impl<T: Element + Trace> Memory for Mapped<T> {
    fn is_intact(&self, seed: u64) -> bool {
        (0..self.0.len()).all(|index| self.0.get(&(index as u64)).is_some_and(|element| element.is(seed, index)))
    }

    fn resize(&mut self, seed: u64, bytes: usize) {
        let (old, new) = (self.0.len(), Owned::<T>::length(bytes / 2));
        (new..old).for_each(|index| drop(self.0.remove(&(index as u64))));
        self.0.extend((old..new).map(|index| (index as u64, T::new(seed, index))));
        self.0.shrink_to_fit();
    }

    fn forget(self: Box<Self>) {
        core::mem::forget(self);
    }
}

/// Of this size, in the collector's hands alone, unless it is freed by hand: without a reference, ...
impl<const N: usize> Memory for Gc<[u8; N]> {
    fn is_intact(&self, seed: u64) -> bool {
        self.iter().all(|byte| *byte == seed as u8)
    }

    fn forget(self: Box<Self>) {}

    fn free(self: Box<Self>) {
        // SAFETY: nobody else has it.
        unsafe { Gc::free(*self) };
    }
}

/// ... with one among words that are none, precise, by a map or a pattern, ...
impl<const N: usize> Memory for Gc<(Gc<u64>, [u64; N])> {
    fn is_intact(&self, seed: u64) -> bool {
        *self.0 == seed && self.1.iter().all(|word| *word == seed)
    }

    fn forget(self: Box<Self>) {}

    fn free(self: Box<Self>) {
        // SAFETY: nobody else has it.
        unsafe { Gc::free(*self) };
    }
}

/// ... and ambiguous.
impl<const N: usize> Memory for Gc<(Box<u64>, [u64; N])> {
    fn is_intact(&self, seed: u64) -> bool {
        *self.0 == seed && self.1.iter().all(|word| *word == seed)
    }

    fn forget(self: Box<Self>) {}

    fn free(self: Box<Self>) {
        // SAFETY: nobody else has it.
        unsafe { Gc::free(*self) };
    }
}

/// What was freed too early.
struct Freed(&'static [u64]);

impl Memory for Freed {
    fn is_intact(&self, seed: u64) -> bool {
        self.0.iter().enumerate().all(|(index, element)| element.is(seed, index))
    }

    fn forget(self: Box<Self>) {}
}

type Make = fn(u64) -> Box<dyn Memory>;

/// How many words of its slot a precise object leaves to its header.
const fn has_header(bytes: usize) -> usize {
    if bytes > 512 { 1 } else { 0 }
}

macro_rules! collected {
    ($($bytes:literal)*) => {
        /// Those of the size classes; the last, of 32 KiB, serves requests up to a word less.
        const SIZES: [usize; 67] = [$($bytes),*];
        const NOSCAN: [Make; 67] = [$(|seed| Box::new(Gc::new([seed as u8; $bytes]))),*];
        const PRECISE: [Make; 67] = [$(|seed| Box::new(Gc::new((Gc::new(seed), [seed; $bytes / 8 - 1 - has_header($bytes)])))),*];
        const AMBIGUOUS: [Make; 67] = [$(|seed| Box::new(Gc::new((Box::new(seed), [seed; $bytes / 8 - 1])))),*];
    };
}

collected!(8 16 24 32 48 64 80 96 112 128 144 160 176 192 208 224 240 256 288 320 352 384 416 448 480 512 576 640 704 768 896
    1024 1152 1280 1408 1536 1792 2048 2304 2688 3072 3200 3456 4096 4864 5376 6144 6528 6784 6912 8192 9472 9728 10240 10880
    12288 13568 14336 16384 18432 19072 20480 21760 24576 27264 28672 32760);

/// Objects with a span of their own.
const LARGE_OBJECTS: [Make; 3] = [
    |seed| Box::new(Gc::new([seed as u8; 40_000])),
    |seed| Box::new(Gc::new((Gc::new(seed), [seed; 5000]))),
    |seed| Box::new(Gc::new((Box::new(seed), [seed; 5000]))),
];

impl Store {
    pub(super) fn new() -> Store {
        Store((0..BLOCKS).map(|_| None).collect())
    }

    /// Looks at a block, and makes, changes, gives back or forgets it.
    pub(super) fn operate(&mut self, random: &mut Random) -> Result<(), Difference> {
        let place = &mut self.0[random.below(BLOCKS) as usize];
        let Some(mut block) = place.take() else {
            *place = Some(Block::new(random)?);
            return Ok(());
        };
        block.look()?;
        match random.below(8) {
            0 => *place = Some(block),
            1..4 => {
                block.memory.resize(block.seed, bytes(random));
                block.look()?;
                *place = Some(block);
            }
            4 => block.memory.forget(),
            5 | 6 => block.memory.free(),
            _ => drop(block),
        }
        Ok(())
    }

    /// Gives a block back and keeps it all the same.
    pub(super) fn plant(&mut self, random: &mut Random) {
        let seed = random.number();
        // Of a size that nodes' burdens have.
        let elements: Vec<u64> = (0..5).map(|index| word(seed, index)).collect();
        // SAFETY: none. That is the bug.
        let freed = unsafe { core::slice::from_raw_parts(elements.as_ptr(), elements.len()) };
        self.0[0] = Some(Block { seed, memory: Box::new(Freed(freed)) });
    }

    pub(super) fn compare(&self) -> Result<(), Difference> {
        self.0.iter().flatten().try_for_each(Block::look)
    }
}

impl Block {
    fn new(random: &mut Random) -> Result<Block, Difference> {
        let (seed, bytes) = (random.number(), bytes(random));
        let class = random.below(SIZES.len() as u64) as usize;
        let memory = match random.below(22) {
            0..2 => NOSCAN[class](seed),
            2..4 => PRECISE[class](seed),
            4..6 => AMBIGUOUS[class](seed),
            6..8 => Owned::<u8>::block(seed, bytes),
            8..10 => Owned::<u64>::block(seed, bytes),
            10..12 => Owned::<Option<Gc<[u64; 2]>>>::block(seed, bytes),
            12 => Owned::<Line>::block(seed, bytes),
            13 => Owned::<Sheet>::block(seed, bytes),
            14 if random.below(16) == 0 => Owned::<Panel>::block(seed, bytes),
            15 if random.below(16) == 0 => LARGE_OBJECTS[class % LARGE_OBJECTS.len()](seed),
            16 => Typed::<u64>::block(seed, bytes),
            17 => Typed::<Option<Gc<[u64; 2]>>>::block(seed, bytes),
            18 => Typed::<(u64, Option<Gc<[u64; 2]>>)>::block(seed, bytes),
            19 => Mapped::<u64>::block(seed, bytes),
            20 => Mapped::<Option<Gc<[u64; 2]>>>::block(seed, bytes),
            _ => zeroed(seed, bytes)?,
        };
        Ok(Block { seed, memory })
    }

    fn look(&self) -> Result<(), Difference> {
        self.memory.is_intact(self.seed).then_some(()).ok_or("a block has changed")
    }
}

/// Memory that was asked for as zero, and is.
fn zeroed(seed: u64, bytes: usize) -> Result<Box<dyn Memory>, Difference> {
    if seed.is_multiple_of(2) {
        let elements = vec![0u8; bytes];
        let is_zero = elements.iter().all(|byte| *byte == 0);
        drop(elements);
        return if is_zero { Ok(Owned::<u8>::block(seed, bytes)) } else { Err("zeroed bytes are not") };
    }
    let mut elements = vec![0u64; Owned::<u64>::length(bytes)];
    if elements.iter().any(|word| *word != 0) {
        return Err("zeroed words are not");
    }
    elements.iter_mut().enumerate().for_each(|(index, element)| *element = word(seed, index));
    Ok(Box::new(Owned(elements)))
}

fn bytes(random: &mut Random) -> usize {
    let limit = match random.below(1024) {
        0 => LARGEST,
        1..32 => LARGE,
        _ => SIZES[random.below(SIZES.len() as u64) as usize] as u64,
    };
    // As many of the class's own sizes as of those below.
    let least = if random.below(2) == 0 { 1 } else { limit - limit / 8 };
    (least + random.below(limit - least + 1)) as usize
}
