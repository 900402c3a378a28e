//! Names for addresses: the host's table of our functions.
//!
//! Little endian: the magic, the count, the bytes of names; then per function where it starts (in the ELF file), its size, where
//! its name starts and how long it is, sorted by start; then the names. Nothing in it is trusted: a wrong table gives wrong names
//! or none, never a fault.

pub const MAGIC: &[u8; 8] = b"TRISYM1\0";
const HEADER: usize = 16;
const RECORD: usize = 16;

/// A decoded table; it borrows the blob.
#[derive(Clone, Copy)]
pub struct Symbols<'a> {
    records: &'a [[u8; RECORD]],
    names: &'a [u8],
}

impl<'a> Symbols<'a> {
    /// `None` if the blob is not as long as it says, or not one at all.
    pub fn decode(blob: &'a [u8]) -> Option<Symbols<'a>> {
        let (header, rest) = blob.split_at_checked(HEADER)?;
        let count = word(header, 8)?;
        let (records, names) = rest.split_at_checked(count.checked_mul(RECORD)?)?;
        let names = names.get(..word(header, 12)?)?;
        header.starts_with(MAGIC).then_some(Symbols { records: records.as_chunks().0, names })
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The function around this offset from the image's base, and how far into it the offset is. Logarithmic.
    pub fn lookup(&self, offset: u32) -> Option<(&'a str, u32)> {
        let after = self.records.partition_point(|record| start(record) <= offset);
        let record = self.records.get(after.checked_sub(1)?)?;
        let into = offset.checked_sub(start(record))?;
        if into as usize >= word(record, 4)? {
            return None;
        }
        let from = word(record, 8)?;
        let name = self.names.get(from..from.checked_add(word(record, 12)?)?)?;
        Some((str::from_utf8(name).ok()?, into))
    }
}

fn start(record: &[u8; RECORD]) -> u32 {
    let [a, b, c, d, ..] = *record;
    u32::from_le_bytes([a, b, c, d])
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn blob(functions: &[(u32, u32, &str)]) -> Vec<u8> {
        let names: std::string::String = functions.iter().map(|function| function.2).collect();
        let mut blob = Vec::from(MAGIC);
        let mut push = |number: u32| blob.extend(number.to_le_bytes());
        push(functions.len() as u32);
        push(names.len() as u32);
        let mut from = 0;
        for (start, size, name) in functions {
            [*start, *size, from, name.len() as u32].into_iter().for_each(&mut push);
            from += name.len() as u32;
        }
        blob.extend(names.bytes());
        blob
    }

    #[test]
    fn an_offset_inside_a_function_has_its_name() {
        let blob = blob(&[(0x1000, 0x20, "first"), (0x1020, 8, "größer"), (0x2000, 1, "last")]);
        let symbols = Symbols::decode(&blob).expect("a good table");
        assert_eq!(symbols.len(), 3);
        assert_eq!(symbols.lookup(0x1000), Some(("first", 0)));
        assert_eq!(symbols.lookup(0x101f), Some(("first", 0x1f)));
        assert_eq!(symbols.lookup(0x1027), Some(("größer", 7)));
        assert_eq!(symbols.lookup(0x2000), Some(("last", 0)));
    }

    #[test]
    fn an_offset_between_functions_has_none() {
        let blob = blob(&[(0x1000, 0x20, "first"), (0x2000, 1, "last")]);
        let symbols = Symbols::decode(&blob).expect("a good table");
        for offset in [0, 0xfff, 0x1020, 0x1fff, 0x2001, u32::MAX] {
            assert_eq!(symbols.lookup(offset), None, "{offset:#x}");
        }
    }

    #[test]
    fn a_table_cut_short_anywhere_is_refused() {
        let blob = blob(&[(0x1000, 0x20, "first"), (0x1020, 8, "second")]);
        for length in 0..blob.len() {
            assert!(Symbols::decode(&blob[..length]).is_none(), "{length}");
        }
        assert!(Symbols::decode(&blob).is_some());
    }

    #[test]
    fn no_changed_byte_makes_a_lookup_panic() {
        let good = blob(&[(0x1000, 0x20, "first"), (0x1020, 8, "größer"), (0x2000, 1, "last")]);
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                if let Some(symbols) = Symbols::decode(&bad) {
                    for offset in [0, 0x1000, 0x1021, 0x2000, u32::MAX] {
                        let _ = symbols.lookup(offset);
                    }
                }
            }
        }
    }
}
