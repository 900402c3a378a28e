//! Tables made by hand, then spoilt in every way.

use super::*;
use std::prelude::v1::*;
use std::vec;

const BASE: u64 = 0xe_0000;
/// Where the parts are put, after [`BASE`].
const ROOT: u64 = 0x40;
const MADT: u64 = 0x100;

type Answer = (Result<Madt, Error>, Vec<Error>);

fn table(name: &[u8], body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 36];
    bytes[..4].copy_from_slice(name);
    bytes.extend(body);
    let length = bytes.len() as u32;
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    seal(&mut bytes, 9);
    bytes
}

/// Makes the sum 0 by the byte at `at`.
fn seal(bytes: &mut [u8], at: usize) {
    bytes[at] = 0;
    bytes[at] = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
}

fn madt(entries: &[&[u8]]) -> Vec<u8> {
    let mut body = vec![0, 0, 0xe0, 0xfe, 1, 0, 0, 0];
    entries.iter().for_each(|entry| body.extend(*entry));
    table(b"APIC", &body)
}

fn cpu(id: u8, flags: u8) -> [u8; 8] {
    [0, 8, id, id, flags, 0, 0, 0]
}

const IO_APIC: [u8; 12] = [1, 12, 7, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0];
const TIMER: [u8; 10] = [2, 10, 0, 0, 2, 0, 0, 0, 0, 0];

/// A root pointer of this version, a root table with these addresses, this MADT.
fn memory(version: u8, tables: &[u64], madt: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; MADT as usize];
    bytes[..8].copy_from_slice(b"RSD PTR ");
    bytes[15] = version;
    let root = BASE + ROOT;
    if version < 2 {
        bytes[16..20].copy_from_slice(&(root as u32).to_le_bytes());
    } else {
        bytes[20..24].copy_from_slice(&36u32.to_le_bytes());
        bytes[24..32].copy_from_slice(&root.to_le_bytes());
    }
    seal(&mut bytes[..20], 8);
    if version >= 2 {
        seal(&mut bytes[..36], 32);
    }
    let (name, width) = if version < 2 { (b"RSDT", 4) } else { (b"XSDT", 8) };
    let addresses: Vec<u8> = tables.iter().flat_map(|at| at.to_le_bytes()[..width].to_vec()).collect();
    let root = table(name, &addresses);
    bytes[ROOT as usize..][..root.len()].copy_from_slice(&root);
    bytes.extend(madt);
    bytes
}

fn answer(memory: &[u8]) -> Answer {
    let mut warnings = Vec::new();
    let mut read = |at: PhysicalAddress, into: &mut [u8]| {
        let Some(from) = at.0.checked_sub(BASE).and_then(|at| memory.get(at as usize..)?.get(..into.len())) else {
            return false;
        };
        into.copy_from_slice(from);
        true
    };
    let madt = read_madt(PhysicalAddress(BASE), &mut read, &mut |warning| warnings.push(warning));
    (madt, warnings)
}

fn of_madt(madt: &[u8]) -> Answer {
    answer(&memory(2, &[BASE + MADT], madt))
}

/// The only warning, about an entry; the rest was read.
fn wrong_entry(entries: &[&[u8]]) -> String {
    let (madt, warnings) = of_madt(&madt(entries));
    assert!(madt.is_ok(), "{madt:?}");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    warnings[0].to_string()
}

#[test]
fn both_versions_lead_to_the_madt() {
    let table = madt(&[&cpu(3, 1), &cpu(0, 1), &cpu(4, 0), &IO_APIC, &TIMER]);
    for version in [0, 2, 3] {
        let (madt, warnings) = answer(&memory(version, &[BASE + ROOT, BASE + MADT], &table));
        let madt = madt.expect("in order");
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(madt.local_apic.0, 0xfee0_0000);
        assert_eq!(madt.cpus().collect::<Vec<_>>(), [0, 3], "4 is not enabled");
        let io_apic = IoApic { id: 7, address: PhysicalAddress(0xfec0_0000), first_line: 0 };
        assert_eq!(madt.io_apics().collect::<Vec<_>>(), [io_apic]);
        let line = madt.isa_line(0);
        assert_eq!(line, Line { number: 2, is_active_low: false, is_level: false });
        assert_eq!(madt.pin(line.number), Some((io_apic, 2)));
        assert_eq!(madt.isa_line(1).number, 1, "nothing overrides it");
        assert_eq!(madt.pin(240), None, "a redirection table has 240 lines");
    }
}

#[test]
fn a_line_belongs_to_the_io_apic_that_starts_last_before_it() {
    let second = [1, 12, 8, 0, 0, 0x10, 0xc0, 0xfe, 24, 0, 0, 0];
    let level = [2, 10, 0, 9, 30, 0, 0, 0, 0b1111, 0];
    let madt = of_madt(&madt(&[&second, &IO_APIC, &cpu(0, 1), &level])).0.expect("in order");
    let pin = |line| madt.pin(line).map(|(io_apic, pin)| (io_apic.id, pin));
    assert_eq!((pin(23), pin(24), pin(madt.isa_line(9).number)), (Some((7, 23)), Some((8, 0)), Some((8, 6))));
    assert_eq!(madt.isa_line(9), Line { number: 30, is_active_low: true, is_level: true });
}

#[test]
fn the_local_apic_may_be_elsewhere() {
    let elsewhere = [5, 12, 0, 0, 0, 0x10, 0, 0, 1, 0, 0, 0];
    assert_eq!(of_madt(&madt(&[&cpu(0, 1), &elsewhere])).0.map(|madt| madt.local_apic.0), Ok(0x1_0000_1000));
}

