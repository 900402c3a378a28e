//! From the boot loader's page tables to our own, in one step that cannot be half done.
//!
//! Everything is prepared while the loader's tables are in force: they show the image where ours do, and RAM too
//! ([`super::LOADER_CONFIG`] asks for it), so what is built through them is found again after the switch. The loader's stack is
//! not: the switch goes to a stack of our own, and nothing of the loader is needed after it.

use super::commit::{self, with_frames};
use super::frames::{Block, Extents, FRAME_2M, FRAME_4K, Frame2M, Frame4K, Frames, PhysicalAddress};
use super::map::{Kind, MapError, MemoryMap, RawRegion};
use super::paging::{self, Access};
use super::runs::{Runs, Scattered};
use super::{cpu_stack, image, plan};
use bootloader_api::BootInfo;
use bootloader_api::info::{FrameBufferInfo, MemoryRegion, MemoryRegionKind};
use core::arch::{asm, x86_64::__cpuid};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use core::{fmt, slice};
use runtime::addr::{Address, Bytes, KIB, Range};
use spin::Once;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr3, Efer, EferFlags};

/// The stack that the boot CPU goes on with.
const BOOT_STACK: Bytes = Bytes(64 * KIB);

/// What is known of the machine when the loader is gone.
#[derive(Clone, Copy, Debug)]
pub struct Handover {
    /// The ACPI tables' root pointer.
    pub rsdp: Option<PhysicalAddress>,
    pub framebuffer: Option<(PhysicalAddress, FrameBufferInfo)>,
    /// The stack that the boot CPU is on: a guard page below it, never freed.
    pub stack: Range,
    /// RAM above 1 MiB, the image's included.
    pub ram: Bytes,
    /// The frames of the image.
    pub image: Bytes,
}

/// Why the machine or the loader's handover is refused. Displays as one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Map(MapError),
    NoExecuteMissing,
    DirectMap { found: Option<u64> },
    SectionUnaligned { name: &'static str, found: Range },
    ImageScattered,
    ImageMissing { page: Address },
    OutOfFrames,
}

impl From<MapError> for Refusal {
    fn from(error: MapError) -> Refusal {
        Refusal::Map(error)
    }
}

impl From<Scattered> for Refusal {
    fn from(_: Scattered) -> Refusal {
        Refusal::ImageScattered
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map(error) => error.fmt(f),
            Self::NoExecuteMissing => {
                write!(f, "processor: no-execute pages (NX) are needed; is it switched off in the firmware?")
            }
            Self::DirectMap { found } => {
                let expected = plan::DIRECT_MAP.start;
                write!(f, "boot loader: physical memory must be mapped at {expected}, found {found:x?}")
            }
            Self::SectionUnaligned { name, found } => {
                write!(f, "image: section {name} must be whole pages, found {found:?}")
            }
            Self::ImageScattered => {
                write!(f, "boot loader: the image lies in more than {} runs of frames", super::runs::CAPACITY)
            }
            Self::ImageMissing { page } => {
                write!(f, "boot loader: the image's page at {page} must be mapped, found nothing")
            }
            Self::OutOfFrames => write!(f, "memory: not enough free RAM for the page tables"),
        }
    }
}

struct Arrival {
    then: fn(Handover) -> !,
    handover: Handover,
    map: MemoryMap,
}

#[unsafe(link_section = ".bss.runtime")]
static ARRIVAL: Once<Arrival> = Once::new();

/// RAM without the image: what could be free at best.
#[unsafe(link_section = ".bss.runtime")]
static BEYOND_IMAGE: AtomicUsize = AtomicUsize::new(0);

/// Memory in use by anything but the image: tables, stacks, heaps, reserves, the records of the frames.
pub fn frames_in_use() -> Bytes {
    Bytes(BEYOND_IMAGE.load(Relaxed) - commit::free_memory().0)
}

