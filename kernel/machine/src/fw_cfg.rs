//! What the host hands over: QEMU's firmware configuration device, read by DMA (8 MiB in 9 ms; byte by byte 450 ms).
//!
//! QEMU docs/specs/fw_cfg.rst. Big endian. Item 0x19 is the directory: a count, then 64 bytes for each file. A real machine has no
//! such device: then there is no command line, and no names in backtraces.

/// A file, as the directory describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    pub selector: u16,
    pub bytes: u32,
}

/// One entry of the directory, as it comes.
pub type Entry = [u8; 64];

/// The file of this name among the entries.
pub fn find(entries: impl IntoIterator<Item = Entry>, name: &str) -> Option<File> {
    entries.into_iter().find_map(|entry| {
        let [s0, s1, s2, s3, k0, k1, _, _, its_name @ ..] = entry;
        let end = its_name.iter().position(|byte| *byte == 0)?;
        (its_name[..end] == *name.as_bytes())
            .then(|| File { selector: u16::from_be_bytes([k0, k1]), bytes: u32::from_be_bytes([s0, s1, s2, s3]) })
    })
}

#[cfg(target_os = "none")]
pub use device::{command_line, read};

#[cfg(target_os = "none")]
mod device {
    use core::arch::x86_64::__cpuid;

    use runtime::addr::{Address, Bytes};
    use spin::Mutex;
    use x86_64::instructions::port::Port;

    use super::{Entry, find};
    use crate::{memory, report};

    const COMMAND_LINE_FILE: &str = "opt/org.tricolor/cmdline";
    const LONGEST_COMMAND_LINE: usize = 64 << 10;

    const SELECTOR_PORT: u16 = 0x510;
    const DATA_PORT: u16 = 0x511;
    const DMA_PORT: u16 = 0x514;

    const SIGNATURE: u16 = 0;
    const FEATURES: u16 = 1;
    const DIRECTORY: u16 = 0x19;
    const DMA_FEATURE: u8 = 1 << 1;

    const ERROR: u32 = 1 << 0;
    const READ: u32 = 1 << 1;
    const SELECT: u32 = 1 << 3;
    const PAGE: usize = 4096;
    /// How often the device is asked whether it is done; QEMU's is at once.
    const PATIENCE: u32 = 1_000_000;

    /// One page, for the device takes physical addresses: what it fills, and its control block.
    #[repr(C, align(4096))]
    struct Transfer {
        bytes: [u8; PIECE],
        control: [u8; 16],
    }

    const PIECE: usize = PAGE - 16;

    #[unsafe(link_section = ".bss.runtime")]
    static TRANSFER: Mutex<Transfer> = Mutex::new(Transfer { bytes: [0; PIECE], control: [0; 16] });

