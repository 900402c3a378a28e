//! Our parser of ACPI's tables against the crate `acpi`, on what QEMU's firmware really makes, and on that spoilt:
//! where ours has nothing to object to, both read the same.
//!
//! A file of `corpus/acpi_tables` has the tables of one machine: for each its address (8 bytes), its length (4), its bytes. The crate
//! believes what it reads, so it is asked only about tables that ours takes for right.

use acpi::sdt::madt::{Madt, MadtEntry};
use acpi::{AcpiTables, Handler, PciAddress, PhysicalMapping};
use bolero::check;
use machine::acpi as ours;
use machine::memory::frames::PhysicalAddress;
use std::fs;
use std::path::Path;
use std::ptr::NonNull;

const QUICK: usize = 3000;
/// Words: the crate looks behind the last entry, and takes short ones for long.
const SPARE: usize = 32;

type Table = (u64, Vec<u8>);

/// What both read of the MADT.
#[derive(PartialEq, Debug, Default)]
struct Answer {
    local_apic: u64,
    cpus: Vec<u32>,
    /// Id, address, first line.
    io_apics: Vec<(u8, u32, u32)>,
    /// Where each ISA interrupt comes in, and whether active low, whether by level.
    lines: Vec<(u32, bool, bool)>,
}

fn corpus() -> Vec<Vec<Table>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/acpi_tables");
    let files = fs::read_dir(folder).expect("the corpus").map(|file| fs::read(file.expect("readable").path()));
    files.map(|file| tables(&file.expect("readable"))).collect()
}

fn tables(mut file: &[u8]) -> Vec<Table> {
    let mut tables = Vec::new();
    while let Some((at, rest)) = file.split_first_chunk() {
        let (length, rest) = rest.split_first_chunk().expect("a length");
        let (table, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        tables.push((u64::from_le_bytes(*at), table.to_vec()));
        file = rest;
    }
    tables
}

/// The bytes from a physical address to the end of its table.
fn bytes(tables: &[Table], at: u64) -> Option<&[u8]> {
    tables.iter().find_map(|(start, table)| table.get(at.checked_sub(*start)? as usize..).filter(|it| !it.is_empty()))
}

/// Ours, if there is not a word of warning.
fn read_by_us(tables: &[Table]) -> Result<Answer, String> {
    let mut warnings = Vec::new();
    let mut read = |at: PhysicalAddress, into: &mut [u8]| {
        let from = bytes(tables, at.0).and_then(|bytes| bytes.get(..into.len()));
        from.map(|from| into.copy_from_slice(from)).is_some()
    };
    let madt = ours::read_madt(PhysicalAddress(tables[0].0), &mut read, &mut |warning| warnings.push(warning));
    let madt = madt.map_err(|error| error.to_string())?;
    if let Some(warning) = warnings.first() {
        return Err(warning.to_string());
    }
    Ok(Answer {
        local_apic: madt.local_apic.0,
        cpus: madt.cpus().map(u32::from).collect(),
        io_apics: madt.io_apics().map(|it| (it.id, it.address.0 as u32, it.first_line)).collect(),
        lines: (0..16)
            .map(|source| madt.isa_line(source))
            .map(|it| (it.number, it.is_active_low, it.is_level))
            .collect(),
    })
}

fn read_by_the_crate(tables: &[Table]) -> Answer {
    // SAFETY: the handler maps copies of tables that ours took for right.
    let all = unsafe { AcpiTables::from_rsdp(Copies(tables), tables[0].0 as usize) }.expect("a root pointer");
    let madt = all.find_table::<Madt>().expect("a MADT");
    let mut answer = Answer { local_apic: madt.get().local_apic_address.into(), ..Answer::default() };
    answer.lines = (0..16).map(|source| (source, false, false)).collect();
    for entry in madt.get().entries() {
        match entry {
            MadtEntry::LocalApic(it) if { it.flags } & 1 != 0 => answer.cpus.push(it.apic_id.into()),
            MadtEntry::LocalX2Apic(it) if { it.flags } & 1 != 0 => answer.cpus.push(it.x2apic_id),
            MadtEntry::IoApic(it) => {
                answer.io_apics.push((it.io_apic_id, it.io_apic_address, it.global_system_interrupt_base))
            }
            MadtEntry::InterruptSourceOverride(it) => {
                let (low, level) = ({ it.flags } & 3 == 3, { it.flags } >> 2 & 3 == 3);
                answer.lines[usize::from(it.irq)] = (it.global_system_interrupt, low, level);
            }
            MadtEntry::LocalApicAddressOverride(it) => answer.local_apic = it.local_apic_address,
            _ => {}
        }
    }
    answer.cpus.sort_unstable();
    answer
}

/// Makes the checksums right, in the root pointer and in the tables.
fn seal(tables: &mut [Table]) {
    let sum = |bytes: &mut [u8], at: usize| {
        bytes[at] = 0;
        bytes[at] = bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_sub(*byte));
    };
    let (root_pointer, others) = tables.split_first_mut().expect("the root pointer comes first");
    sum(&mut root_pointer.1[..20], 8);
    if root_pointer.1.len() > 32 {
        sum(&mut root_pointer.1, 32);
    }
    others.iter_mut().for_each(|(_, table)| sum(table, 9));
}

