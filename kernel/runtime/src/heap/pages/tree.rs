//! Tree: five levels of summaries, eight to one, over the chunks' bitmaps. Go: mpagealloc.go.
//!
//! ```text
//! level  one summary covers      of 1 TiB   bytes per GiB
//!   0    16 GiB, 2²¹ pages             64   0.5
//!   1    2 GiB                        512   4
//!   2    256 MiB                     4096   32
//!   3    32 MiB                     32768   256
//!   4    4 MiB, a chunk            262144   2048
//! ```
//!
//! A level is one array in addresses of its own, a parent's children side by side: no pointers. Frames stand behind it as far as the heap
//! has grown, 4 KiB at a time. What is not there, in gaps too, has no free pages.

use super::summary::{CHILDREN, Summary};
use super::{CHUNK_PAGES, Table};
use crate::addr::Bytes;
use crate::platform::{OutOfFrames, Platform};

pub(super) const LEVELS: usize = 5;
const LEAVES: usize = LEVELS - 1;

pub(super) struct Tree {
    levels: [Table<Summary, 4096>; LEVELS],
}

/// Where a run of free pages is.
pub(super) enum Place {
    /// It begins with this page.
    Page(usize),
    /// In this chunk.
    Chunk(usize),
}

/// The pages that one summary of the level covers.
const fn span(level: usize) -> usize {
    CHUNK_PAGES << (CHILDREN.ilog2() as usize * (LEAVES - level))
}

/// The summaries of a level over so many chunks: whole families.
const fn count(level: usize, chunks: usize) -> usize {
    (chunks * CHUNK_PAGES).div_ceil(span(level)).next_multiple_of(CHILDREN)
}

/// The highest summary that begins with this one.
fn climb(mut level: usize, mut at: usize) -> (usize, usize) {
    while level > 0 && at.is_multiple_of(CHILDREN) {
        (level, at) = (level - 1, at / CHILDREN);
    }
    (level, at)
}

impl Tree {
    pub(super) const fn new() -> Tree {
        Tree { levels: [const { Table::new() }; LEVELS] }
    }

    pub(super) fn reserve(&mut self, platform: &dyn Platform, chunks: usize) -> bool {
        self.levels.iter_mut().enumerate().all(|(level, table)| table.reserve(platform, count(level, chunks)))
    }

    pub(super) fn committed(&self) -> Bytes {
        Bytes(self.levels.iter().map(|table| table.committed().0).sum())
    }

    /// Sees to it that there can be so many chunks.
    pub(super) fn make_room(&mut self, platform: &dyn Platform, chunks: usize) -> Result<(), OutOfFrames> {
        self.levels.iter_mut().enumerate().try_for_each(|(level, table)| {
            table.make_room(platform, count(level, chunks).saturating_sub(table.entries().len()))
        })
    }

    /// Grows to so many chunks, for which there is room; the new ones have no free pages yet.
    pub(super) fn grow(&mut self, chunks: usize) {
        for (level, table) in self.levels.iter_mut().enumerate() {
            while table.entries().len() < count(level, chunks) {
                table.push(Summary::NONE);
            }
        }
    }

    /// Takes over what has changed in the chunks from `first` to `last`. For one chunk: its summary, and some 80
    /// instructions a level, as far up as anything changes.
    pub(super) fn update(&mut self, first: usize, last: usize, of_chunk: impl Fn(usize) -> Summary) {
        let leaves = self.levels[LEAVES].entries_mut();
        (first..=last).for_each(|chunk| leaves[chunk] = of_chunk(chunk));
        let (mut first, mut last) = (first, last);
        for level in (0..LEAVES).rev() {
            (first, last) = (first / CHILDREN, last / CHILDREN);
            let [parents, children] = &mut self.levels[level..level + 2] else { unreachable!() };
            let (parents, families) = (parents.entries_mut(), children.entries().as_chunks::<CHILDREN>().0);
            let mut changed = false;
            for at in first..=last {
                let before = core::mem::replace(&mut parents[at], Summary::of(&families[at], span(level + 1)));
                changed |= before != parents[at];
            }
            if !changed {
                return;
            }
        }
    }

    /// The lowest run of `pages` free pages that begins in `chunk` or later, or with the `run` pages before it, which are free. Climbs from
    /// leaf to root and down again, at most seven siblings a level, some 20 instructions each.
    pub(super) fn find(&self, chunk: usize, mut run: usize, pages: usize) -> Option<Place> {
        let (mut level, mut at) = climb(LEAVES, chunk);
        loop {
            let (summaries, span) = (self.levels[level].entries(), span(level));
            (level, at) = loop {
                let summary = *summaries.get(at)?;
                if run + summary.start() >= pages {
                    return Some(Place::Page(at * span - run));
                }
                if summary.longest() >= pages {
                    if level == LEAVES {
                        return Some(Place::Chunk(at));
                    }
                    break (level + 1, at * CHILDREN);
                }
                run = if summary.start() == span { run + span } else { summary.end() };
                at += 1;
                if at.is_multiple_of(CHILDREN) {
                    break climb(level, at);
                }
            };
        }
    }

    /// Whether every summary says what is below it, over so many chunks.
    pub(super) fn check(&self, chunks: usize, of_chunk: impl Fn(usize) -> Summary) -> bool {
        let lengths = self
            .levels
            .iter()
            .enumerate()
            .all(|(level, table)| table.check() && table.entries().len() == count(level, chunks));
        lengths
            && self.levels[LEAVES].entries().iter().enumerate().all(|(chunk, leaf)| *leaf == of_chunk(chunk))
            && (0..LEAVES).all(|level| {
                let (families, _) = self.levels[level + 1].entries().as_chunks::<CHILDREN>();
                let expected = families.iter().map(|family| Summary::of(family, span(level + 1)));
                let parents = self.levels[level].entries();
                parents.iter().take(families.len()).copied().eq(expected)
                    && parents.iter().skip(families.len()).all(|parent| *parent == Summary::NONE)
            })
    }
}

#[cfg(test)]
impl Tree {
    /// For corruption.rs: the first summary of each level, and how many leaves there are.
    pub(super) fn places(&self) -> ([*const u64; LEVELS], *const usize) {
        (self.levels.each_ref().map(|table| table.entries().as_ptr().cast()), self.levels[LEAVES].length_place())
    }
}
