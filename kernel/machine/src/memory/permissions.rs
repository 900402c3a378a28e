//! Proves what the page tables promise, by walking all of them.
//!
//! No page is writable and executable, by any chain of tables; none is open to user mode; nothing is mapped in the low half;
//! only text is executable; no frame that is executed can be written through another address; text and constants are mapped as
//! the linker drew them. RAM lies in large pages, so the walk is short: a few thousand entries.

use super::frames::{Frame4K, PhysicalAddress};
use super::image::{self, Section};
use super::paging::{self, Access, Entry, Table, USER, span};
use super::runs::Runs;
use core::fmt;
use core::sync::atomic::Ordering::Acquire;
use runtime::addr::{Address, Bytes, KIB};

/// What was found, when all is well.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    pub executable: Bytes,
    pub read_only: Bytes,
    pub writable: Bytes,
    /// Pages of the tables themselves.
    pub tables: usize,
}

/// The first thing found that must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    LowHalf { at: Address },
    User { at: Address },
    WritableAndExecutable { at: Address },
    ExecutableOutsideText { at: Address },
    WritableAlias { at: Address, of: PhysicalAddress },
    CodeScattered,
    WrongAccess { section: &'static str, at: Address, expected: Access, found: Option<u64> },
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [executable, read_only, writable] =
            [self.executable, self.read_only, self.writable].map(|bytes| bytes.0 / KIB);
        write!(f, "r-x {executable} KiB, r-- {read_only} KiB, rw- {writable} KiB, {} tables", self.tables)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page tables: ")?;
        match self {
            Self::LowHalf { at } => write!(f, "nothing may be mapped in the low half, found {at}"),
            Self::User { at } => write!(f, "nothing may be open to user mode, found {at}"),
            Self::WritableAndExecutable { at } => write!(f, "no page may be writable and executable, found {at}"),
            Self::ExecutableOutsideText { at } => write!(f, "only text may be executable, found {at}"),
            Self::WritableAlias { at, of } => write!(f, "no frame of text may be writable, found {of:?} at {at}"),
            Self::CodeScattered => write!(f, "text lies in more runs of frames than can be checked"),
            Self::WrongAccess { section, at, expected, found: Some(entry) } => {
                write!(f, "{section} must be {expected:?}, found entry {entry:#x} at {at}")
            }
            Self::WrongAccess { section, at, expected, found: None } => {
                write!(f, "{section} must be {expected:?}, found nothing at {at}")
            }
        }
    }
}

/// A leaf with what all the tables above it allow.
struct Leaf {
    at: Address,
    frame: PhysicalAddress,
    bytes: usize,
    writable: bool,
    executable: bool,
}

/// Walks all tables twice. Run it while no range is being committed.
pub fn check() -> Result<Summary, Violation> {
    let mut summary = Summary::default();
    let mut code = Runs::new();
    let sections = image::sections();
    let text = &sections[0].range;
    summary.tables = walk(paging::root(), &mut |leaf| {
        let end = PhysicalAddress(leaf.frame.0 + leaf.bytes as u64);
        let total = match (leaf.writable, leaf.executable) {
            (true, true) => return Err(Violation::WritableAndExecutable { at: leaf.at }),
            (false, true) if !text.contains(leaf.at) => return Err(Violation::ExecutableOutsideText { at: leaf.at }),
            (false, true) => {
                code.add(leaf.frame, end).map_err(|_| Violation::CodeScattered)?;
                &mut summary.executable
            }
            (true, false) => &mut summary.writable,
            (false, false) => &mut summary.read_only,
        };
        total.0 += leaf.bytes;
        Ok(())
    })?;
    walk(paging::root(), &mut |leaf| {
        let end = PhysicalAddress(leaf.frame.0 + leaf.bytes as u64);
        match leaf.writable && code.overlap(leaf.frame, end) {
            true => Err(Violation::WritableAlias { at: leaf.at, of: leaf.frame }),
            false => Ok(()),
        }
    })?;
    sections.iter().try_for_each(check_section)?;
    Ok(summary)
}

fn check_section(section: &Section) -> Result<(), Violation> {
    for page in (section.range.start.0..section.range.end.0).step_by(4096).map(Address) {
        let found = paging::leaf(paging::root(), page).map(|(entry, _)| entry);
        let right =
            |entry: Entry| !entry.is_writable() && entry.is_executable() == (section.access == Access::ReadExecute);
        if !found.is_some_and(right) {
            let found = found.map(|entry| entry.0);
            return Err(Violation::WrongAccess { section: section.name, at: page, expected: section.access, found });
        }
    }
    Ok(())
}

type Visit<'a> = &'a mut dyn FnMut(Leaf) -> Result<(), Violation>;

fn walk(root: Frame4K, visit: Visit) -> Result<usize, Violation> {
    walk_table(paging::table_at(root), 4, Address(0), (true, true), visit)
}

/// Visits the leaves below one table that is mapped from `base` on; returns how many tables there are, this one included.
fn walk_table(
    table: &Table,
    level: u32,
    base: Address,
    allowed: (bool, bool),
    visit: Visit,
) -> Result<usize, Violation> {
    let mut tables = 1;
    for (index, slot) in table.slots().iter().enumerate() {
        let entry = Entry(slot.load(Acquire));
        if !entry.is_present() {
            continue;
        }
        // Bits 48 to 63 repeat bit 47.
        let at = Address((((base.0 + index * span(level)) << 16) as isize >> 16) as usize);
        if (at.0 as isize) >= 0 {
            return Err(Violation::LowHalf { at });
        }
        if entry.0 & USER != 0 {
            return Err(Violation::User { at });
        }
        let (writable, executable) = (allowed.0 && entry.is_writable(), allowed.1 && entry.is_executable());
        if entry.is_leaf(level) {
            visit(Leaf { at, frame: entry.address(level), bytes: span(level), writable, executable })?;
        } else {
            tables += walk_table(entry.table(), level - 1, at, (writable, executable), &mut *visit)?;
        }
    }
    Ok(tables)
}
