//! A thread recurses until it has used so many bytes of stack. Each fault below the committed part commits more of it in place: on
//! the way back every frame finds itself unchanged and where it was.

use core::hint::black_box;
use runtime::prelude::*;
use runtime::program::{Arguments, MISUSED};

/// What the thread's first frames and the last step take beyond what was asked.
const SLACK: u64 = 64 << 10;
const DEFAULT_LIMIT: u64 = 64 << 20;

#[program("deep-recursion BYTES", "grows a stack to BYTES and finds every frame unchanged on the way back")]
fn deep_recursion(arguments: &Arguments) -> u8 {
    let Some([bytes]) = arguments.numbers([(0, 32 << 30)]) else { return MISUSED };
    let limit = (bytes + SLACK).max(DEFAULT_LIMIT);
    let ended = Builder::new().stack_limit(limit as usize).spawn(move || {
        let top = 0;
        let top = (&raw const top).addr();
        descend(0, top, top.saturating_sub(bytes as usize))
    });
    let walk = match ended.map(JoinHandle::join) {
        Ok(Ok(walk)) => walk,
        Ok(Err(failure)) => {
            println!("the thread ended of {failure}");
            return 1;
        }
        Err(exhausted) => {
            println!("no memory for the thread: {exhausted:?}");
            return 1;
        }
    };
    println!("{} frames on {} bytes of stack", walk.frames, walk.bytes);
    println!("{} frames changed or moved", walk.changed);
    u8::from(walk.changed != 0)
}

struct Walk {
    frames: u64,
    bytes: usize,
    changed: u64,
}

/// One frame of some 200 bytes, its words a function of its depth and its address.
#[inline(never)]
fn descend(depth: u64, top: usize, bottom: usize) -> Walk {
    let mut words = [0u64; 16];
    let address = (&raw const words).addr();
    words.fill(depth ^ address as u64);
    black_box(&mut words);
    let mut walk = if address > bottom {
        descend(depth + 1, top, bottom)
    } else {
        Walk { frames: depth + 1, bytes: top - address, changed: 0 }
    };
    let is_same =
        (&raw const words).addr() == address && black_box(&words).iter().all(|word| *word == depth ^ address as u64);
    walk.changed += u64::from(!is_same);
    walk
}
