//! ACPI's tables, as far as they name interrupt controllers and CPUs: from the root pointer to the MADT ([`madt`]).
//!
//! ```text
//!   RSDP ─► XSDT (version 2 on) or RSDT: addresses of tables ─► "APIC", the MADT: a list of entries
//! ```
//!
//! ACPI 6.5 §5.2. Memory is read by a function of the caller's, so all of this is tested on the host. Firmware is not believed: each
//! length is checked against what may be before it is used, nothing is followed twice, and the work is at most [`MOST_TABLES`] headers
//! and two passes over one table of [`LONGEST`] bytes.

#[cfg(target_os = "none")]
mod bare;
pub mod madt;

use crate::memory::PhysicalAddress;
use core::fmt;

#[cfg(target_os = "none")]
pub(crate) use bare::read;
pub use madt::{IoApic, Line, Madt};

/// The longest MADT that is believed: 4000 CPUs.
pub const LONGEST: u32 = 64 << 10;
/// The most tables that a root table may name. QEMU has 6, a server 50.
pub const MOST_TABLES: u32 = 256;

/// What every table starts with: name, length, and after some more the checksum among it.
const HEADER: u32 = 36;
const RSDP_SIGNATURE: [u8; 8] = *b"RSD PTR ";
const RSDP_1: u32 = 20;
const RSDP_2: u32 = 36;

/// Fills the bytes from a physical address; `false` if there is no such memory.
pub type Read<'a> = dyn FnMut(PhysicalAddress, &mut [u8]) -> bool + 'a;

/// Reads the MADT to which this root pointer leads. Entries that are wrong are left out, each with a word to `warn`.
pub fn read_madt(rsdp: PhysicalAddress, read: &mut Read, warn: &mut dyn FnMut(Error)) -> Result<Madt, Error> {
    let (root, name, width) = root_table(rsdp, read)?;
    let length = check_table(root, name, HEADER, HEADER + MOST_TABLES * width, read)?;
    let tables = (length - HEADER) / width;
    for index in 0..tables {
        let mut address = [0; 8];
        take(root, (HEADER + index * width).into(), &mut address[..width as usize], name, read)?;
        let table = PhysicalAddress(u64::from_le_bytes(address));
        let mut found = [0; 4];
        match take(table, 0, &mut found, name, read) {
            Err(error) => warn(error),
            // The first is the one: were a bad one passed over, a thousand could be.
            Ok(()) if found == madt::NAME => return madt::parse(table, read, warn),
            Ok(()) => {}
        }
    }
    Err(Error::NoMadt { tables })
}

/// The root table's address, its name and the bytes of an address in it.
fn root_table(rsdp: PhysicalAddress, read: &mut Read) -> Result<(PhysicalAddress, Name, u32), Error> {
    let name = *b"RSDP";
    let mut bytes = [0; RSDP_2 as usize];
    take(rsdp, 0, &mut bytes[..RSDP_1 as usize], name, read)?;
    let found = *bytes.first_chunk().expect("36 bytes");
    if found != RSDP_SIGNATURE {
        return Err(Error::NoRootPointer { at: rsdp, found });
    }
    check_sum(rsdp, RSDP_1, name, read)?;
    if bytes[15] >= 2 {
        take(rsdp, 0, &mut bytes, name, read)?;
        let (length, most) = (number32(&bytes[20..]), LONGEST);
        if !(RSDP_2..=most).contains(&length) {
            return Err(Error::Length { name, at: rsdp, length, least: RSDP_2, most });
        }
        check_sum(rsdp, length, name, read)?;
        let xsdt = number64(&bytes[24..]);
        if xsdt != 0 {
            return Ok((PhysicalAddress(xsdt), *b"XSDT", 8));
        }
    }
    Ok((PhysicalAddress(number32(&bytes[16..]).into()), *b"RSDT", 4))
}

/// The length of a table that has this name, a length in these limits and a checksum that is right.
fn check_table(at: PhysicalAddress, name: Name, least: u32, most: u32, read: &mut Read) -> Result<u32, Error> {
    let mut start = [0; 8];
    take(at, 0, &mut start, name, read)?;
    let found = *start.first_chunk().expect("8 bytes");
    if found != name {
        return Err(Error::Signature { name, at, found });
    }
    let length = number32(&start[4..]);
    if !(least..=most).contains(&length) {
        return Err(Error::Length { name, at, length, least, most });
    }
    check_sum(at, length, name, read)?;
    Ok(length)
}

fn check_sum(at: PhysicalAddress, length: u32, name: Name, read: &mut Read) -> Result<(), Error> {
    let mut piece = [0; 64];
    let mut sum = 0u8;
    for offset in (0..length).step_by(piece.len()) {
        let piece = &mut piece[..(length - offset).min(64) as usize];
        take(at, offset.into(), piece, name, read)?;
        sum = piece.iter().fold(sum, |sum, byte| sum.wrapping_add(*byte));
    }
    if sum == 0 { Ok(()) } else { Err(Error::Checksum { name, at, length, sum }) }
}

