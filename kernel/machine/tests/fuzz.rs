//! Bad input: whatever the firmware, the host or the user hands over is read by these parsers, and none of it may do harm.
//!
//! Each target takes a seed from `corpus/`, changes it in a few places (or starts from nothing), and asks of every answer what must hold
//! of it, not only that there was no panic. A few thousand inputs under `cargo test`, a million by `./x fuzz`; bolero prints the seed of
//! one that fails, and shrinks it: then it becomes a file of the corpus. Every seed is also cut short at every byte.
//!
//! Of ACPI the root pointer, the root table and the MADT are read, no more: no AML, so nothing is executed.

use bolero::{TypeGenerator, check};
use machine::acpi;
use machine::fw_cfg::{self, Entry, File};
use machine::memory::frames::{Block, Extents, FRAME_4K, Frames, PhysicalAddress};
use machine::memory::map::{Kind, LEAST, LOWEST, MemoryMap, RawRegion};
use machine::memory::plan::DIRECT_MAP;
use runtime::settings::Settings;
use runtime::symbols::Symbols;
use std::ffi::CStr;
use std::path::Path;
use std::{env, fs};

/// How many inputs a target sees where nobody asks for more.
const QUICK: usize = 3000;

#[derive(Clone, Copy, Debug, TypeGenerator)]
enum Edit {
    Put {
        at: u16,
        byte: u8,
    },
    Flip {
        at: u16,
        bit: u8,
    },
    Insert {
        at: u16,
        byte: u8,
    },
    Delete {
        at: u16,
        bytes: u8,
    },
    Repeat {
        at: u16,
        bytes: u8,
    },
    /// A number at the edge of something, little endian or big.
    Number {
        at: u16,
        which: u8,
        bytes: u8,
        is_big: bool,
    },
    CutAt {
        at: u16,
    },
}

const EDGES: [u64; 10] = [0, 1, 2, 0xfff, 0x1000, 0x7fff_ffff, 0xffff_ffff, 1 << 44, i64::MAX as u64, u64::MAX];

impl Edit {
    fn apply(self, to: &mut Vec<u8>) {
        let length = to.len();
        let place = |at: u16| usize::from(at) % (length + 1);
        let range = |at: u16, bytes: u8| place(at)..(place(at) + usize::from(bytes)).min(length);
        match self {
            Edit::Put { at, byte } => to.iter_mut().skip(place(at)).take(1).for_each(|old| *old = byte),
            Edit::Flip { at, bit } => to.iter_mut().skip(place(at)).take(1).for_each(|old| *old ^= 1 << (bit % 8)),
            Edit::Insert { at, byte } => to.insert(place(at), byte),
            Edit::Delete { at, bytes } => drop(to.drain(range(at, bytes))),
            Edit::Repeat { at, bytes } => {
                let again = to[range(at, bytes)].to_vec();
                let at = place(at);
                to.splice(at..at, again);
            }
            Edit::Number { at, which, bytes, is_big } => {
                let number = EDGES[usize::from(which) % EDGES.len()].wrapping_add(u64::from(which) / 200);
                let bytes = [2, 4, 8][usize::from(bytes) % 3];
                let (little, big) = (number.to_le_bytes(), number.to_be_bytes());
                let number = if is_big { &big[8 - bytes..] } else { &little[..bytes] };
                let range = range(at, bytes as u8);
                to[range.clone()].copy_from_slice(&number[..range.len()]);
            }
            Edit::CutAt { at } => to.truncate(place(at)),
        }
    }
}

/// The seeds of a target, each whole and cut short everywhere; then seeds with edits.
fn fuzz(target: &str, holds: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let files = fs::read_dir(&folder).expect("every target has a corpus").map(|file| file.expect("readable").path());
    let mut seeds: Vec<Vec<u8>> = files.map(|file| fs::read(file).expect("readable")).collect();
    assert!(!seeds.is_empty(), "no seed in {}", folder.display());
    for seed in &seeds {
        (0..=seed.len()).for_each(|length| holds(&seed[..length]));
    }
    seeds.push(Vec::new());
    check!().with_type::<(u8, Vec<Edit>)>().with_iterations(QUICK).for_each(|(which, edits)| {
        let mut input = seeds[usize::from(*which) % seeds.len()].clone();
        edits.iter().for_each(|edit| edit.apply(&mut input));
        holds(&input);
    });
}

