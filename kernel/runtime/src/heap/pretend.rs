//! Pretend: a platform for host tests. Its memory is the test process's own, and dirty unless zeroes are asked for;
//! commits are checked and can be made to fail.
//!
//! Unsafe here: taking blocks from std's allocator and filling them.
#![allow(unsafe_code)]

use super::pages::Mapping;
use crate::addr::{Address, Bytes, MIB, Range};
use crate::platform::{Exception, OutOfFrames, Platform, Stream};
use std::alloc::Layout;
use std::sync::Mutex;

/// No larger block can be reserved: two arenas and a bit of records.
const ROOM: usize = 128 * MIB;

/// More than can be reserved.
const MEMORY: usize = 1024 * MIB;

#[derive(Default)]
pub(crate) struct Pretend {
    state: Mutex<State>,
    zeroes: bool,
}

#[derive(Default)]
struct State {
    reserved: Vec<Range>,
    committed: Vec<(Range, Mapping)>,
    commits: usize,
    /// The commit with this number fails, and those after it.
    fails: Option<usize>,
    /// So many more reservations find room; none counts.
    rooms: Option<usize>,
    /// What may be committed, if not all of [`MEMORY`].
    memory: Option<usize>,
}

impl Pretend {
    pub(crate) fn new() -> &'static Pretend {
        Box::leak(Box::default())
    }

    /// One that commits zeroes.
    pub(crate) fn with_zeroes() -> &'static Pretend {
        Box::leak(Box::new(Pretend { zeroes: true, ..Pretend::default() }))
    }

    /// Lets `next` further commits succeed, and none after them.
    pub(crate) fn fail_after(&self, next: usize) {
        let mut state = self.state();
        state.fails = Some(state.commits + next);
    }

    /// There is memory again.
    pub(crate) fn fail_no_more(&self) {
        self.state().fails = None;
    }

    /// Leaves so much memory beside what is committed.
    pub(crate) fn leave(&self, bytes: usize) {
        let committed = self.committed();
        self.state().memory = Some(committed + bytes);
    }

    /// Lets no reservation succeed after so many more.
    pub(crate) fn allow_reservations(&self, rooms: usize) {
        self.state().rooms = Some(rooms);
    }

    /// Whether a failure that was asked for is still to come.
    pub(crate) fn is_going_to_fail(&self) -> bool {
        let state = self.state();
        state.fails.is_some_and(|number| number >= state.commits)
    }

    pub(crate) fn committed(&self) -> usize {
        self.state().committed.iter().map(|(range, _)| range.bytes().0).sum()
    }

    pub(crate) fn committed_in(&self, range: Range) -> usize {
        self.parts_in(range).map(|(part, _)| part.bytes().0).sum()
    }

    /// How an address that is committed is mapped.
    pub(crate) fn mapping(&self, address: usize) -> Option<Mapping> {
        let state = self.state();
        state.committed.iter().find(|(part, _)| part.contains(Address(address))).map(|(_, mapping)| *mapping)
    }

    /// What was committed in one piece of the range, and still is.
    fn parts_in(&self, range: Range) -> impl Iterator<Item = (Range, Mapping)> {
        self.state().committed.clone().into_iter().filter(move |(part, _)| range.contains(part.start))
    }

    fn back(&self, range: Range, mapping: Mapping) -> Result<(), OutOfFrames> {
        let mut state = self.state();
        assert!(range.start.is_aligned(4096) && range.end.is_aligned(4096) && range.start < range.end);
        assert!(
            state.reserved.iter().any(|r| r.start <= range.start && range.end <= r.end),
            "{range:?} is not reserved"
        );
        assert!(
            state.committed.iter().all(|(r, _)| r.end <= range.start || range.end <= r.start),
            "{range:?} is committed in part already"
        );
        state.commits += 1;
        let committed: usize = state.committed.iter().map(|(range, _)| range.bytes().0).sum();
        let has_room = committed + range.bytes().0 <= state.memory.unwrap_or(MEMORY);
        if !has_room || state.fails.is_some_and(|first| first < state.commits) {
            return Err(OutOfFrames { left: Bytes(range.bytes().0 / 2) });
        }
        state.committed.push((range, mapping));
        if self.zeroes {
            // SAFETY: inside a block of ours (asserted above), and nobody uses it before it is committed.
            unsafe { core::ptr::with_exposed_provenance_mut::<u8>(range.start.0).write_bytes(0, range.bytes().0) };
            return Ok(());
        }
        // Each frame is dirty at both its ends; filling all of it would make the tests slow.
        for frame in (range.start.0..range.end.0).step_by(4096) {
            let frame = core::ptr::with_exposed_provenance_mut::<u8>(frame);
            // SAFETY: inside a block of ours (asserted above), and nobody uses it before it is committed.
            unsafe { frame.write_bytes(0xa5, 512) };
            // SAFETY: as above.
            unsafe { frame.add(4096 - 512).write_bytes(0x5a, 512) };
        }
        Ok(())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no test panics inside")
    }
}

