//! Files and lines for the call chains in the kernel's reports, from the debug information of its ELF file.
//!
//! The kernel knows its functions' names but no lines. It prints a frame as Go does, an address where Go has the line:
//!
//! ```text
//! name(...)                               what is inlined there gets frames of its own, as in Go
//! \t0xffffffff80012345 +0x25              becomes \tkernel/runtime/src/sched/end.rs:51 +0x25
//! ```

use std::path::{Path, PathBuf};

use addr2line::{Frame, Loader};

use crate::compile;
use crate::symbols;

const CREATOR: &str = "created by ";

/// The lines of one ELF file, read when the first is wanted: it takes a good part of a second.
pub(crate) struct Lines {
    elf: Option<PathBuf>,
    loader: Option<Loader>,
}

/// Whether a line of a report may be the first of a frame's two.
pub(crate) fn begins_frame(line: &str) -> bool {
    line.ends_with("(...)") || line.starts_with(CREATOR)
}

impl Lines {
    pub(crate) fn of(elf: &Path) -> Lines {
        Lines { elf: Some(elf.to_owned()), loader: None }
    }

    /// Of a kernel of which nothing is known.
    pub(crate) fn none() -> Lines {
        Lines { elf: None, loader: None }
    }

    /// The frame whose two lines these are, with files and lines; `None` if they are none, or nothing is known of the address.
    pub(crate) fn frame(&mut self, function: &str, place: &str) -> Option<String> {
        let (address, offset) = place.strip_prefix("\t0x")?.split_once(' ')?;
        let address = u64::from_str_radix(address, 16).map(symbols::in_file).ok()?;
        let mut frames = self.loader()?.find_frames(address).ok()?;
        let mut text = String::new();
        while let Some(frame) = frames.next().ok()? {
            let line = place_of(&frame)?;
            match (function.strip_prefix(CREATOR).and_then(|rest| rest.split_once(" in ")), name_of(&frame)) {
                // Of the frames inlined there the innermost is the one that says `go`.
                (Some((_, goroutine)), Some(name)) => {
                    return Some(format!("{CREATOR}{name} in {goroutine}\n\t{line} {offset}\n"));
                }
                (None, Some(name)) => text += &format!("{name}(...)\n\t{line} {offset}\n"),
                (_, None) => text += &format!("{function}\n\t{line} {offset}\n"),
            }
        }
        (!text.is_empty()).then_some(text)
    }

    /// The functions that an address belongs to, the innermost of those inlined there first.
    pub(crate) fn functions(&mut self, address: u64) -> Vec<String> {
        let offset = symbols::in_file(address);
        let Some(loader) = self.loader() else { return Vec::new() };
        let mut names = Vec::new();
        if let Ok(mut frames) = loader.find_frames(offset) {
            while let Ok(Some(frame)) = frames.next() {
                names.extend(name_of(&frame));
            }
        }
        if names.is_empty() {
            let symbol = loader.find_symbol(offset).map(|name| format!("{:#}", rustc_demangle::demangle(name)));
            names.push(symbol.unwrap_or("?".into()));
        }
        names
    }

    fn loader(&mut self) -> Option<&Loader> {
        if self.loader.is_none() {
            self.loader = Loader::new(self.elf.take()?).ok();
        }
        self.loader.as_ref()
    }
}

fn name_of<R: addr2line::gimli::Reader>(frame: &Frame<'_, R>) -> Option<String> {
    let name = frame.function.as_ref()?.raw_name().ok()?.into_owned();
    Some(format!("{:#}", rustc_demangle::demangle(&name)))
}

/// `file:line`, the file as seen from the workspace's root, or that of Rust's own source.
fn place_of<R: addr2line::gimli::Reader>(frame: &Frame<'_, R>) -> Option<String> {
    let location = frame.location.as_ref()?;
    let file = Path::new(location.file?);
    let file = file.strip_prefix(compile::root()).unwrap_or(file).to_string_lossy();
    let file = file.rsplit_once("/rustlib/src/rust/").map_or(&*file, |(_, file)| file);
    Some(format!("{file}:{}", location.line?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Our own address: the boot tool has debug information too.
    #[inline(never)]
    fn somewhere() -> u64 {
        std::hint::black_box(std::process::id()).into()
    }

    #[test]
    fn an_address_gets_its_file_and_line_and_its_creator_too() {
        let elf = std::env::current_exe().expect("a test has a file");
        let file = std::fs::read(&elf).expect("it can be read");
        let file = object::File::parse(&*file).expect("it is an ELF file");
        use object::{Object, ObjectSymbol};
        let symbol = file.symbols().find(|symbol| symbol.name().is_ok_and(|name| name.contains("9somewhere")));
        let address = symbols::IMAGE_BASE + symbol.expect("it is not inlined").address();
        let mut lines = Lines::of(&elf);
        assert!(somewhere() > 0);
        let frame = lines.frame("name(...)", &format!("\t{address:#x} +0x5")).expect("there is a line");
        assert!(frame.contains("somewhere(...)\n\tboot/src/lines.rs:") && frame.ends_with(" +0x5\n"), "{frame}");
        let frame = lines.frame("created by f in goroutine 7", &format!("\t{address:#x} +0x5")).expect("a line");
        assert!(frame.starts_with("created by boot::") && frame.contains("somewhere in goroutine 7\n"), "{frame}");
        assert_eq!(lines.frame("name(...)", "\tsrc/main.rs:5 +0x5\n"), None);
        // Not a low one: there the linker leaves the lines of functions that it dropped.
        let nowhere = symbols::IMAGE_BASE + (1 << 30);
        assert_eq!(lines.frame("name(...)", &format!("\t{nowhere:#x} +0x5\n")), None);
    }
}