#[test]
fn memory_map() {
    fuzz("memory_map", |bytes| {
        // 24 bytes a region: start, end, kind.
        let regions: Vec<RawRegion> = bytes
            .as_chunks::<24>()
            .0
            .iter()
            .map(|region| {
                let word = |at| u64::from_le_bytes(*region[at..].first_chunk().expect("24 bytes"));
                let kind = [Kind::Usable, Kind::Loader, Kind::Reserved][word(16) as usize % 3];
                RawRegion { start: word(0), end: word(8), kind }
            })
            .collect();
        let map = match MemoryMap::new(regions.iter().copied()) {
            Ok(map) => map,
            Err(error) => return assert!(!error.to_string().contains('\n'), "an error is one line"),
        };
        assert!(map.bytes() >= LEAST);
        assert!(map.regions().is_sorted_by(|a, b| a.end <= b.start));
        for found in map.regions() {
            let (start, end) = (found.start.0, found.end.0);
            assert!(LOWEST <= start && start < end && end <= DIRECT_MAP.bytes().0 as u64, "{found:x?}");
            assert!(start.is_multiple_of(FRAME_4K) && end.is_multiple_of(FRAME_4K), "{found:x?}");
            let overlaps = |raw: &&RawRegion| raw.start < raw.end && raw.start < end && start < raw.end;
            assert!(!regions.iter().filter(overlaps).any(|raw| raw.kind == Kind::Reserved), "{found:x?} is reserved");
            let mut covered = start;
            while let Some(raw) = regions.iter().filter(overlaps).find(|raw| raw.start <= covered && covered < raw.end)
            {
                covered = raw.end;
            }
            assert!(covered >= end, "{found:x?} is RAM that nobody spoke of from {covered:#x} on");
        }
        let extents = Extents::of(&map);
        if extents.blocks() <= 4096 {
            let mut blocks = vec![Block::NONE; extents.blocks()];
            let mut frames = Frames::new(&mut blocks, extents);
            map.regions().iter().for_each(|region| frames.add_region(region.start, region.end));
            assert_eq!(frames.free_bytes(), map.bytes());
        }
    });
}

#[test]
fn command_line() {
    fuzz("command_line", |bytes| {
        let line = String::from_utf8_lossy(bytes);
        let mut warnings = Vec::new();
        let (settings, rest) = Settings::parse(&line, &mut |warning| warnings.push(warning.to_string()));
        assert!(line.trim_ascii().ends_with(rest), "the program's words come last, as they were");
        assert!(!rest.split_ascii_whitespace().next().unwrap_or_default().contains('='));
        assert!(settings.gc_percent.is_none_or(|percent| percent <= i32::MAX as u32));
        assert!(settings.memory_limit.is_none_or(|limit| limit.0 <= isize::MAX as usize));
        assert!(
            warnings.iter().all(|warning| !warning.contains(['\n', '\x1b'])),
            "a warning is one line: {warnings:?}"
        );
        let (again, same) = Settings::parse(rest, &mut |warning| panic!("{warning}"));
        assert_eq!((again, same), (Settings::DEFAULT, rest));
    });
}

#[test]
fn directory() {
    fuzz("directory", |bytes| {
        let entries: Vec<Entry> = bytes
            .chunks(64)
            .map(|part| {
                let mut entry = [0; 64];
                entry[..part.len()].copy_from_slice(part);
                entry
            })
            .collect();
        for name in ["opt/org.tricolor/cmdline", "opt/org.tricolor/symbols", ""] {
            let is_it = |entry: &&Entry| {
                CStr::from_bytes_until_nul(&entry[8..]).is_ok_and(|it| it.to_bytes() == name.as_bytes())
            };
            let expected = entries.iter().find(is_it).map(|entry| File {
                bytes: u32::from_be_bytes([entry[0], entry[1], entry[2], entry[3]]),
                selector: u16::from_be_bytes([entry[4], entry[5]]),
            });
            assert_eq!(fw_cfg::find(entries.iter().copied(), name), expected);
        }
    });
}

