//! The machine's own tables. They lie in memory that is reserved, so the direct map does not show them: pages are mapped as they are read.

use core::arch::x86_64::__cpuid;

use runtime::addr::{Address, Bytes};

use super::{Madt, read_madt};
use crate::memory::{self, PhysicalAddress};
use crate::report;

const PAGE: u64 = 4096;
/// Warnings that are printed; thousands say no more.
const MOST_WARNINGS: usize = 4;

/// What the MADT says. `None`, with a warning, if the tables are wrong.
pub(crate) fn read(rsdp: PhysicalAddress) -> Option<Madt> {
    let mut window = Window { pages: [(u64::MAX, Address(0)); 8], next: 0 };
    let mut warnings = 0;
    let mut warn = |error| {
        if warnings < MOST_WARNINGS {
            report!("warning: {error}");
        }
        warnings += 1;
    };
    let madt = read_madt(rsdp, &mut |at, into| window.read(at, into), &mut warn);
    madt.map_err(warn).ok()
}

/// The pages mapped last. A mapping is for ever, and a MADT of the greatest length needs few of them twice.
struct Window {
    pages: [(u64, Address); 8],
    next: usize,
}

impl Window {
    fn read(&mut self, at: PhysicalAddress, into: &mut [u8]) -> bool {
        const ADDRESS_BITS: u32 = 0x8000_0008;
        let above = 1 << (__cpuid(ADDRESS_BITS).eax as u8).min(52);
        let end = at.0.saturating_add(into.len() as u64);
        if end > above {
            return false;
        }
        for (at, byte) in (at.0..end).zip(into) {
            let from = self.page(at & !(PAGE - 1)).plus(Bytes((at % PAGE) as usize));
            // SAFETY: the page is mapped, and nobody is asked to leave it alone: hence volatile, a byte at a time.
            *byte = unsafe { core::ptr::with_exposed_provenance::<u8>(from.0).read_volatile() };
        }
        true
    }

    fn page(&mut self, page: u64) -> Address {
        if let Some((_, address)) = self.pages.iter().find(|(mapped, _)| *mapped == page) {
            return *address;
        }
        // RAM of ours is not mapped twice, with caches and without.
        let direct = memory::in_direct_map(PhysicalAddress(page));
        let address = direct.unwrap_or_else(|| memory::map_device(PhysicalAddress(page), Bytes(PAGE as usize)));
        self.pages[self.next] = (page, address);
        self.next = (self.next + 1) % self.pages.len();
        address
    }
}
