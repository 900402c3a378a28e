//! The executable's own memory, as its program headers tell it: the text, the tables for unwinding, and the statics that are roots.
//!
//! Shared libraries are left out: they know nothing of our objects.

use core::slice;

use libc::{Elf64_Ehdr, Elf64_Phdr, PF_W, PF_X, PT_GNU_EH_FRAME, PT_GNU_RELRO, PT_LOAD};
use runtime::addr::{Address, Bytes, Range};
use spin::Once;

unsafe extern "C" {
    static __ehdr_start: Elf64_Ehdr;
    static __runtime_start: u8;
    static __runtime_end: u8;
    static __runtime_bss_start: u8;
    static __runtime_bss_end: u8;
}

fn parts(kind: u32) -> impl Iterator<Item = (Range, u32)> {
    let start = &raw const __ehdr_start;
    // SAFETY: the linker puts the file's header at this symbol and the program headers behind it, into the first segment.
    let headers = unsafe {
        slice::from_raw_parts(start.byte_add((*start).e_phoff as usize).cast::<Elf64_Phdr>(), (*start).e_phnum.into())
    };
    let of_kind = headers.iter().filter(move |header| header.p_type == kind);
    of_kind.map(|header| (Range::new(Address(header.p_vaddr as usize), Bytes(header.p_memsz as usize)), header.p_flags))
}

/// From the file's header to the end of `.bss`.
pub(crate) fn image() -> Range {
    let ends = parts(PT_LOAD).map(|(range, _)| range.end).max();
    let start = Address((&raw const __ehdr_start).addr());
    Range { start, end: ends.unwrap_or(start) }
}

pub(super) fn is_loaded(address: Address) -> bool {
    parts(PT_LOAD).any(|(range, _)| range.contains(address))
}

pub(crate) fn text() -> Range {
    parts(PT_LOAD).find(|(_, flags)| flags & PF_X != 0).map_or(Range::EMPTY, |(range, _)| range)
}

/// `.eh_frame_hdr`.
pub(crate) fn unwind_tables() -> Address {
    parts(PT_GNU_EH_FRAME).next().map_or(Address(0), |(range, _)| range.start)
}

const MOST_ROOTS: usize = 8;

/// Every writable part but what is read-only once relocated, and the runtime's own.
pub(crate) fn static_roots() -> &'static [Range] {
    #[unsafe(link_section = ".bss.runtime")]
    static ROOTS: Once<([Range; MOST_ROOTS], usize)> = Once::new();
    let (roots, count) = ROOTS.call_once(|| {
        let (mut roots, mut count) = ([Range::EMPTY; MOST_ROOTS], 0);
        for (part, _) in parts(PT_LOAD).filter(|(_, flags)| flags & PF_W != 0) {
            roots[count] = part;
            count += 1;
        }
        let range = |start: *const u8, end: *const u8| Range { start: Address(start.addr()), end: Address(end.addr()) };
        let own = [
            range(&raw const __runtime_start, &raw const __runtime_end),
            range(&raw const __runtime_bss_start, &raw const __runtime_bss_end),
        ];
        for hole in parts(PT_GNU_RELRO).map(|(range, _)| range).chain(own) {
            for index in 0..count {
                let Range { start, end } = roots[index];
                if hole.start < end && start < hole.end {
                    roots[index].end = hole.start.max(start);
                    roots[count] = Range { start: hole.end.min(end), end };
                    count += 1;
                }
            }
        }
        for root in &mut roots {
            let start = root.start.align_up(8);
            *root = Range { start, end: root.end.align_down(8).max(start) };
        }
        (roots, count)
    });
    &roots[..*count]
}