#[test]
fn symbols() {
    fuzz("symbols", |bytes| {
        let Some(symbols) = Symbols::decode(bytes) else { return };
        assert!(16 + 16 * symbols.len() <= bytes.len());
        let starts = bytes[16..].as_chunks::<16>().0.iter().take(symbols.len());
        let starts = starts.map(|[a, b, c, d, ..]| u32::from_le_bytes([*a, *b, *c, *d]));
        for offset in
            starts.flat_map(|start| [start.wrapping_sub(1), start, start.wrapping_add(7)]).chain([0, u32::MAX])
        {
            if let Some((name, into)) = symbols.lookup(offset) {
                assert!(into <= offset);
                assert!(bytes.as_ptr_range().contains(&name.as_ptr()) || name.is_empty(), "a name lies in the table");
            }
        }
    });
}

#[test]
fn acpi() {
    /// Tables point at each other by addresses, so the bytes always lie here.
    const BASE: u64 = 0xe_0000;
    fn read(bytes: &[u8]) -> Result<acpi::Madt, acpi::Error> {
        let mut calls = 0;
        let mut read = |at: PhysicalAddress, into: &mut [u8]| {
            calls += 1;
            let from = at.0.checked_sub(BASE).and_then(|at| bytes.get(at as usize..)?.get(..into.len()));
            from.map(|from| into.copy_from_slice(from)).is_some()
        };
        let madt = acpi::read_madt(PhysicalAddress(BASE), &mut read, &mut |warning| {
            assert!(!warning.to_string().contains('\n'), "a warning is one line");
        });
        assert!(calls <= 100 + 2 * acpi::MOST_TABLES as usize + bytes.len() * 2, "{calls} readings");
        madt
    }
    /// Makes the checksums right, as far as there are tables: hardly any input would come past them.
    fn seal(bytes: &mut [u8]) {
        let sum = |bytes: &mut [u8], start: usize, length: usize, at: usize| {
            if let Some(table) =
                bytes.get_mut(start..).and_then(|rest| rest.get_mut(..length)).filter(|it| it.len() > at)
            {
                table[at] = 0;
                table[at] = table.iter().fold(0, |sum: u8, byte| sum.wrapping_sub(*byte));
            }
        };
        sum(bytes, 0, 20, 8);
        sum(bytes, 0, 36, 32);
        for start in [0x40, 0x100] {
            let length =
                bytes.get(start + 4..start + 8).map(|it| u32::from_le_bytes(*it.first_chunk().expect("4 bytes")));
            sum(bytes, start, length.unwrap_or(0) as usize, 9);
        }
    }
    fuzz("acpi", |bytes| {
        let mut sealed = bytes.to_vec();
        seal(&mut sealed);
        for bytes in [bytes, &sealed] {
            let madt = match read(bytes) {
                Ok(madt) => madt,
                Err(error) => {
                    assert!(!error.to_string().contains('\n'), "an error is one line");
                    continue;
                }
            };
            assert!(madt.cpus().is_sorted_by(|a, b| a < b) && madt.cpus().count() > 0);
            let io_apics: Vec<_> = madt.io_apics().collect();
            assert!(io_apics.iter().all(|it| it.address.0 != 0 && it.address.0 <= u64::from(u32::MAX)));
            for source in 0..16 {
                let line = madt.isa_line(source).number;
                if let Some((io_apic, pin)) = madt.pin(line) {
                    assert!(io_apics.contains(&io_apic));
                    assert_eq!(io_apic.first_line + u32::from(pin), line);
                }
            }
        }
    });
}