#[test]
fn on_qemus_tables_both_agree() {
    let corpus = corpus();
    assert!(corpus.len() >= 5);
    for tables in corpus {
        assert_eq!(read_by_us(&tables), Ok(read_by_the_crate(&tables)));
    }
}

#[test]
fn on_spoilt_tables_both_agree_or_ours_refuses() {
    let corpus = corpus();
    check!().with_type::<(u8, Vec<(u8, u16, u8)>)>().with_iterations(QUICK).for_each(|(which, edits)| {
        let mut tables = corpus[usize::from(*which) % corpus.len()].clone();
        for (table, at, byte) in edits.iter().take(1 + usize::from(*which) / 64) {
            // Mostly the root pointer, the root table and the MADT; of the others only the names matter.
            let table = [0, 1, 3, usize::from(*table)][usize::from(*table) % 4] % tables.len();
            let table = &mut tables[table].1;
            let at = usize::from(*at) % table.len();
            table[at] = *byte;
        }
        seal(&mut tables);
        // By a root pointer of version 1 the crate reads 64-bit addresses, which it has not, and it follows an address 0.
        let is_plain = |pointer: &[u8]| pointer[15] == 0 || pointer[15] > 1 && pointer[24..32] != [0; 8];
        if let Ok(answer) = read_by_us(&tables)
            && is_plain(&tables[0].1)
        {
            assert_eq!(answer, read_by_the_crate(&tables));
        }
    });
}

fn words(size: usize) -> usize {
    size.div_ceil(8) + SPARE
}

macro_rules! unasked {
    ($($name:ident($($argument:ty),*) -> $answer:ty;)*) => {
        $(fn $name(&self, $(_: $argument),*) -> $answer { unreachable!("the tables are memory, and no more is asked of them") })*
    };
}

/// Physical memory for the crate: each mapping is a copy, 4 bytes off a multiple of 8, which puts a root table's addresses on one.
#[derive(Clone, Copy)]
struct Copies<'a>(&'a [Table]);

impl Handler for Copies<'_> {
    unsafe fn map_physical_region<T>(&self, at: usize, size: usize) -> PhysicalMapping<Self, T> {
        let from = bytes(self.0, at as u64).expect("ours has read it");
        let from = &from[..size.min(from.len())]; // the crate maps more than it looks at
        let copy = Box::leak(vec![0u64; words(size)].into_boxed_slice());
        // SAFETY: the copy has room for 4 bytes more.
        let start = unsafe {
            let start = copy.as_mut_ptr().byte_add(4).cast::<u8>();
            start.copy_from_nonoverlapping(from.as_ptr(), from.len());
            NonNull::new_unchecked(start.cast())
        };
        PhysicalMapping {
            physical_start: at,
            virtual_start: start,
            region_length: size,
            mapped_length: size,
            handler: *self,
        }
    }

    fn unmap_physical_region<T>(it: &PhysicalMapping<Self, T>) {
        let copy = it.virtual_start.as_ptr().cast::<u64>().wrapping_byte_sub(4);
        // SAFETY: made above, of so many words, and unmapped once.
        drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(copy, words(it.mapped_length))) });
    }

    unasked! {
        read_u8(usize) -> u8; read_u16(usize) -> u16; read_u32(usize) -> u32; read_u64(usize) -> u64;
        write_u8(usize, u8) -> (); write_u16(usize, u16) -> (); write_u32(usize, u32) -> (); write_u64(usize, u64) -> ();
        read_io_u8(u16) -> u8; read_io_u16(u16) -> u16; read_io_u32(u16) -> u32;
        write_io_u8(u16, u8) -> (); write_io_u16(u16, u16) -> (); write_io_u32(u16, u32) -> ();
        read_pci_u8(PciAddress, u16) -> u8; read_pci_u16(PciAddress, u16) -> u16; read_pci_u32(PciAddress, u16) -> u32;
        write_pci_u8(PciAddress, u16, u8) -> (); write_pci_u16(PciAddress, u16, u16) -> ();
        write_pci_u32(PciAddress, u16, u32) -> ();
        nanos_since_boot() -> u64; stall(u64) -> (); sleep(u64) -> ();
    }
}
