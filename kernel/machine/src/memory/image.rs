//! The image's sections, as linker.ld draws them: what may be done with each page, and which globals are roots.

use super::paging::Access;
use runtime::addr::{Address, Range};
use spin::Once;

unsafe extern "C" {
    static __image_start: u8;
    static __image_end: u8;
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_start: u8;
    static __rodata_end: u8;
    static __eh_frame_hdr_start: u8;
    static __relro_start: u8;
    static __relro_end: u8;
    static __data_start: u8;
    static __data_end: u8;
    static __bss_start: u8;
    static __bss_end: u8;
}

fn between(start: *const u8, end: *const u8) -> Range {
    Range { start: Address(start.addr()), end: Address(end.addr()) }
}

/// All of the image, from its first page to its last.
pub(super) fn image() -> Range {
    let image = between(&raw const __image_start, &raw const __image_end);
    Range { start: image.start.align_down(4096), end: image.end.align_up(4096) }
}

/// The functions.
pub fn text() -> Range {
    between(&raw const __text_start, &raw const __text_end)
}

/// The search table for unwinding, `.eh_frame_hdr`.
pub(crate) fn unwind_tables() -> Address {
    Address((&raw const __eh_frame_hdr_start).addr())
}

/// A part of the image that is less than readable and writable.
pub(super) struct Section {
    pub(super) name: &'static str,
    pub(super) range: Range,
    pub(super) access: Access,
}

pub(super) fn sections() -> [Section; 3] {
    let rodata = between(&raw const __rodata_start, &raw const __rodata_end);
    let relro = between(&raw const __relro_start, &raw const __relro_end);
    [
        Section { name: "text", range: text(), access: Access::ReadExecute },
        Section { name: "rodata", range: rodata, access: Access::Read },
        Section { name: "relro", range: relro, access: Access::Read },
    ]
}

/// What a page of the image is mapped with.
pub(super) fn access(page: Address) -> Access {
    sections().iter().find(|section| section.range.contains(page)).map_or(Access::ReadWrite, |section| section.access)
}

/// The writable globals that may hold references: `.data` and `.bss` without the runtime's own.
pub fn static_roots() -> &'static [Range] {
    #[unsafe(link_section = ".bss.runtime")]
    static ROOTS: Once<[Range; 2]> = Once::new();
    ROOTS.call_once(|| {
        [between(&raw const __data_start, &raw const __data_end), between(&raw const __bss_start, &raw const __bss_end)]
    })
}
