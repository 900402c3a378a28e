//! `alloc`'s two questions to a kernel: where memory comes from, and what happens when there is none.

use core::alloc::Layout;
use runtime::addr::Bytes;
use runtime::platform::Platform;

/// Plain Rust collections live on the collected heap.
#[global_allocator]
static HEAP: runtime::Collected = runtime::Collected;

/// An allocation that cannot fail has failed: the thread ends, or the kernel with its main thread. `try_reserve` and
/// its like do not come here.
#[alloc_error_handler]
fn out_of_memory(layout: Layout) -> ! {
    runtime::out_of_memory(runtime::Exhausted {
        asked: Bytes(layout.size()),
        left: crate::platform::MACHINE.free_memory(),
    })
}
