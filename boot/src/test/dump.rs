//! Go's goroutine dumps, read as strictly as the programs that read them do.
//!
//! A header, two lines for each frame, perhaps a line about frames left out, perhaps the creator with its place; an empty line ends it.

/// The first line of the text's dumps that Go would not print.
pub(crate) fn oddity(text: &str) -> Option<&str> {
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if !line.starts_with("goroutine ") {
            continue;
        }
        if !is_header(line) {
            return Some(line);
        }
        let mut block = lines.by_ref().take_while(|line| !line.is_empty() && !line.starts_with("status ")).peekable();
        while let Some(line) = block.next() {
            if line.starts_with('@') || is_elision(line) {
                continue;
            }
            let is_function = line.ends_with("(...)") && !line.starts_with(char::is_whitespace) || is_creator(line);
            if !is_function || !block.next().is_some_and(is_place) {
                return Some(line);
            }
        }
    }
    None
}

/// `goroutine 7 [sleep, 2 minutes]:`
fn is_header(line: &str) -> bool {
    let parts = line.strip_prefix("goroutine ").and_then(|rest| rest.strip_suffix("]:")?.split_once(" ["));
    parts.is_some_and(|(id, state)| {
        let (state, minutes) = state.split_once(", ").unwrap_or((state, "1 minutes"));
        is_number(id) && !state.is_empty() && minutes.strip_suffix(" minutes").is_some_and(is_number)
    })
}

/// `created by f in goroutine 1`
fn is_creator(line: &str) -> bool {
    let parts = line.strip_prefix("created by ").and_then(|rest| rest.rsplit_once(" in goroutine "));
    parts.is_some_and(|(_, id)| is_number(id))
}

/// `\tfile:line +0x25`; what has no line has its address.
fn is_place(line: &str) -> bool {
    let Some(place) = line.strip_prefix('\t') else { return false };
    let (place, offset) = place.split_once(" +0x").unwrap_or((place, "0"));
    let has_line = place.rsplit_once(':').is_some_and(|(file, line)| file.contains('.') && is_number(line));
    (has_line || place.starts_with("0x")) && u64::from_str_radix(offset, 16).is_ok()
}

/// `...100 frames elided...`
fn is_elision(line: &str) -> bool {
    line.strip_prefix("...").and_then(|rest| rest.strip_suffix(" frames elided...")).is_some_and(is_number)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::oddity;

    #[test]
    fn gos_own_dump_is_read() {
        let dump = "fatal error: x\n\ngoroutine 1 [running]:\nmain.f(...)\n\t/tmp/x.go:5 +0x25\n...12 frames elided...\n\
            main.main(...)\n\t/tmp/x.go:9 +0x1\n\ngoroutine 34 [chan receive, 2 minutes]:\nmain.g(...)\n\t/tmp/x.go:7\n\
            created by main.main in goroutine 1\n\t/tmp/x.go:3 +0x15\nstatus 2; x\nother words\n";
        assert_eq!(oddity(dump), None);
        for (good, bad) in [
            ("goroutine 1 [running]:", "goroutine 1 [running]"),
            (", 2 minutes", ", two minutes"),
            ("\t/tmp/x.go:5 +0x25", "/tmp/x.go:5 +0x25"),
            ("main.f(...)", "main.f"),
            ("in goroutine 1", "in goroutine x"),
            ("\t/tmp/x.go:3 +0x15\n", ""),
        ] {
            assert!(oddity(&dump.replace(good, bad)).is_some(), "{bad}");
        }
    }
}
