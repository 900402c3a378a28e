//! The MADT: which CPUs there are, where the interrupt controllers are, and to which of their lines the old PC's interrupts go.
//!
//! ACPI 6.5 §5.2.12. 44 bytes, then entries, each with its type and length in front; types that are not known here are passed over.

use super::{Error, Name, Read, Wrong, check_table, number32, number64, take};
use crate::memory::PhysicalAddress;

pub const NAME: Name = *b"APIC";
pub const MOST_IO_APICS: usize = 16;

const ENTRIES: u32 = 44;
const ENABLED: u32 = 1 << 0;
/// An xAPIC's id has 8 bits, and 255 means everybody.
const HIGHEST_CPU: u32 = 254;
/// A redirection table has no more lines.
const LINES: u32 = 240;

/// What the table says, of entries that are in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Madt {
    /// The table's, or the 64-bit one that overrides it.
    pub local_apic: PhysicalAddress,
    /// A bit for each APIC id.
    enabled: [u128; 2],
    io_apics: [Option<IoApic>; MOST_IO_APICS],
    overrides: [Option<Line>; 16],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoApic {
    pub id: u8,
    pub address: PhysicalAddress,
    /// The number that its pin 0 has among all I/O APICs' lines.
    pub first_line: u32,
}

/// Where an interrupt of the old PC arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line {
    pub number: u32,
    pub is_active_low: bool,
    pub is_level: bool,
}

impl Madt {
    /// The APIC ids of the CPUs that may be started, from the lowest on.
    pub fn cpus(&self) -> impl Iterator<Item = u8> + '_ {
        (0..=HIGHEST_CPU as u8).filter(|&id| has(&self.enabled, id))
    }

    /// In the table's order.
    pub fn io_apics(&self) -> impl Iterator<Item = IoApic> + '_ {
        self.io_apics.iter().flatten().copied()
    }

    /// The line of an ISA interrupt (0 to 15): its own number, active high, by edge, if nothing overrides that.
    pub fn isa_line(&self, source: u8) -> Line {
        let overridden = self.overrides.get(usize::from(source)).copied().flatten();
        overridden.unwrap_or(Line { number: source.into(), is_active_low: false, is_level: false })
    }

    /// The I/O APIC to which a line belongs, and the pin.
    pub fn pin(&self, line: u32) -> Option<(IoApic, u8)> {
        let below = self.io_apics().filter(|io_apic| io_apic.first_line <= line);
        let io_apic = below.max_by_key(|io_apic| io_apic.first_line)?;
        let pin = Some(line - io_apic.first_line).filter(|pin| *pin < LINES)?;
        Some((io_apic, pin as u8))
    }

    fn add_cpu(&mut self, id: u32, flags: u32) -> Result<(), Wrong> {
        if flags & ENABLED == 0 {
            return Ok(()); // a socket without a CPU; those all have the same id
        }
        if id > HIGHEST_CPU {
            return Err(Wrong::CpuTooHigh { id });
        }
        if has(&self.enabled, id as u8) {
            return Err(Wrong::DuplicateCpu { id });
        }
        self.enabled[id as usize / 128] |= 1 << (id % 128);
        Ok(())
    }

    fn add_io_apic(&mut self, id: u8, address: u32, first_line: u32) -> Result<(), Wrong> {
        if address == 0 || !address.is_multiple_of(16) {
            return Err(Wrong::IoApicAddress { address });
        }
        if self.io_apics().any(|other| other.id == id || other.first_line == first_line) {
            return Err(Wrong::DuplicateIoApic { id, first_line });
        }
        let slot = self.io_apics.iter_mut().find(|slot| slot.is_none()).ok_or(Wrong::TooManyIoApics)?;
        *slot = Some(IoApic { id, address: PhysicalAddress(address.into()), first_line });
        Ok(())
    }

    fn add_override(&mut self, bus: u8, source: u8, number: u32, flags: u8) -> Result<(), Wrong> {
        let slot = self.overrides.get_mut(usize::from(source)).filter(|_| bus == 0);
        let slot = slot.ok_or(Wrong::NotIsa { bus, source })?;
        if slot.is_some() {
            return Err(Wrong::DuplicateOverride { source });
        }
        *slot = Some(Line { number, is_active_low: flags & 3 == 3, is_level: flags >> 2 & 3 == 3 });
        Ok(())
    }

    fn add(&mut self, entry: &[u8]) -> Result<(), Wrong> {
        let &[kind, length, ..] = entry else { return Ok(()) };
        let least = match kind {
            0 => 8,
            1 | 5 => 12,
            2 => 10,
            9 => 16,
            _ => return Ok(()),
        };
        if length < least {
            return Err(Wrong::Short { kind, length, least });
        }
        match kind {
            0 => self.add_cpu(entry[3].into(), number32(&entry[4..])),
            1 => self.add_io_apic(entry[2], number32(&entry[4..]), number32(&entry[8..])),
            2 => self.add_override(entry[2], entry[3], number32(&entry[4..]), entry[8]),
            9 => self.add_cpu(number32(&entry[4..]), number32(&entry[8..])),
            _ => match number64(&entry[4..]) {
                address if address == 0 || !address.is_multiple_of(0x1000) => Err(Wrong::LocalApicAddress { address }),
                address => {
                    self.local_apic = PhysicalAddress(address);
                    Ok(())
                }
            },
        }
    }
}

fn has(ids: &[u128; 2], id: u8) -> bool {
    ids[usize::from(id) / 128] >> (id % 128) & 1 != 0
}

/// Reads the table at this address.
pub fn parse(at: PhysicalAddress, read: &mut Read, warn: &mut dyn FnMut(Error)) -> Result<Madt, Error> {
    let length = check_table(at, NAME, ENTRIES, super::LONGEST, read)?;
    let mut local_apic = [0; 4];
    take(at, 36, &mut local_apic, NAME, read)?;
    let mut madt = Madt {
        local_apic: PhysicalAddress(number32(&local_apic).into()),
        enabled: [0; 2],
        io_apics: [None; MOST_IO_APICS],
        overrides: [None; 16],
    };
    let mut offset = ENTRIES;
    while offset < length {
        let left = length - offset;
        let mut entry = [0; 16];
        take(at, offset.into(), &mut entry[..left.min(2) as usize], NAME, read)?;
        let entry_length = entry[1];
        let wrong = match u32::from(entry_length) {
            0 | 1 => Some(Wrong::Endless { length: entry_length }),
            more if more > left => Some(Wrong::PastEnd { length: entry_length, left }),
            _ => None,
        };
        if let Some(wrong) = wrong {
            warn(Error::Entry { offset, wrong });
            break;
        }
        let known = &mut entry[..usize::from(entry_length).min(16)];
        take(at, offset.into(), known, NAME, read)?;
        known[1] = entry_length; // memory that changes under us does not lengthen it
        if let Err(wrong) = madt.add(known) {
            warn(Error::Entry { offset, wrong });
        }
        offset += u32::from(entry_length);
    }
    if madt.cpus().next().is_none() { Err(Error::NoCpu) } else { Ok(madt) }
}