    /// The settings and the program to run. `None` if no host gives them, or, with a warning, too many; empty, with a warning, when
    /// they are not text.
    pub fn command_line() -> Option<&'static str> {
        let bytes = read(COMMAND_LINE_FILE, LONGEST_COMMAND_LINE)?;
        Some(str::from_utf8(bytes).unwrap_or_else(|error| {
            report!("warning: the command line is no UTF-8 after {} bytes and is ignored", error.valid_up_to());
            ""
        }))
    }

    /// A file's contents, in memory of its own that stays. `None` if there is no such file, or no device; with a warning if it is
    /// longer than `longest` or there is no room for it. Called while the machine comes up, and by tests.
    pub fn read(name: &str, longest: usize) -> Option<&'static [u8]> {
        is_there().then_some(())?;
        let mut directory = Item { selector: DIRECTORY, started: false };
        let mut count = [0; 4];
        directory.read(&mut count)?;
        // A selector has 16 bits, so no directory is longer.
        let count = u32::from_be_bytes(count).min(u32::from(u16::MAX));
        let file = find((0..count).map_while(|_| directory.read_array::<{ size_of::<Entry>() }>()), name)?;
        let bytes = file.bytes as usize;
        if bytes > longest {
            report!("warning: {name} has {bytes} bytes, more than {longest}, and is ignored");
            return None;
        }
        let room = memory_for(bytes).or_else(|| {
            report!("warning: no memory for the {bytes} bytes of {name}");
            None
        })?;
        Item { selector: file.selector, started: false }.read(room)?;
        Some(room)
    }

    /// An item being read from its start.
    struct Item {
        selector: u16,
        started: bool,
    }

    impl Item {
        fn read_array<const N: usize>(&mut self) -> Option<[u8; N]> {
            let mut bytes = [0; N];
            self.read(&mut bytes)?;
            Some(bytes)
        }

        /// The next bytes; past the item's end they are zero. `None` if the device reports an error.
        fn read(&mut self, into: &mut [u8]) -> Option<()> {
            let mut transfer = TRANSFER.lock();
            let transfer = &mut *transfer;
            for piece in into.chunks_mut(PIECE) {
                let command = if self.started { READ } else { READ | SELECT | u32::from(self.selector) << 16 };
                self.started = true;
                let bytes = memory::physical_address(Address(transfer.bytes.as_ptr().addr()))?.0;
                let control = memory::physical_address(Address(transfer.control.as_ptr().addr()))?.0;
                transfer.control[..4].copy_from_slice(&command.to_be_bytes());
                transfer.control[4..8].copy_from_slice(&(piece.len() as u32).to_be_bytes());
                transfer.control[8..].copy_from_slice(&bytes.to_be_bytes());
                let (mut high, mut low) = (Port::<u32>::new(DMA_PORT), Port::<u32>::new(DMA_PORT + 4));
                // SAFETY: both parts are ours (the lock is held) and in one page, and the device fills no more than
                // `piece.len()` bytes, at most `PIECE`.
                unsafe {
                    high.write(((control >> 32) as u32).to_be());
                    low.write((control as u32).to_be());
                }
                let state = transfer.control.as_ptr().cast::<[u8; 4]>();
                // SAFETY: reads our own block, which the device writes: hence volatile.
                let state = || unsafe { u32::from_be_bytes(state.read_volatile()) };
                if (0..PATIENCE).map(|_| state()).find(|state| state & !ERROR == 0) != Some(0) {
                    return None;
                }
                for (at, byte) in piece.iter_mut().enumerate() {
                    // SAFETY: inside the array; volatile because the device wrote it.
                    *byte = unsafe { (&raw const transfer.bytes[at]).read_volatile() };
                }
            }
            Some(())
        }
    }

    /// Whether the device is there and can do DMA. Only a virtual machine is asked: a real one's ports may be anything.
    fn is_there() -> bool {
        const UNDER_HYPERVISOR: u32 = 1 << 31;
        __cpuid(1).ecx & UNDER_HYPERVISOR != 0
            && read_bytes(SIGNATURE) == *b"QEMU"
            && read_bytes::<1>(FEATURES)[0] & DMA_FEATURE != 0
    }

    fn read_bytes<const N: usize>(selector: u16) -> [u8; N] {
        // SAFETY: these two ports only choose an item and read it.
        unsafe {
            Port::<u16>::new(SELECTOR_PORT).write(selector);
            [0; N].map(|_: u8| Port::<u8>::new(DATA_PORT).read())
        }
    }

    fn memory_for(bytes: usize) -> Option<&'static mut [u8]> {
        let range = memory::reserve(Bytes(bytes.max(1).next_multiple_of(PAGE)), PAGE)?;
        memory::commit(range).ok()?;
        let start = core::ptr::with_exposed_provenance_mut::<u8>(range.start.0);
        // SAFETY: freshly reserved, so nobody else's, committed, so it is memory (zeroed here, for its contents are
        // unspecified), and never given back.
        unsafe {
            start.write_bytes(0, bytes);
            Some(core::slice::from_raw_parts_mut(start, bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(bytes: u32, selector: u16, name: &[u8]) -> Entry {
        let mut entry = [0; 64];
        entry[..4].copy_from_slice(&bytes.to_be_bytes());
        entry[4..6].copy_from_slice(&selector.to_be_bytes());
        entry[8..8 + name.len()].copy_from_slice(name);
        entry
    }

    #[test]
    fn a_file_is_found_by_its_whole_name() {
        let entries = [entry(7, 0x20, b"opt/a"), entry(0x01020304, 0xabcd, b"opt/ab"), entry(9, 0x22, b"opt/abc")];
        assert_eq!(find(entries, "opt/ab"), Some(File { selector: 0xabcd, bytes: 0x01020304 }));
        assert_eq!(find(entries, "opt/"), None);
        assert_eq!(find(entries, "opt/abcd"), None);
        assert_eq!(find([], "opt/ab"), None);
    }

    #[test]
    fn a_name_without_an_end_is_nobodys() {
        let endless = [b'x'; 56];
        assert_eq!(find([entry(1, 2, &endless)], "x"), None);
        assert_eq!(
            find([entry(1, 2, &endless), entry(3, 4, &endless[..55])], str::from_utf8(&endless[..55]).expect("x")),
            Some(File { selector: 4, bytes: 3 })
        );
    }

    #[test]
    fn junk_is_passed_over() {
        let junk = [0xff; 64];
        assert_eq!(find([junk, [0; 64], entry(1, 2, b"opt/a"), junk], "opt/a"), Some(File { selector: 2, bytes: 1 }));
    }
}
