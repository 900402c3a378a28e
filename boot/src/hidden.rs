//! No reference may lie where the collector does not look. It reads aligned words, and scans no memory of alignment under 8; a packed
//! type may lay a pointer across two words, or have so small an alignment.
//!
//! The compiler refuses to derive `Trace` for one, but not such a type without it, be it with a `Gc`, a `Box`, a
//! reference, or a type parameter that turns out to be one. So the kernel's debug information is asked where each type
//! of it, whoever wrote it, has its pointers.

use std::collections::{BTreeSet, HashMap};

use gimli::{AttributeValue, DwTag, EndianSlice, LittleEndian};
use object::{Object, ObjectSection};

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// A word, as the collector reads memory.
const WORD: u64 = 8;

struct Type {
    tag: DwTag,
    name: String,
    alignment: Option<u64>,
    /// What a pointer points to, an array consists of.
    of: Option<usize>,
    /// Where each field is, and its type.
    fields: Vec<(u64, usize)>,
}

/// An error names the types that hide a reference.
pub(crate) fn check(elf: &[u8]) -> Result<(), String> {
    let types = types(elf).map_err(|error| format!("the debug information cannot be read: {error}"))?;
    let mut known = HashMap::new();
    let mut hidden = BTreeSet::new();
    for ty in types.values() {
        for &(offset, field) in &ty.fields {
            let is_aligned = offset % WORD == 0 && ty.alignment.is_none_or(|alignment| alignment >= WORD);
            if !is_aligned && holds_reference(&types, field, &mut known) {
                hidden.insert(format!("{} at byte {offset}", ty.name));
            }
        }
    }
    if hidden.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = hidden.into_iter().collect();
    Err(format!(
        "these packed types hide a reference from the collector, which reads aligned words: {}",
        list.join(", ")
    ))
}

/// Whether a value of the type has a pointer in it that may lead into the heap. Functions are not there.
fn holds_reference(types: &HashMap<usize, Type>, at: usize, known: &mut HashMap<usize, bool>) -> bool {
    if let Some(&known) = known.get(&at) {
        return known;
    }
    known.insert(at, false); // for a type inside itself, behind a pointer
    let Some(ty) = types.get(&at) else { return false };
    let holds = match ty.tag {
        gimli::DW_TAG_pointer_type => {
            ty.of.and_then(|of| types.get(&of)).is_none_or(|of| of.tag != gimli::DW_TAG_subroutine_type)
        }
        gimli::DW_TAG_array_type => ty.of.is_some_and(|of| holds_reference(types, of, known)),
        _ => ty.fields.iter().any(|&(_, field)| holds_reference(types, field, known)),
    };
    known.insert(at, holds);
    holds
}

/// Every entry that is a type, by its place in `.debug_info`.
fn types(elf: &[u8]) -> gimli::Result<HashMap<usize, Type>> {
    let file = object::File::parse(elf).map_err(|_| gimli::Error::Io)?;
    let section = |id: gimli::SectionId| {
        let data = file.section_by_name(id.name()).and_then(|section| section.data().ok());
        Ok::<_, gimli::Error>(EndianSlice::new(data.unwrap_or_default(), LittleEndian))
    };
    let dwarf = gimli::Dwarf::load(section)?;
    let mut types = HashMap::new();
    let mut units = dwarf.units();
    while let Some(header) = units.next()? {
        let unit = dwarf.unit(header)?;
        let place = |value: AttributeValue<Slice>| match value {
            AttributeValue::UnitRef(offset) => offset.to_debug_info_offset(&unit.header).map(|offset| offset.0),
            AttributeValue::DebugInfoRef(offset) => Some(offset.0),
            _ => None,
        };
        let mut entries = unit.entries();
        // The types around an entry, by their depth: a variant's field belongs to its enum.
        let mut around: Vec<(isize, usize)> = Vec::new();
        while let Some(entry) = entries.next_dfs()? {
            around.retain(|&(depth, _)| depth < entry.depth());
            let Some(here) = entry.offset().to_debug_info_offset(&unit.header) else { continue };
            let of = entry.attr_value(gimli::DW_AT_type).and_then(place);
            if entry.tag() == gimli::DW_TAG_member {
                let offset = entry.attr_value(gimli::DW_AT_data_member_location).and_then(|value| value.udata_value());
                let owner: Option<&mut Type> = around.last().and_then(|(_, owner)| types.get_mut(owner));
                if let (Some(owner), Some(of), Some(offset)) = (owner, of, offset) {
                    owner.fields.push((offset, of));
                }
                continue;
            }
            let name = entry.attr_value(gimli::DW_AT_name).and_then(|name| dwarf.attr_string(&unit, name).ok());
            let name = name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let alignment = entry.attr_value(gimli::DW_AT_alignment).and_then(|value| value.udata_value());
            types.insert(here.0, Type { tag: entry.tag(), name, alignment, of, fields: Vec::new() });
            if matches!(entry.tag(), gimli::DW_TAG_structure_type | gimli::DW_TAG_union_type) {
                around.push((entry.depth(), here.0));
            }
        }
    }
    Ok(types)
}

