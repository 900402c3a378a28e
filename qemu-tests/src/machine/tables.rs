//! ACPI's tables as bad firmware makes them: the machine runs on, says in a line what is wrong, and has its watchdog where it can.

use machine::memory::PhysicalAddress;
use machine::provoke;
use runtime::kernel_test;

use crate::dumps::stray_write;
use crate::machine::watchdog::{deaf, spin};

const XSDT: usize = 0x40;
const MADT: usize = 0x80;
const END: usize = MADT + 44 + ENTRIES.len();
const IO_APIC: usize = MADT + 44 + 8 + 4;

/// CPU 0; an I/O APIC; the interval timer comes in at its pin 2.
const ENTRIES: [u8; 30] =
    [0, 8, 0, 0, 1, 0, 0, 0, 1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0, 2, 10, 0, 0, 2, 0, 0, 0, 0, 0];

/// Writes tables of firmware that is in order to a page at this address, but for what `spoil` does to them before their checksums are made.
fn write_tables(page: &mut [u8; 4096], at: PhysicalAddress, spoil: impl FnOnce(&mut [u8; 4096])) {
    let mut put = |to: usize, bytes: &[u8]| page[to..][..bytes.len()].copy_from_slice(bytes);
    put(0, &[0; END]);
    put(0, b"RSD PTR ");
    put(15, &[2]);
    put(20, &36u32.to_le_bytes());
    put(24, &(at.0 + XSDT as u64).to_le_bytes());
    put(XSDT, b"XSDT");
    put(XSDT + 4, &44u32.to_le_bytes());
    put(XSDT + 36, &(at.0 + MADT as u64).to_le_bytes());
    put(MADT, b"APIC");
    put(MADT + 4, &((END - MADT) as u32).to_le_bytes());
    put(MADT + 36, &0xfee0_0000u32.to_le_bytes());
    put(MADT + 44, &ENTRIES);
    spoil(page);
    for (table, sum) in [(0..20, 8), (0..36, 32), (XSDT..XSDT + 44, XSDT + 9), (MADT..END, MADT + 9)] {
        page[sum] = 0;
        page[sum] = page[table].iter().fold(0, |sum, byte| sum.wrapping_sub(*byte));
    }
}

/// The same on a page of their own; `spoil` is told where that is.
fn tables(spoil: impl FnOnce(&mut [u8; 4096], PhysicalAddress)) -> PhysicalAddress {
    let (at, page) = provoke::page_for_tables().expect("there is a page of memory");
    write_tables(page, at, |page| spoil(page, at));
    at
}

/// Starts the watchdog on them, and then takes no interrupt.
fn get_stuck(tables: PhysicalAddress) {
    provoke::start_watchdog(tables);
    deaf(|| spin(u64::MAX));
}

#[kernel_test(status = 2, says = "fatal error: CPU 0 has taken no interrupt for|!warning:")]
fn with_good_tables_there_is_a_watchdog_and_nothing_to_say() {
    get_stuck(tables(|_, _| ()));
}

#[kernel_test(
    status = 2,
    says = "warning: ACPI: the table at|is called \"APIC\"; it must be \"XSDT\"|fatal error: CPU 0 has taken no interrupt for"
)]
fn with_bad_tables_there_is_a_watchdog_and_it_is_said() {
    get_stuck(tables(|page, at| page[24..32].copy_from_slice(&(at.0 + MADT as u64).to_le_bytes())));
}

#[kernel_test(
    status = 2,
    says = "warning: ACPI puts an I/O APIC at physical|where there is RAM|fatal error: CPU 0 has taken no interrupt for"
)]
fn an_io_apic_in_ram_is_not_written_to() {
    get_stuck(tables(|page, at| page[IO_APIC..][..4].copy_from_slice(&(at.0 as u32).to_le_bytes())));
}

#[kernel_test(
    status = 2,
    says = "warning: no I/O APIC answers at physical 0xd0000000|write to the absent|!has taken no"
)]
fn where_no_io_apic_answers_that_is_said() {
    provoke::start_watchdog(tables(|page, _| page[IO_APIC..][..4].copy_from_slice(&0xd000_0000u32.to_le_bytes())));
    stray_write(); // the kernel runs on to its next mistake
}

/// Half of them with right checksums, or hardly any would be read beyond the first table.
#[kernel_test(unstressed)]
fn a_thousand_spoilt_tables_do_no_harm() {
    const SEED: u64 = 0x2545_f491_4f6c_dd1d;
    let mut state = SEED;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize % below
    };
    let (at, page) = provoke::page_for_tables().expect("there is a page of memory");
    let mut in_order = 0;
    for number in 0..1000 {
        let mut spoil = |page: &mut [u8; 4096]| (0..=random(4)).for_each(|_| page[random(END)] = random(256) as u8);
        let is_sealed = number % 2 == 0;
        write_tables(page, at, |page| {
            if is_sealed {
                spoil(page)
            }
        });
        if !is_sealed {
            spoil(page);
        }
        in_order += usize::from(provoke::read_tables(at));
    }
    runtime::report!("{in_order} of 1000 spoilt tables were in order after all, seed {SEED:#x}");
    assert!((50..950).contains(&in_order));
}
