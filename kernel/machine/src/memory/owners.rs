//! Every frame of the machine has one owner: a walk over all page tables, the reserves and the free lists, for tests.
//!
//! | owner                       | by what it is known                                         |
//! |-----------------------------|-------------------------------------------------------------|
//! | nobody                      | its bit in its block's record                                |
//! | the page tables             | an entry that leads to a table; the root                     |
//! | a growth fault still to come| this CPU's reserve                                           |
//! | heap, stacks, tables, pools | the one leaf in a zone that hands out addresses              |
//!
//! The direct map shows all frames at their own place and owns none; the image's and the devices' are not ours.

use super::commit::{self, commit, with_frames};
use super::frames::{FRAME_4K, Ledger, Mistake, PhysicalAddress};
use super::paging::{self, Entry, Table, span};
use super::plan;
use core::sync::atomic::Ordering::Acquire;
use core::{fmt, slice};
use runtime::addr::{Address, Bytes, Range};
use spin::Once;

/// How many frames there are, all told.
#[derive(Clone, Copy, Debug)]
pub struct Owned {
    pub frames: usize,
    pub tables: usize,
}

/// What was found wrong. Displays as one line.
#[derive(Clone, Copy, Debug)]
pub enum Broken {
    NoMemory,
    /// Where it was seen, if that is at one address.
    Frame(Mistake, Option<Address>),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::NoMemory => write!(f, "no memory for the ledger of the frames"),
            Broken::Frame(mistake, None) => mistake.fmt(f),
            Broken::Frame(mistake, Some(at)) => write!(f, "{mistake}, mapped at {at}"),
        }
    }
}

impl From<Mistake> for Broken {
    fn from(mistake: Mistake) -> Broken {
        Broken::Frame(mistake, None)
    }
}

/// A bit per frame; taken by the first check, kept for the next ones.
#[unsafe(link_section = ".bss.runtime")]
static LEDGER: Once<Option<Range>> = Once::new();

/// Proves that every frame is free or has one owner, and that the allocator's accounts are right. Nothing may change meanwhile: call it
/// through [`runtime::inspect::standing_still`]. A store per frame, a load per table entry.
pub fn check_frames() -> Result<Owned, Broken> {
    let records = with_frames(|frames| frames.records());
    let memory = LEDGER.call_once(|| {
        let range = plan::TABLES.take(Bytes((records * 64).next_multiple_of(4096)), 4096)?;
        commit(range).ok().map(|()| range)
    });
    let memory = memory.ok_or(Broken::NoMemory)?;
    let mut reserved = commit::reserved();
    with_frames(|frames| {
        // SAFETY: committed, and used by this function alone, under the frames' lock.
        let owned = unsafe { slice::from_raw_parts_mut(memory.start.0 as *mut [u64; 8], records) };
        let mut ledger = Ledger::open(frames, owned)?;
        let root = paging::root();
        ledger.claim(root.address(), FRAME_4K)?;
        let tables = 1 + claim_below(paging::table_at(root), 4, 0, &mut ledger)?;
        reserved.try_for_each(|frame| ledger.claim(frame.address(), FRAME_4K))?;
        Ok(Owned { frames: ledger.close()?, tables })
    })
}

/// Claims the tables and leaves below one table, which maps from `base` on; returns how many tables.
fn claim_below(table: &Table, level: u32, base: usize, ledger: &mut Ledger) -> Result<usize, Broken> {
    let mut tables = 0;
    for (index, slot) in table.slots().iter().enumerate() {
        let entry = Entry(slot.load(Acquire));
        if !entry.is_present() {
            continue;
        }
        // Bits 48 to 63 repeat bit 47.
        let at = Address((((base + index * span(level)) << 16) as isize >> 16) as usize);
        let (frame, bytes) = (entry.address(level), span(level) as u64);
        if !entry.is_leaf(level) {
            let claimed = ledger.claim(entry.address(1), FRAME_4K);
            claimed.map_err(|mistake| Broken::Frame(mistake, Some(at)))?;
            tables += 1 + claim_below(entry.table(), level - 1, at.0, ledger)?;
        } else {
            claim_leaf(at, frame, bytes, ledger).map_err(|mistake| Broken::Frame(mistake, Some(at)))?;
        }
    }
    Ok(tables)
}

fn claim_leaf(at: Address, frame: PhysicalAddress, bytes: u64, ledger: &mut Ledger) -> Result<(), Mistake> {
    if plan::DIRECT_MAP.contains(at) {
        let in_place = paging::direct(frame) == at;
        return if in_place {
            Ok(())
        } else {
            Err(Mistake { what: "the direct map shows frames at their place", at: frame })
        };
    }
    if at >= plan::IMAGE || plan::DEVICES.range.contains(at) {
        return ledger.leave(frame, bytes);
    }
    match plan::zones().iter().any(|zone| zone.range.contains(at)) {
        true => ledger.claim(frame, bytes),
        false => Err(Mistake { what: "pages are in a zone of the plan", at: frame }),
    }
}
