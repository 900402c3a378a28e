//! The grammar of the line that Go prints per collection under `GODEBUG=gctrace=1` (Go: mgc.go, gcMarkTermination).

/// `#` stands for a number; a collection that was asked for has ` (forced)` behind it.
const SHAPE: &str =
    "gc # @#s #%: #+#+# ms clock, #+#/#/#+# ms cpu, #->#-># MB, # MB goal, # MB stacks, # MB globals, # P";

/// What is read of a line.
#[derive(Debug, PartialEq)]
pub(crate) struct Collection {
    pub(crate) number: u64,
    /// Live heap after marking, in MB.
    pub(crate) live: u64,
}

/// Reads a line; none if Go would not have printed it.
pub(crate) fn parse(line: &str) -> Option<Collection> {
    let mut rest = line.strip_suffix(" (forced)").unwrap_or(line);
    let mut numbers = Vec::new();
    for character in SHAPE.chars() {
        if character == '#' {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            // Go writes no leading point, no trailing one, and not two.
            numbers.push(
                rest[..end].parse::<f64>().ok().filter(|_| !rest.starts_with('.') && !rest[..end].ends_with('.'))?,
            );
            rest = &rest[end..];
        } else {
            rest = rest.strip_prefix(character)?;
        }
    }
    rest.is_empty().then(|| Collection { number: numbers[0] as u64, live: numbers[13] as u64 })
}

#[cfg(test)]
mod tests {
    use super::{Collection, parse};

    const LINE: &str = "gc 7 @0.114s 3%: 0.018+1.2+0.003 ms clock, 0.14+0.35/1.0/0+0.024 ms cpu, 4->5->1 MB, 4 MB goal, 0 MB stacks, 0 MB globals, 8 P";

    #[test]
    fn gos_own_lines_are_read() {
        assert_eq!(parse(LINE), Some(Collection { number: 7, live: 1 }));
        assert_eq!(parse(&format!("{LINE} (forced)")), parse(LINE));
    }

    #[test]
    fn anything_else_is_refused() {
        for broken in [
            "",
            "gc 7",
            &LINE[1..],
            &LINE[..LINE.len() - 1],
            &LINE.replace("1.2", "1.2.3"),
            &LINE.replace("->", ">"),
            &LINE.replace("@0", "@"),
        ] {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }
}