#[test]
fn cut_anywhere_the_tables_are_refused() {
    for version in [0, 2] {
        let whole = memory(version, &[BASE + MADT], &madt(&[&cpu(0, 1), &IO_APIC, &TIMER]));
        assert!(answer(&whole).0.is_ok());
        for length in 0..whole.len() {
            let (madt, warnings) = answer(&whole[..length]);
            let error = madt.expect_err("cut");
            assert!(matches!(error, Error::Unreadable { .. } | Error::NoMadt { .. }), "{length}: {error} {warnings:?}");
        }
    }
}

#[test]
fn a_flipped_bit_of_a_table_is_found() {
    let whole = memory(2, &[BASE + MADT], &madt(&[&cpu(0, 1), &IO_APIC]));
    let root = ROOT as usize..ROOT as usize + 44;
    for at in (0..36).chain(root).chain(MADT as usize..whole.len()) {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            assert!(answer(&bytes).0.is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn what_is_wrong_with_a_table_is_said() {
    let good = madt(&[&cpu(0, 1)]);
    let said = |bytes: &[u8]| answer(bytes).0.expect_err("wrong").to_string();
    let spoilt = |at: usize, with: &[u8]| {
        let mut bytes = memory(2, &[BASE + MADT], &good);
        bytes[at..][..with.len()].copy_from_slice(with);
        said(&bytes)
    };
    assert!(spoilt(0, b"X").contains(r#"starts with "XSD PTR "; it must be "RSD PTR ""#));
    assert!(spoilt(9, b"X").contains("the 20 bytes of RSDP"));
    assert!(spoilt(33, b"X").contains("sum up to 0x58; a right checksum makes them 0"));
    assert!(spoilt(ROOT as usize, b"Y").contains(r#"is called "YSDT"; it must be "XSDT""#));
    for (length, limits) in [(0u32, "36 to 2084"), (35, "36 to 2084"), (u32::MAX, "36 to 2084")] {
        let said = spoilt(ROOT as usize + 4, &length.to_le_bytes());
        assert!(said.contains(&format!("claims {length} bytes; it must have {limits}")), "{said}");
    }
    assert!(spoilt(MADT as usize + 4, &[0; 4]).contains("claims 0 bytes; it must have 44 to 65536"));
    assert!(spoilt(MADT as usize + 4, &[0xff, 0xff, 0, 0]).contains("no memory can be read"), "past the end");
    assert_eq!(said(&memory(2, &[BASE + ROOT; 9], &good)), r#"ACPI: none of 9 tables is called "APIC"; one must be"#);
    assert_eq!(of_madt(&madt(&[&IO_APIC])).0, Err(Error::NoCpu));
    let (answer, warnings) = answer(&memory(2, &[u64::MAX, 0, BASE + MADT], &good));
    assert!(answer.is_ok() && warnings.len() == 2, "{answer:?} {warnings:?}");
}

#[test]
fn what_is_wrong_with_an_entry_is_said_and_the_rest_is_read() {
    let cpu_0 = cpu(0, 1);
    let said = |entry: &[u8]| wrong_entry(&[&cpu_0, entry]);
    assert!(said(&[0, 0]).contains("at byte 52 has length 0, and with it the list ends; 2 is the least"));
    assert!(said(&[0, 9, 0]).contains("only 3 bytes of the table are left"));
    assert!(said(&[7]).contains("has length 0"));
    assert!(said(&[1, 4, 0, 0]).contains("is of type 1 and has length 4; it must have at least 12"));
    assert!(said(&cpu_0).contains("repeats APIC id 0; each must occur once"));
    assert!(said(&cpu(255, 1)).contains("has APIC id 255; without x2APIC 254 is the highest"));
    assert!(said(&[5, 12, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]).contains("a multiple of 0x1000 and not 0"));
    assert!(said(&[1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).contains("puts an I/O APIC at 0x0"));
    assert!(said(&[2, 10, 1, 0, 2, 0, 0, 0, 0, 0]).contains("interrupt 0 of bus 1; it must be 0 to 15 of bus 0"));
    assert!(wrong_entry(&[&cpu_0, &TIMER, &TIMER]).contains("overrides interrupt 0 again"));
    assert!(wrong_entry(&[&cpu_0, &IO_APIC, &IO_APIC]).contains("repeats I/O APIC 7 or its first line 0"));
    assert_eq!(of_madt(&madt(&[&cpu_0, &[200, 3, 9]])).1, [], "an unknown type is passed over");
}

#[test]
fn a_thousand_cpus_are_read_and_those_out_of_reach_named() {
    let entries: Vec<[u8; 16]> = (0..1000u16)
        .map(|id| {
            let [low, high] = id.to_le_bytes();
            [9, 16, 0, 0, low, high, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
        })
        .collect();
    let (madt, warnings) = of_madt(&madt(&entries.iter().map(|entry| &entry[..]).collect::<Vec<_>>()));
    assert_eq!((madt.expect("in order").cpus().count(), warnings.len()), (255, 745));
}

#[test]
fn the_seed_of_the_fuzz_target_is_in_order() {
    let seed = include_bytes!("../../corpus/acpi/version_2");
    assert_eq!(answer(seed), answer(&memory(2, &[BASE + MADT], &madt(&[&cpu(0, 1), &cpu(1, 0), &IO_APIC, &TIMER]))));
    assert!(answer(seed).0.is_ok());
}
