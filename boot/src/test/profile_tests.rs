//! `./x profile` of binary-trees: the program's chain reaches from the thread's entry down into the allocator and into the marker.

use std::sync::Arc;
use std::time::Duration;

use super::{Boot, Verdict, machine};
use crate::image::Image;
use crate::machine::Firmware;
use crate::profile;

const NAME: &str = "bios::profile::binary_trees_shows_the_allocator_and_the_marker";
const PROGRAM: &str = "programs::binary_trees::binary_trees;";
/// Called, and inlined into its caller; in this order below the program. (Of two functions with the same code the linker keeps one name.)
const CHAINS: [&[&str]; 2] = [
    &["bottom_up;", "runtime::allocator::new_object::<"],
    &["runtime::allocator::refill", "runtime::gc::collect_for", "<runtime::gc::mark::Marker>::drain"],
];
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn plan(image: &Arc<Image>, wanted: &dyn Fn(&str) -> bool) -> Option<Boot> {
    let image = image.clone();
    wanted(NAME).then(|| Boot { tests: vec![NAME.into()], run: Box::new(move |report| report(NAME, judge(&image))) })
}

fn judge(image: &Image) -> Verdict {
    let machine = machine(Firmware::Bios, "512M");
    let (stacks, status) = profile::sampled(image, &machine, "binary-trees 16", Some(LIMIT), |_, _| {})?;
    let is_met = |chain: &&[&str]| {
        let below = stacks.keys().filter_map(|stack| Some(stack.split_once(PROGRAM)?.1));
        below.into_iter().any(|below| {
            let rest = chain.iter().try_fold(below, |rest, name| Some(rest.split_once(name)?.1));
            rest.is_some()
        })
    };
    match CHAINS.iter().find(|chain| !is_met(chain)) {
        None if status == 0 => Ok(()),
        None => Err(format!("status {status}")),
        Some(chain) => Err(format!("{} are not below {PROGRAM} in {stacks:#?}", chain.join(", "))),
    }
}
