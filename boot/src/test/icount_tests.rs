//! `./x bench --icount`: two boots need the same instructions to the digit, and the gate shuts where one needs more than is recorded.

use std::sync::Arc;

use super::{Boot, Verdict};
use crate::bench::icount::{self, Counts};
use crate::image::Image;

const NAME: &str = "bios::bench::instructions_repeat_exactly_and_a_dearer_row_is_named";
/// An allocation with refills and collections between; a switch; something that never changes.
const ROWS: [&str; 3] = ["alloc/noscan/64/gogc=100", "gosched/switch/p1", "machine/alu-chain"];

pub(crate) fn plan(image: &Arc<Image>, wanted: &dyn Fn(&str) -> bool) -> Option<Boot> {
    let image = image.clone();
    wanted(NAME).then(|| Boot { tests: vec![NAME.into()], run: Box::new(move |report| report(NAME, judge(&image))) })
}

fn judge(image: &Image) -> Verdict {
    let count = || -> Result<Counts, String> {
        let rows = icount::count(image, &ROWS.map(str::to_owned))?;
        Ok(rows.into_iter().map(|(name, count, _)| (name, count)).collect())
    };
    let (counts, again) = (count()?, count()?);
    if counts != again || counts.keys().ne(ROWS) {
        return Err(format!("{counts:?}, then {again:?}"));
    }
    for (name, count) in &counts {
        let mut record = counts.clone();
        record.insert(name.clone(), count / 1.06);
        let (dearer, other) = icount::compare(&record, &counts);
        if dearer.len() != 1 || !dearer[0].starts_with(name) || !other.is_empty() {
            return Err(format!("recorded are {record:?}, counted {counts:?}: {dearer:?}"));
        }
    }
    Ok(())
}
