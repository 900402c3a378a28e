//! What a kernel of tests needs: the list of tests, and whose fault a death is. Both platforms run the same tests by it.
//!
//! Only with the feature `switch-off`; in the kernel that users boot no test runs, and what a platform asks here has the answer no.
//!
//! Unsafe here: the list's place, and what the two files beside do with registers.
#![allow(unsafe_code)]

#[cfg(feature = "switch-off")]
mod expect;
#[cfg(feature = "switch-off")]
mod run;
#[cfg(feature = "switch-off")]
mod step;

#[cfg(feature = "switch-off")]
pub use expect::{CaughtFault, expect_fault, leave};
#[cfg(feature = "switch-off")]
pub use run::{fail, platform, run};
#[cfg(feature = "switch-off")]
pub use step::{Hook, each_instruction, stepped};

/// One test; `#[kernel_test]` puts it into the link section `tests`.
#[repr(C)]
pub struct KernelTest {
    /// `module::path::name`.
    pub name: &'static str,
    pub run: fn(),
}

#[cfg(not(feature = "switch-off"))]
mod none {
    use crate::addr::{Address, Range};
    use crate::platform::Registers;
    use core::fmt;

    /// No test is running.
    pub fn fail(_: fmt::Arguments<'_>) {}

    /// No fault is expected.
    pub fn leave(_: &mut Registers, _: Option<Address>) -> bool {
        false
    }

    /// Nobody goes by single steps.
    pub fn stepped(_: &Registers, _: Range) -> bool {
        false
    }
}

#[cfg(not(feature = "switch-off"))]
pub use none::{fail, leave, stepped};