/// Builds our page tables and goes on in `then`, on them and on a stack of our own; the loader's memory is free by then.
/// Interrupts are off from here on. If the machine will not do, `refuse` gets the line to print, on the loader's tables.
///
/// # Safety
/// Once, on the boot CPU, with the information that the loader has just handed over and with its page tables in force. The
/// loader's descriptor table goes too: no segment register may be loaded before another table is.
pub unsafe fn take_over(info: &'static mut BootInfo, then: fn(Handover) -> !, refuse: fn(&dyn fmt::Display) -> !) -> ! {
    x86_64::instructions::interrupts::disable();
    let stack_top = match prepare(info, then) {
        Ok(stack_top) => stack_top,
        Err(refusal) => refuse(&refusal),
    };
    // SAFETY: both tables show the code that runs here at the same address; the new ones show the new stack; of the old stack
    // nothing is used any more.
    unsafe {
        asm!("mov cr3, {root}", "mov rsp, {top}", "xor ebp, ebp", "call {arrive}", "ud2",
            root = in(reg) paging::root().address().0, top = in(reg) stack_top.0, arrive = sym arrive, options(noreturn))
    }
}

extern "C" fn arrive() -> ! {
    let arrival = ARRIVAL.get().expect("take_over has prepared the arrival");
    reclaim(&arrival.map);
    commit::refill_reserve();
    (arrival.then)(arrival.handover)
}

/// All but the switch; returns the top of the new stack.
fn prepare(info: &BootInfo, then: fn(Handover) -> !) -> Result<Address, Refusal> {
    if __cpuid(0x8000_0001).edx & 1 << 20 == 0 {
        return Err(Refusal::NoExecuteMissing);
    }
    for section in image::sections() {
        if !section.range.start.is_aligned(4096) || !section.range.end.is_aligned(4096) {
            return Err(Refusal::SectionUnaligned { name: section.name, found: section.range });
        }
    }
    let found = info.physical_memory_offset.into_option();
    if found != Some(plan::DIRECT_MAP.start.0 as u64) {
        return Err(Refusal::DirectMap { found });
    }
    let map = MemoryMap::new(info.memory_regions.iter().map(raw))?;
    // SAFETY: the processor has NX; read-only pages are meant to be read-only for us too.
    unsafe {
        Efer::update(|efer| efer.insert(EferFlags::NO_EXECUTE_ENABLE));
        Cr0::update(|cr0| cr0.insert(Cr0Flags::WRITE_PROTECT));
    }
    let loader = Frame4K::at(PhysicalAddress(Cr3::read().0.start_address().as_u64()));
    let in_loader = |address: u64| paging::translate(loader, Address(address as usize));
    let framebuffer = info.framebuffer.as_ref();
    let framebuffer =
        framebuffer.and_then(|screen| Some((in_loader(screen.buffer().as_ptr().addr() as u64)?, screen.info())));

    commit::set_frames(frames_of(&map)?);
    let root = with_frames(|frames| frames.alloc_4k()).ok_or(Refusal::OutOfFrames)?;
    paging::clear(root);
    paging::set_root(root);
    let mut image = Runs::new();
    let image_bytes = map_image(loader, &mut image)?;
    map.ram().try_for_each(|(start, end)| map_ram(start, end, &image))?;
    BEYOND_IMAGE.store(map.bytes().0 - image_bytes.0, Relaxed);

    let top = cpu_stack(BOOT_STACK);
    let stack = Range::new(top.minus(BOOT_STACK), BOOT_STACK);
    let rsdp = info.rsdp_addr.into_option().map(PhysicalAddress);
    let handover = Handover { rsdp, framebuffer, stack, ram: map.bytes(), image: image_bytes };
    ARRIVAL.call_once(|| Arrival { then, handover, map });
    Ok(top)
}

fn raw(region: &MemoryRegion) -> RawRegion {
    let kind = match region.kind {
        MemoryRegionKind::Usable => Kind::Usable,
        MemoryRegionKind::Bootloader => Kind::Loader,
        _ => Kind::Reserved,
    };
    RawRegion { start: region.start, end: region.end, kind }
}

