//! Finder: finds the free pages of one [`Mapping`]: a tree over all chunks, to which the other's look as if they were in use.

use super::bits::{Chunk, PageBits};
use super::summary::Summary;
use super::tree::{Place, Tree};
use super::{CHUNK_PAGES, Mapping};

/// Changed chunks so near each other have their summaries made together, with those in between.
const NEAR: usize = 16;

pub(super) struct Finder {
    mapping: Mapping,
    pub(super) tree: Tree,
    /// No page below is free. Go: `searchAddr`.
    pub(super) hint: usize,
    /// Chunks that have changed since their summaries were made, first and last. None while the tree is asked.
    stale: Option<(usize, usize)>,
}

impl Finder {
    pub(super) const fn new(mapping: Mapping) -> Finder {
        Finder { mapping, tree: Tree::new(), hint: 0, stale: None }
    }

    /// The first of the lowest run at or after `from`.
    pub(super) fn find(&mut self, chunks: &[Chunk], from: usize, pages: usize) -> Option<usize> {
        let (chunk, within) = (from / CHUNK_PAGES, from % CHUNK_PAGES);
        let bits = self.bits(chunks.get(chunk)?);
        if let Some(page) = bits.find(within, pages) {
            return Some(chunk * CHUNK_PAGES + page);
        }
        let run = bits.trailing_free().min(CHUNK_PAGES - within);
        self.summarize(chunks);
        match self.tree.find(chunk + 1, run, pages)? {
            Place::Page(first) => Some(first),
            Place::Chunk(chunk) => {
                let page = chunks[chunk].used.find(0, pages).expect("a chunk has what its summary says");
                Some(chunk * CHUNK_PAGES + page)
            }
        }
    }

    /// The summaries of these chunks are to be made again.
    pub(super) fn note_change(&mut self, chunks: &[Chunk], mut first: usize, mut last: usize) {
        if let Some((lowest, highest)) = self.stale {
            if lowest <= first && last <= highest {
                return;
            }
            if first.abs_diff(lowest) < NEAR && last.abs_diff(highest) < NEAR {
                (first, last) = (first.min(lowest), last.max(highest));
            } else {
                self.summarize(chunks);
            }
        }
        self.stale = Some((first, last));
    }

    /// Brings the summaries up to date.
    pub(super) fn summarize(&mut self, chunks: &[Chunk]) {
        if let Some((first, last)) = self.stale.take() {
            let Finder { mapping, tree, .. } = self;
            tree.update(first, last, |chunk| chunks[chunk].bits(*mapping).summary());
        }
    }

    pub(super) fn check_tables(&self, chunks: &[Chunk]) -> bool {
        let summary = |chunk: usize| chunks.get(chunk).map_or(Summary::NONE, |chunk| self.bits(chunk).summary());
        self.stale.is_none() && self.tree.check(chunks.len(), summary)
    }

    pub(super) fn check_hint(&self, chunks: &[Chunk]) -> bool {
        let page = |(number, chunk)| self.bits(chunk).find(0, 1).map(|page| number * CHUNK_PAGES + page);
        chunks.iter().enumerate().find_map(page).is_none_or(|lowest| self.hint <= lowest)
    }

    fn bits<'c>(&self, chunk: &'c Chunk) -> &'c PageBits {
        chunk.bits(self.mapping)
    }
}