#[cfg(test)]
mod tests {
    use super::check;
    use std::process::Command;

    fn compiled(source: &str) -> Result<(), String> {
        let folder = tempfile::tempdir().expect("a folder for a moment");
        let (source_file, object) = (folder.path().join("types.rs"), folder.path().join("types.o"));
        std::fs::write(&source_file, source).expect("the source");
        let mut rustc = Command::new("rustc");
        rustc.current_dir(crate::compile::root()).args([
            "--edition=2024",
            "--crate-type=lib",
            "--emit=obj",
            "-g",
            "--cap-lints=allow",
        ]);
        rustc.arg("--target=x86_64-unknown-none").arg(&source_file).arg("-o").arg(&object);
        assert!(rustc.status().expect("rustc").success());
        check(&std::fs::read(object).expect("an object file"))
    }

    const USES: &str = "#[unsafe(no_mangle)] pub fn uses(value: &Type) -> *const Type { value }\n";

    #[test]
    fn packed_types_that_hold_a_reference_are_found_however_deep_it_lies() {
        for ty in [
            "#[repr(C, packed)] pub struct Type(u8, &'static u64);",
            "#[repr(C, packed)] pub struct Type(u8, Option<core::ptr::NonNull<u64>>);",
            "pub struct Gc<T: ?Sized>(core::ptr::NonNull<T>); #[repr(C, packed)] pub struct Type(u8, Gc<u64>);",
            "pub struct Gc<T: ?Sized>(core::ptr::NonNull<T>); #[repr(C, packed)] pub struct Type(u8, Gc<dyn Send>);",
            "#[repr(C, packed(4))] pub struct Type(u32, [(u64, &'static str); 2]);",
            "#[repr(C, packed)] pub struct Type(&'static u64);",
            "#[repr(C, packed)] pub struct P<T>(u8, T); pub type Type = P<&'static u64>;",
            "#[repr(C, packed)] pub struct P(u8, &'static u64); pub struct Type { inner: Option<P>, number: u64 }",
        ] {
            let error = compiled(&format!("#![no_std]\n{ty}\n{USES}")).expect_err(ty);
            assert!(error.contains("hide a reference"), "{error}");
        }
    }

    #[test]
    fn other_types_pass_packed_or_not() {
        for ty in [
            "pub struct Type(u8, &'static u64);",
            "#[repr(C, packed)] pub struct Type(u8, u64, fn(u8) -> u8);",
            "#[repr(C, packed(8))] pub struct Type(u64, &'static u64);",
            "pub enum Type { A(u8), B(u32, &'static str), C([Option<&'static u8>; 3]) }",
            "pub struct Type { next: Option<&'static Type>, short: u16 }",
        ] {
            assert_eq!(compiled(&format!("#![no_std]\n{ty}\n{USES}")), Ok(()), "{ty}");
        }
    }
}