// SAFETY: the ranges lie in memory of the test's own.
unsafe impl Platform for Pretend {
    fn reserve(&self, bytes: Bytes, align: usize) -> Option<Range> {
        if bytes.0 > ROOM {
            return None;
        }
        if let Some(rooms) = &mut self.state().rooms {
            *rooms = rooms.checked_sub(1)?;
        }
        let layout =
            Layout::from_size_align(bytes.0, align).expect("the size is not zero and the alignment a power of two");
        // SAFETY: the layout is not empty.
        let block = unsafe { std::alloc::alloc(layout) };
        let range = Range::new(Address(block.expose_provenance()), bytes);
        self.state().reserved.push(range);
        Some(range)
    }

    fn commit(&self, range: Range) -> Result<(), OutOfFrames> {
        self.back(range, Mapping::Huge)
    }

    /// As a machine, which leaves its frames as they are, not as a process, which has zeroes of its own.
    fn has_small_pages(&self) -> bool {
        !self.zeroes
    }

    fn commit_small(&self, range: Range) -> Result<(), OutOfFrames> {
        self.back(range, Mapping::Small)
    }

    fn commits_zeroes(&self) -> bool {
        self.zeroes
    }

    fn decommit(&self, range: Range) -> bool {
        let mut state = self.state();
        // What is committed of a range before and after this one stays so.
        let parts = |&(old, mapping): &(Range, Mapping)| {
            let before = Range { start: old.start, end: old.end.min(range.start) };
            let after = Range { start: old.start.max(range.end), end: old.end };
            [(before, mapping), (after, mapping)]
        };
        state.committed = state.committed.iter().flat_map(parts).filter(|(part, _)| part.start < part.end).collect();
        // SAFETY: inside a block of ours, and nobody uses it any more.
        unsafe { core::ptr::with_exposed_provenance_mut::<u8>(range.start.0).write_bytes(0xde, range.bytes().0) };
        true
    }

    fn grow_in_fault(&self, _: Range) -> Result<(), OutOfFrames> {
        unreachable!()
    }

    fn on_huge_pages(&self, range: Range) -> Option<Bytes> {
        let whole = |part: Range| part.end.align_down(2 * MIB).0.saturating_sub(part.start.align_up(2 * MIB).0);
        let parts = self.parts_in(range).filter(|(_, mapping)| *mapping == Mapping::Huge);
        Some(Bytes(parts.map(|(part, _)| whole(part)).sum()))
    }

    fn free_memory(&self) -> Bytes {
        let memory = self.state().memory;
        Bytes(memory.unwrap_or(MEMORY) - self.committed())
    }

    fn static_roots(&self) -> &[Range] {
        &[]
    }

    fn set_cpu_header(&self, _: usize) {}

    fn cpu_count(&self) -> usize {
        1
    }

    fn interrupt_others(&self) {}

    fn halt(&self) {
        unreachable!()
    }

    fn set_interrupts(&self, _: bool) -> bool {
        unreachable!()
    }

    fn now(&self) -> u64 {
        0
    }

    fn random(&self) -> u64 {
        0
    }

    fn set_timer(&self, _: u64) {}

    fn write(&self, _: Stream, _: &[u8]) {}

    fn catch(&self, _: &mut dyn FnMut()) -> bool {
        unreachable!()
    }

    fn raise(&self, _: &Exception) {
        unreachable!()
    }

    fn exit(&self, status: u8) -> ! {
        panic!("exit {status}")
    }
}

/// Random numbers for a test, from a new seed each time, which a failing test shows.
pub(crate) struct Random(u64);

impl Random {
    /// The seed is the clock's, or `SEED` of the environment.
    pub(crate) fn new() -> Random {
        let clock = || std::time::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_nanos() as u64 | 1);
        let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(clock);
        println!("SEED={seed}");
        Random(seed)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        // Xorshift (Marsaglia 2003), the low bits being the weak ones.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound
    }

    pub(crate) fn word(&mut self) -> u64 {
        (self.below(1 << 32) << 32 | self.below(1 << 32)) as u64
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
