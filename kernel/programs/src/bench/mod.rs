//! bench-go's rows, measured here: the same names, the same work, the same sizes, the same way of choosing how often.
//!
//! Lines of `name value unit`; what begins with `#` is a remark. Rows are measured in groups (one file has a few), each from a freshly
//! collected heap under GOGC=100. How: measure.rs, value.rs. Randomness is Go's own generator with Go's seeds (pcg.rs).
//!
//! What the same work means, group by group:
//!
//! | group            | as in Go                                      | otherwise than in Go                                             |
//! |------------------|-----------------------------------------------|-------------------------------------------------------------------|
//! | machine          | loops, sizes; nothing is folded               | no vDSO: `time.Now` is one read of the TSC, Go's are two; memset and memcpy are ours (machine/src/bulk.rs), in a process libc's; no SSE without a system under us; system calls, page faults and mprotect have no counterpart |
//! | alloc            | zeroed objects, a pointer map for the types with a reference, each stored in a global | |
//! | alloc-parallel   | one thread, started and awaited in the timed region | p2 and p4 wait for more CPUs                                 |
//! | global           | nothing: Go has no block that its owner frees | blocks of Rust's own `Box` and `Vec`                              |
//! | bintrees, gcbench | node types, order of allocation, long-lived data in globals | no write barrier yet, for the world stands still; gcbench's 250,000 divisions are the compiler's own without a floating-point unit in use |
//! | mark, sweep      | graphs equal edge by edge, the scaffolding dropped, a full collection | marked in one stop, then swept by whoever asked |
//! | stw              | an empty collection; its pause                | one CPU: nobody else has to stop, so no time to stop, and no spinners |
//! | mem              | sizes, order of replacement                   | metadata is what the records take from the machine, used or not    |
//! | stack            | frames that point into the one above, fresh threads, collector off | a stack begins with up to 16 KiB of the one before it, Go's with 2 to 8 KiB |
//! | goroutine, gosched | what is started, waited for, yielded       | `spawn+join` joins, Go receives from a channel                     |
//!
//! Nothing is dropped in a timed loop that Go would leave to its collector. Which of its rows are left out, and why: [`MISSING`].

mod alloc;
mod collector;
mod machine;
mod measure;
mod memory;
mod pcg;
mod threads;
mod value;

use measure::{Bench, MIB};
use runtime::prelude::*;
use runtime::program::Arguments;
use value::Thousandths;

type Group = (&'static str, fn(&Bench));

/// In bench-go's order, but for the first: what the heap holds is only to be seen while it is small.
const GROUPS: [Group; 12] = [
    ("mem", memory::overhead),
    ("machine", machine::machine),
    ("alloc", alloc::serial),
    ("alloc-parallel", alloc::parallel),
    ("global", alloc::global),
    ("gc-bintrees", collector::binary_trees),
    ("gc-gcbench", collector::gc_bench),
    ("gc-mark", collector::mark),
    ("gc-sweep", collector::sweep),
    ("gc-stw", collector::stop),
    ("stack", threads::stacks),
    ("sched", threads::switches),
];

/// Go's rows that are not here, by a part of their names, and why. `./x bench --against-go` lists them so.
const MISSING: [(&str, &str); 15] = [
    ("/p2", "one CPU so far"),
    ("/p4", "one CPU so far"),
    ("pauses/churn", "one CPU so far"),
    ("stw/3", "one CPU so far"),
    ("stw/4", "one CPU so far"),
    ("/stopping", "one CPU so far"),
    ("machine/syscall", "no system calls, and no faults but a stack's"),
    ("machine/pagefault", "no system calls, and no faults but a stack's"),
    ("machine/mprotect", "no system calls, and no faults but a stack's"),
    ("waitgroup/", "no channels and locks so far"),
    ("chan/", "no channels and locks so far"),
    ("select", "no channels and locks so far"),
    ("mutex/", "no channels and locks so far"),
    ("sieve/", "no channels and locks so far"),
    ("parked/", "no channels and locks so far"),
];

#[program("bench [quick] [fixed] [rows=PART,PART]", "measures what bench-go measures of Go: name, value, unit")]
fn bench(arguments: &Arguments) -> u8 {
    let bench = match Bench::parse(arguments.words()) {
        Ok(bench) => bench,
        Err(word) => return arguments.refuse(format_args!("unexpected `{word}`")),
    };
    let free_mib = runtime::inspect::free_memory().0 / MIB;
    println!(
        "# tricolor free={free_mib}MiB target={}ms quick={} fixed={}",
        bench.target_ns / 1_000_000,
        bench.quick,
        bench.fixed
    );
    MISSING.iter().for_each(|(part, why)| println!("# missing {part}: {why}"));
    let start_ns = now();
    let seconds = |since_ns: u64| Thousandths::each(now() - since_ns, 1_000_000_000);
    for (name, measure) in GROUPS {
        set_gc_percent(Some(100));
        collect();
        let (group_ns, printed) = (now(), bench.printed.get());
        // Whatever a row needs that is not there ends its group only.
        if let Err(failure) = catch_unwind(|| measure(&bench)) {
            println!("# group {name}: {failure}");
        }
        if bench.printed.get() > printed {
            println!("# group {name} took {} s", seconds(group_ns));
        }
    }
    println!("# total {} s", seconds(start_ns));
    if !bench.has_met.get() {
        return arguments.refuse("no row has such a name");
    }
    0
}
