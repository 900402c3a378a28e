//! `alloc`'s two questions: where memory comes from, and what happens when there is none.

use core::alloc::Layout;
use runtime::addr::Bytes;

/// Plain Rust collections live on the collected heap; libc's own memory is another matter, and none of it is used by threads.
#[global_allocator]
static HEAP: runtime::Collected = runtime::Collected;

/// An allocation that cannot fail has failed: the thread ends, or everything with its main thread. `try_reserve` and
/// its like do not come here.
#[alloc_error_handler]
fn out_of_memory(layout: Layout) -> ! {
    runtime::out_of_memory(runtime::Exhausted { asked: Bytes(layout.size()), left: crate::memory::free_memory() })
}