fn take(at: PhysicalAddress, offset: u64, into: &mut [u8], name: Name, read: &mut Read) -> Result<(), Error> {
    let bytes = into.len();
    let start = at.0.checked_add(offset).filter(|start| start.checked_add(bytes as u64).is_some());
    let unreadable = Error::Unreadable { name, at: PhysicalAddress(at.0.wrapping_add(offset)), bytes };
    start.filter(|&start| read(PhysicalAddress(start), into)).map(|_| ()).ok_or(unreadable)
}

fn number32(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(*bytes.first_chunk().expect("the caller has checked"))
}

fn number64(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(*bytes.first_chunk().expect("the caller has checked"))
}

/// A table's signature.
pub type Name = [u8; 4];

/// What is wrong with the tables. Displays as one line that says what was found and what would be right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// Bytes of this table, or of one that it points to.
    Unreadable {
        name: Name,
        at: PhysicalAddress,
        bytes: usize,
    },
    NoRootPointer {
        at: PhysicalAddress,
        found: [u8; 8],
    },
    Signature {
        name: Name,
        at: PhysicalAddress,
        found: Name,
    },
    Length {
        name: Name,
        at: PhysicalAddress,
        length: u32,
        least: u32,
        most: u32,
    },
    Checksum {
        name: Name,
        at: PhysicalAddress,
        length: u32,
        sum: u8,
    },
    NoMadt {
        tables: u32,
    },
    NoCpu,
    Entry {
        offset: u32,
        wrong: Wrong,
    },
}

/// What is wrong with an entry of the MADT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// The walk ends here.
    Endless {
        length: u8,
    },
    PastEnd {
        length: u8,
        left: u32,
    },
    Short {
        kind: u8,
        length: u8,
        least: u8,
    },
    DuplicateCpu {
        id: u32,
    },
    CpuTooHigh {
        id: u32,
    },
    LocalApicAddress {
        address: u64,
    },
    IoApicAddress {
        address: u32,
    },
    DuplicateIoApic {
        id: u8,
        first_line: u32,
    },
    TooManyIoApics,
    NotIsa {
        bus: u8,
        source: u8,
    },
    DuplicateOverride {
        source: u8,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { name, at, bytes } => {
                write!(f, "ACPI: {} leads to {bytes} bytes at {at:?}, where no memory can be read", name.escape_ascii())
            }
            Self::NoRootPointer { at, found } => write!(
                f,
                "ACPI: the root pointer at {at:?} starts with \"{}\"; it must be \"RSD PTR \"",
                found.escape_ascii()
            ),
            Self::Signature { name, at, found } => write!(
                f,
                "ACPI: the table at {at:?} is called \"{}\"; it must be \"{}\"",
                found.escape_ascii(),
                name.escape_ascii()
            ),
            Self::Length { name, at, length, least, most } => write!(
                f,
                "ACPI: {} at {at:?} claims {length} bytes; it must have {least} to {most}",
                name.escape_ascii()
            ),
            Self::Checksum { name, at, length, sum } => write!(
                f,
                "ACPI: the {length} bytes of {} at {at:?} sum up to {sum:#04x}; a right checksum makes them 0",
                name.escape_ascii()
            ),
            Self::NoMadt { tables } => write!(f, "ACPI: none of {tables} tables is called \"APIC\"; one must be"),
            Self::NoCpu => write!(f, "ACPI: APIC names no CPU that is enabled; at least one must be"),
            Self::Entry { offset, wrong } => write!(f, "ACPI: APIC's entry at byte {offset} {wrong}"),
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endless { length } => write!(f, "has length {length}, and with it the list ends; 2 is the least"),
            Self::PastEnd { length, left } => {
                write!(f, "has length {length}, and with it the list ends; only {left} bytes of the table are left")
            }
            Self::Short { kind, length, least } => {
                write!(f, "is of type {kind} and has length {length}; it must have at least {least}")
            }
            Self::DuplicateCpu { id } => write!(f, "repeats APIC id {id}; each must occur once"),
            Self::CpuTooHigh { id } => write!(f, "has APIC id {id}; without x2APIC 254 is the highest"),
            Self::LocalApicAddress { address } => {
                write!(f, "puts the local APIC at {address:#x}; it must be a multiple of 0x1000 and not 0")
            }
            Self::IoApicAddress { address } => {
                write!(f, "puts an I/O APIC at {address:#x}; it must be a multiple of 16 and not 0")
            }
            Self::DuplicateIoApic { id, first_line } => {
                write!(f, "repeats I/O APIC {id} or its first line {first_line}; each must occur once")
            }
            Self::TooManyIoApics => write!(f, "is one I/O APIC too many; {} are supported", madt::MOST_IO_APICS),
            Self::NotIsa { bus, source } => {
                write!(f, "overrides interrupt {source} of bus {bus}; it must be 0 to 15 of bus 0")
            }
            Self::DuplicateOverride { source } => write!(f, "overrides interrupt {source} again; once is right"),
        }
    }
}

#[cfg(test)]
mod tests;
