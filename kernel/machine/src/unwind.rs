//! Unwinding: the crate `unwinding` walks the frames by the tables that the linker gathered.
//!
//! It asks for SSE's and x87's control words to be there (control.rs sees to it), for 17 KiB of stack, and for no
//! memory: the exception lies where the runtime keeps it. Functions in assembly have no entry in the tables; the walk
//! ends at them.
//!
//! The hosted platform compiles this file too.

use runtime::addr::Address;
use runtime::platform::Exception;
use unwinding::abi::UnwindException;
use unwinding::custom_eh_frame_finder::{EhFrameFinder, FrameInfo, FrameInfoKind, set_custom_eh_frame_finder};

use crate::memory::{text, unwind_tables};

const _: () = assert!(size_of::<UnwindException>() <= size_of::<Exception>());
const _: () = assert!(align_of::<UnwindException>() <= align_of::<Exception>());

/// Where the tables are.
struct Tables;

// SAFETY: the header is what the linker made of this image's own tables, and they never change.
unsafe impl EhFrameFinder for Tables {
    fn find(&self, pc: usize) -> Option<FrameInfo> {
        let kind = FrameInfoKind::EhFrameHdr(unwind_tables().0);
        text().contains(Address(pc)).then(|| FrameInfo { text_base: Some(text().start.0), kind })
    }
}

/// Tells the unwinder where the tables are. Before that a panic has no way back.
pub(crate) fn start() {
    set_custom_eh_frame_finder(&Tables).expect("the bring-up does this once");
}

/// An exception as the unwinder hands it on: a pointer into the thread's record, which nobody frees.
struct Raised(*mut UnwindException);

// SAFETY: `wrap` gives the pointer that `unwrap` gets back, to memory that lives for ever.
unsafe impl unwinding::panicking::Exception for Raised {
    const CLASS: [u8; 8] = *b"TRICOLOR";

    fn wrap(this: Raised) -> *mut UnwindException {
        this.0
    }

    unsafe fn unwrap(exception: *mut UnwindException) -> Raised {
        Raised(exception)
    }
}

/// Calls `f`; true if it was unwound.
pub(crate) fn catch(f: &mut dyn FnMut()) -> bool {
    unwinding::panicking::catch_unwind::<Raised, _, _>(f).is_err()
}

/// Unwinds to the innermost [`catch`]. Comes back if no frame catches.
pub(crate) fn raise(exception: &Exception) {
    unwinding::panicking::begin_panic(Raised(exception.0.get().cast()));
}
