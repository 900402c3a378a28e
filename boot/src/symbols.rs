//! The kernel's symbol table, as small as a lookup by address allows: every function's place, size and readable name.
//!
//! ```text
//! "TRISYM1\0"  u32 count  u32 bytes_of_names
//! count × { u32 start  u32 size  u32 name_offset  u32 name_len }      sorted by start, an address in the ELF file
//! names, UTF-8                                                        all numbers little endian
//! ```

use object::{Object, ObjectSymbol, SymbolKind};

/// Where the kernel runs; its ELF file is linked at 0.
pub(crate) const IMAGE_BASE: u64 = 0xffff_ffff_8000_0000;

/// Where in its ELF file a running address lies. That of a process runs where it is linked, below.
pub(crate) fn in_file(address: u64) -> u64 {
    address.checked_sub(IMAGE_BASE).unwrap_or(address)
}

/// The table of an ELF file.
pub(crate) fn table(elf: &[u8]) -> Result<Vec<u8>, String> {
    let file = object::File::parse(elf).map_err(|error| format!("not an ELF file: {error}"))?;
    let functions = file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.is_definition());
    Ok(encode(functions.filter_map(|symbol| Some((symbol.address(), symbol.size(), symbol.name().ok()?))).collect()))
}

fn encode(mut functions: Vec<(u64, u64, &str)>) -> Vec<u8> {
    functions.sort();
    functions.dedup_by_key(|function| function.0);
    let (mut entries, mut names) = (Vec::new(), String::new());
    for &(start, size, name) in &functions {
        let name_offset = names.len();
        names += &format!("{:#}", rustc_demangle::demangle(name));
        for number in [start, size, name_offset as u64, (names.len() - name_offset) as u64] {
            entries.extend_from_slice(&(number as u32).to_le_bytes());
        }
    }
    let counts = [functions.len() as u32, names.len() as u32].map(u32::to_le_bytes).concat();
    [b"TRISYM1\0", &*counts, &*entries, names.as_bytes()].concat()
}

/// The function that a running kernel's address lies in, with the distance from its start.
pub(crate) fn name_at(table: &[u8], address: u64) -> Option<String> {
    let offset = usize::try_from(address.checked_sub(IMAGE_BASE)?).ok()?;
    let number = |at: usize| Some(u32::from_le_bytes(*table.get(at..)?.first_chunk()?) as usize);
    let names = 16 + 16 * number(8)?;
    let entry = (16..names).step_by(16).take_while(|&at| number(at).is_some_and(|start| start <= offset)).last()?;
    let distance = offset - number(entry)?;
    let name = table.get(names + number(entry + 8)?..)?.get(..number(entry + 12)?)?;
    Some(format!("{}+{distance:#x}", String::from_utf8_lossy(name)))
}

#[cfg(test)]
mod tests {
    use super::{IMAGE_BASE, encode, name_at};

    #[test]
    fn functions_are_sorted_named_readably_and_listed_once() {
        let table =
            encode(vec![(0x200, 9, "plain"), (0x100, 16, "_ZN6kernel4main17h0123456789abcdefE"), (0x200, 9, "twin")]);
        let numbers: Vec<u32> = table[8..16 + 32]
            .chunks(4)
            .map(|bytes| u32::from_le_bytes(bytes.try_into().expect("four bytes")))
            .collect();
        assert_eq!(&table[..8], b"TRISYM1\0");
        assert_eq!(numbers, [2, 17, 0x100, 16, 0, 12, 0x200, 9, 12, 5]);
        assert_eq!(&table[48..], b"kernel::mainplain");
        let name = |offset| name_at(&table, IMAGE_BASE + offset);
        assert_eq!((name(0xff), name(0x10f).as_deref()), (None, Some("kernel::main+0xf")));
        assert_eq!((name_at(&table, 5), name_at(&table[..60], IMAGE_BASE + 0x200)), (None, None));
    }
}
