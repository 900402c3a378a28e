//! The heap's tour, read again: whether its figures agree with each other.

const ARENA: u64 = 64 << 20;
const PAGE: u64 = 8 << 10;
/// The largest may not fit.
const EXHIBITS: std::ops::RangeInclusive<usize> = 9..=10;

/// What is wrong with what the tour said, if anything.
pub(super) fn odd(said: &str) -> Option<String> {
    judge(said).err().map(|fault| format!("{fault} in\n{said}"))
}

fn judge(said: &str) -> Result<(), String> {
    let lines: Vec<&str> = said.lines().collect();
    let [heap, ..] = numbers(lines.first().unwrap_or(&""))[..] else { return Err("no heap begins".into()) };
    let mut placed = 0;
    for exhibit in lines.windows(4).filter(|lines| lines[1].starts_with("   at ")) {
        placed += 1;
        let (Some(&bytes), way) = (numbers(exhibit[0]).last(), exhibit[3]) else { return Err("no size".into()) };
        let [address, slot, slots, slot_bytes, unused] = numbers(exhibit[1])[..] else { return Err("no slot".into()) };
        let [class, base, pages, 8, arena, offset] = numbers(exhibit[2])[..] else { return Err("no span".into()) };
        let checks = [
            (bytes + unused == slot_bytes, "what is unused"),
            ((address - base) / slot_bytes == slot && slot < slots, "the slot"),
            (slots * slot_bytes <= pages * PAGE && (class > 0 || slots == 1), "the span's length"),
            (base == heap + arena * ARENA + offset && offset < ARENA, "the arena"),
            (way.starts_with("   asked: ") && way.len() > 10, "the way"),
        ];
        if let Some((_, what)) = checks.iter().find(|(holds, _)| !holds) {
            return Err(format!("{what} of exhibit {placed} is wrong"));
        }
    }
    if !EXHIBITS.contains(&placed) {
        return Err(format!("{placed} exhibits"));
    }
    let is_row = |line: &&&str| [" noscan ", " precise ", " ambiguous "].iter().any(|kind| line.contains(kind));
    let rows = lines.iter().filter(is_row).filter(|line| !line.contains(':')).map(|line| numbers(line));
    let mut sums = [0; 6];
    for row in rows {
        let [_, _, objects, bytes, tail, spans, partial, full] = row[..] else { return Err("a row is short".into()) };
        if partial + full != spans {
            return Err("a row's spans are neither full nor partial".into());
        }
        sums.iter_mut().zip([objects, bytes, tail, spans, partial, full]).for_each(|(sum, figure)| *sum += figure);
    }
    let all = lines.iter().find(|line| line.trim_start().starts_with("all ")).map(|line| numbers(line));
    if all.as_deref().and_then(|all| all.get(1..)) != Some(&sums[..]) {
        return Err(format!("the rows' sums are {sums:?}"));
    }
    let fragmentation = lines.iter().find(|line| line.starts_with("fragmentation ")).map(|line| numbers(line));
    match fragmentation.as_deref() {
        Some(&[percent, tenth, bytes, in_use]) if (in_use - bytes) * 1000 / in_use == percent * 10 + tenth => {}
        _ => return Err("fragmentation is not what its figures make it".into()),
    }
    adds_up(lines.iter().skip_while(|line| !line.starts_with("HeapInuse ")))
}

/// A column of figures with their signs, the last of which is a sum.
fn adds_up<'a>(column: impl Iterator<Item = &'a &'a str>) -> Result<(), String> {
    let (mut sum, mut sums) = (0, 0);
    for line in column {
        let [bytes] = numbers(line)[..] else { return Err(format!("no figure: {line}")) };
        match line.chars().nth(13) {
            Some('=') if bytes == sum => sums += 1,
            Some('=') => return Err(format!("the column's sum is {sum}")),
            Some('-') if bytes <= sum => sum -= bytes,
            _ => sum += bytes,
        }
    }
    if sums == 2 { Ok(()) } else { Err(format!("{sums} sums of memory")) }
}

/// The numbers of a line, in what base they are; digits within a word (`u64`) are none.
fn numbers(line: &str) -> Vec<u64> {
    let words = line.split(|c: char| !c.is_ascii_alphanumeric());
    words
        .filter_map(|word| {
            word.strip_prefix("0x").map_or_else(|| word.parse().ok(), |hex| u64::from_str_radix(hex, 16).ok())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> String {
        let exhibit = "1. Gc<[u64; 3]>: 24 B\n   at 0x14030: slot 2 of 341, each of 24 B, 0 B unused\n   \
            class 3 noscan, span at 0x14000 of 1 x 8 KiB, arena 0 + 0x4000\n   asked: fast path\n";
        format!(
            "The heap begins at 0x10000.\n{}\n    3 noscan       24   8   192   8   1   1   0\n  all   0   8   192   8   1   1   0\n\
            fragmentation 97.6 %: 192 of 8192 bytes in spans are objects\n\
            HeapInuse           8192  in spans\nStackSys     +      4096  stacks\nSys          =     12288\n\
            HeapReleased -      8192\n             =      4096  given\n",
            exhibit.repeat(9)
        )
    }

    #[test]
    fn figures_that_agree_pass_and_each_wrong_one_is_found() {
        assert_eq!(judge(&sample()), Ok(()));
        for (right, wrong) in [
            ("24 B\n", "23 B\n"),
            ("slot 2", "slot 3"),
            ("of 341", "of 342"),
            ("+ 0x4000", "+ 0x2000"),
            ("asked: fast path", "asked: "),
            ("  all   0   8", "  all   0   9"),
            ("1   1   0\n  all", "1   0   0\n  all"),
            ("97.6", "97.7"),
            ("192 of 8192", "512 of 8192"),
            ("   at ", "   near "),
            ("StackSys     +      4096", "StackSys     +      4097"),
            ("HeapReleased -      8192", "HeapReleased -     99999"),
            ("             =      4096", "             =      4095"),
            ("             =      4096  given\n", ""),
            ("HeapInuse ", "HeapOther "),
        ] {
            assert!(judge(&sample().replace(right, wrong)).is_err(), "{wrong}");
        }
    }
}