/// The allocator over the usable regions, its records at the start of the last that has room for
/// them: low memory is scarcer.
fn frames_of(map: &MemoryMap) -> Result<Frames<'static>, Refusal> {
    let extents = Extents::of(map);
    let count = extents.blocks();
    let bytes = ((count * size_of::<Block>()) as u64).next_multiple_of(FRAME_4K);
    let usable = || map.regions().iter().filter(|region| region.kind == Kind::Usable);
    let home = usable().rfind(|region| region.end.0 - region.start.0 >= bytes).ok_or(Refusal::OutOfFrames)?;
    let records = paging::direct(home.start).0 as *mut Block;
    // SAFETY: unused RAM, visible at this address in the loader's tables and in ours, and never given to the allocator.
    // All zeroes is a valid record.
    let blocks = unsafe {
        records.write_bytes(0, count);
        slice::from_raw_parts_mut(records, count)
    };
    let mut frames = Frames::new(blocks, extents);
    for region in usable().rev() {
        let taken = if region == home { bytes } else { 0 };
        frames.add_region(PhysicalAddress(region.start.0 + taken), region.end);
    }
    Ok(frames)
}

/// Maps the image's pages where they are, with the access that their section asks for, and notes their frames.
fn map_image(loader: Frame4K, frames_of_image: &mut Runs) -> Result<Bytes, Refusal> {
    let mut bytes = 0;
    let Range { start, end } = image::image();
    for page in (start.0..end.0).step_by(4096).map(Address) {
        let access = image::access(page);
        let Some(at) = paging::translate(loader, page) else {
            // Between writable sections there may be holes.
            match access {
                Access::ReadWrite => continue,
                _ => return Err(Refusal::ImageMissing { page }),
            }
        };
        let end = PhysicalAddress(at.0 + FRAME_4K);
        if !frames_of_image.overlap(at, end) {
            frames_of_image.add(at, end)?;
            bytes += FRAME_4K as usize;
        }
        let mapped = with_frames(|frames| paging::map_4k(page, Frame4K::at(at), access, frames));
        mapped.ok_or(Refusal::OutOfFrames)?;
    }
    Ok(Bytes(bytes))
}

/// Enters a run of RAM into the direct map, in large pages where it can be; the image's frames are left out.
fn map_ram(start: PhysicalAddress, end: PhysicalAddress, image: &Runs) -> Result<(), Refusal> {
    let mut at = start;
    while at < end {
        let (small, large) = (PhysicalAddress(at.0 + FRAME_4K), PhysicalAddress(at.0 + FRAME_2M));
        let page = paging::direct(at);
        let fits = at.is_aligned(FRAME_2M) && large <= end && !image.overlap(at, large);
        let mapped = with_frames(|frames| {
            if fits {
                paging::map_2m(page, Frame2M::at(at), Access::ReadWrite, frames)
            } else if !image.overlap(at, small) {
                paging::map_4k(page, Frame4K::at(at), Access::ReadWrite, frames)
            } else {
                Some(())
            }
        });
        mapped.ok_or(Refusal::OutOfFrames)?;
        at = if fits { large } else { small };
    }
    Ok(())
}

/// Frees what the loader used: its tables, its stack, the boot information, the file around the image. The image itself is
/// what the direct map leaves out.
fn reclaim(map: &MemoryMap) {
    let is_free = |at: u64| paging::leaf(paging::root(), paging::direct(PhysicalAddress(at))).is_some();
    for region in map.regions().iter().filter(|region| region.kind == Kind::Loader) {
        let mut at = region.start.0;
        while at < region.end.0 {
            let mut end = at;
            while end < region.end.0 && is_free(end) {
                end += FRAME_4K;
            }
            with_frames(|frames| frames.add_region(PhysicalAddress(at), PhysicalAddress(end)));
            at = end + FRAME_4K;
        }
    }
}
