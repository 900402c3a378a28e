//! Which of our memory lies on huge pages. Only Linux knows, for it chooses when a page is first touched, and again later.
//!
//! It tells for a range since 6.7, by the ioctl PAGEMAP_SCAN. Older ones tell by /proc/self/smaps alone, a walk over all memory and every
//! mapping of the process, stacks too: that is no answer for a statistic.

use libc::{O_CLOEXEC, O_RDONLY};
use runtime::addr::{Bytes, Range};

/// Regions told at a time.
const REGIONS: usize = 16;

const PAGEMAP_SCAN: libc::c_ulong = 0xc060_6610;
const PAGE_IS_HUGE: u64 = 1 << 6;

/// `struct page_region` of linux/fs.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// `struct pm_scan_arg` of linux/fs.h.
#[repr(C)]
#[derive(Default)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    regions: u64,
    regions_len: u64,
    most_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// How much of a range lies on huge pages, if Linux tells. Four calls, and a look at each page table of the range.
pub(crate) fn on_huge_pages(range: Range) -> Option<Bytes> {
    // SAFETY: the path is a string.
    let file = unsafe { libc::open(c"/proc/self/pagemap".as_ptr(), O_RDONLY | O_CLOEXEC) };
    let mut regions = [Region::default(); REGIONS];
    let (mut huge, mut at, end) = (Some(0), range.start.0 as u64, range.end.0 as u64);
    while at < end
        && let Some(bytes) = &mut huge
    {
        let mut scan = Scan {
            size: size_of::<Scan>() as u64,
            start: at,
            end,
            regions: (&raw mut regions).expose_provenance() as u64,
            regions_len: REGIONS as u64,
            category_mask: PAGE_IS_HUGE,
            return_mask: PAGE_IS_HUGE,
            ..Scan::default()
        };
        // SAFETY: Linux writes `walk_end`, and at most so many regions; both outlive the call.
        match unsafe { libc::ioctl(file, PAGEMAP_SCAN, &raw mut scan) } {
            found @ 0.. => {
                *bytes += regions[..found as usize].iter().map(|region| region.end - region.start).sum::<u64>();
                at = scan.walk_end;
            }
            _ => huge = None,
        }
    }
    // SAFETY: ours, or none.
    unsafe { libc::close(file) };
    huge.map(|bytes| Bytes(bytes as usize))
}
