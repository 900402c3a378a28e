//! Memory of the bare machine: from the firmware's map to ranges of addresses that can be committed.
//!
//! In the order in which it happens at boot ([`take_over`]):
//!
//! 1. [`map`]: the firmware's regions are checked, sorted, and cut to whole pages of RAM above 1 MiB.
//! 2. [`frames`]: each 2 MiB of that RAM gets a record; from then on frames of 4 KiB and 2 MiB come and go in O(1).
//! 3. [`paging`]: our own tables are built by [`plan`]: the image with what each section may do, all other RAM readable and
//!    writable in large pages. A frame of the image has no other address, so what cannot be written cannot be written anywhere.
//! 4. The switch: CR3, a stack of our own, and the low half is empty. The loader's memory becomes free.
//! 5. [`permissions`]: a walk over all tables proves 3 and 4.
//! 6. From then on the runtime [`reserve`]s addresses and [`commit()`]s them, and page faults grow stacks from a reserve of
//!    frames ([`grow_in_fault`]).
//!
//! **Invariants.** A frame is in one place: free, a page table, in a reserve, or behind one leaf (the direct map, which shows
//! all but the image, aside). Entries go from absent to present by compare-and-swap; only who owns an address takes its entry
//! away. Physical and virtual addresses are different types. Nothing here allocates through the global allocator.

pub mod frames;
pub mod map;
pub mod plan;
pub mod runs;

#[cfg(target_os = "none")]
mod commit;
#[cfg(target_os = "none")]
mod image;
#[cfg(target_os = "none")]
mod kernel_heap;
#[cfg(target_os = "none")]
pub mod owners;
#[cfg(target_os = "none")]
mod paging;
#[cfg(target_os = "none")]
pub mod permissions;
#[cfg(test)]
mod random;
#[cfg(target_os = "none")]
mod take_over;

#[cfg(all(target_os = "none", feature = "switch-off"))]
pub use commit::refuse;
pub use frames::PhysicalAddress;
pub use plan::reserve;
#[cfg(target_os = "none")]
pub use {
    bare::{address_plan, cpu_stack, in_direct_map, map_device, physical_address},
    commit::{MOST_IN_FAULT, commit, commit_small, decommit, free_memory, on_large_pages, refill_reserve},
    image::{static_roots, text},
    kernel_heap::KernelHeap,
    owners::check_frames,
    permissions::check as check_permissions,
    take_over::{Handover, Refusal, frames_in_use, take_over},
};
#[cfg(target_os = "none")]
pub(crate) use {commit::grow_in_fault, image::unwind_tables};

use bootloader_api::BootloaderConfig;
use bootloader_api::config::Mapping;

/// What [`take_over`] asks of the boot loader: the image and the direct map where [`plan`] has them.
pub const LOADER_CONFIG: BootloaderConfig = {
    let mut config = BootloaderConfig::new_default();
    config.mappings.kernel_base = Mapping::FixedAddress(plan::IMAGE.0 as u64);
    config.mappings.physical_memory = Some(Mapping::FixedAddress(plan::DIRECT_MAP.start.0 as u64));
    config
};

#[cfg(target_os = "none")]
mod bare {
    use super::commit::{commit, with_frames};
    use super::frames::{FRAME_4K, Frame4K, PhysicalAddress};
    use super::paging::{self, Access};
    use super::{image, plan};
    use runtime::addr::{Address, Bytes, Range};
    use spin::Once;

    const PAGE: Bytes = Bytes(FRAME_4K as usize);

    /// [`plan`]'s parts by name, in order of address; of the image's, what the image takes.
    pub fn address_plan() -> &'static [(&'static str, Range)] {
        #[unsafe(link_section = ".bss.runtime")]
        static PARTS: Once<[(&str, Range); 7]> = Once::new();
        PARTS.call_once(|| {
            let [heap, tables, stacks, cpu_stacks, devices] = plan::zones().map(|zone| (zone.name, zone.range));
            let (first, last) = (("direct map", plan::DIRECT_MAP), ("image", image::image()));
            [first, heap, tables, stacks, cpu_stacks, devices, last]
        })
    }

    /// Maps device registers, uncached. Never unmapped.
    ///
    /// # Panics
    /// When there are no frames for the tables.
    pub fn map_device(registers: PhysicalAddress, bytes: Bytes) -> Address {
        let offset = registers.0 as usize % PAGE.0;
        let first = registers.0 - offset as u64;
        let length = Bytes((offset + bytes.0).next_multiple_of(PAGE.0));
        let range = plan::DEVICES.take(length, PAGE.0).expect("8 TiB of device registers are enough");
        for at in (0..length.0).step_by(PAGE.0) {
            let frame = Frame4K::at(PhysicalAddress(first + at as u64));
            let page = range.start.plus(Bytes(at));
            let mapped = with_frames(|frames| paging::map_4k(page, frame, Access::Device, frames));
            mapped.expect("devices are mapped at boot, when frames abound");
        }
        range.start.plus(Bytes(offset))
    }

    /// The top of a new stack of `bytes` (whole pages) for a CPU. The page below it is never mapped. Never freed.
    ///
    /// # Panics
    /// When there are no frames for it.
    pub fn cpu_stack(bytes: Bytes) -> Address {
        let with_guard = Bytes(bytes.0 + PAGE.0);
        let range = plan::CPU_STACKS.take(with_guard, PAGE.0).expect("8 TiB of CPU stacks are enough");
        let stack = Range { start: range.start.plus(PAGE), end: range.end };
        commit(stack).expect("CPU stacks are made at boot, when frames abound");
        stack.end
    }

    /// Where the direct map shows this physical address: nowhere, unless it is RAM of ours.
    pub fn in_direct_map(at: PhysicalAddress) -> Option<Address> {
        let is_low = at.0 < plan::DIRECT_MAP.bytes().0 as u64;
        let address = is_low.then(|| plan::DIRECT_MAP.start.plus(Bytes(at.0 as usize)));
        address.filter(|&address| physical_address(address).is_some())
    }

    /// Where a mapped address is in physical memory: for devices that read and write by themselves. Only within one 4 KiB page
    /// do neighbours stay neighbours.
    pub fn physical_address(address: Address) -> Option<PhysicalAddress> {
        paging::translate(paging::root(), address)
    }
}
