//! The attributes of a program: which words of a type are references, what can be run, what is tested in QEMU.
//!
//! `trace.rs` computes nothing itself: it writes down a constant expression over `offset_of!` and the fields' own `SCAN`,
//! so the compiler that lays a type out is the one that says where its references are. `program.rs` and
//! `kernel_test.rs` put one record into a link section each, which is how the kernel finds what nobody calls, and one line of
//! text into another, which is how the host reads the list out of the ELF file without booting it.

mod kernel_test;
mod program;
mod trace;

use proc_macro::TokenStream;
use quote::quote;

/// Implements `runtime::Trace`: from the fields' types it computes, at compile time, which words of the type may be
/// references.
///
/// - Structs, tuples, enums, generics. A type parameter that a field uses gets the bound `T: Trace` (`PhantomData<T>` is no use).
/// - A field whose type has no `Trace` is no error: it makes the whole type ambiguous, so that each of its words is tested.
/// - On an **enum with fields** the deriving crate says `#![feature(offset_of_enum)]` at its root.
/// - A packed struct is refused, for a reference at an odd address is in no word that the collector reads; so is a union.
///
/// ```text
/// #[derive(Trace)]
/// struct Node {
///     left: Option<Gc<Node>>,
///     right: Option<Gc<Node>>,
/// }
/// ```
#[proc_macro_derive(Trace)]
pub fn derive_trace(input: TokenStream) -> TokenStream {
    expanded(syn::parse(input).and_then(trace::expand))
}

/// Registers a function as a program of the kernel: `#[program("usage", "what it shows")] fn run(arguments: &Arguments) -> u8`.
///
/// The first word of the usage is the program's name, the others name its arguments. What the function returns is
/// the kernel's exit status. On bare metal only; elsewhere the function is type-checked and no more.
///
/// ```text
/// #[program("binary-trees DEPTH", "allocates and drops perfect binary trees")]
/// fn binary_trees(arguments: &Arguments) -> u8 { 0 }
/// ```
#[proc_macro_attribute]
pub fn program(attribute: TokenStream, item: TokenStream) -> TokenStream {
    expanded(syn::parse(attribute).and_then(|words| program::expand(words, item.into())))
}

/// Registers a function without arguments as a test that runs in the kernel, on the machine and as a process: it passes if it returns.
///
/// `#[kernel_test]` tests run one after another in one boot. These ask for a boot of their own:
/// - `status = 2`: the kernel must end with this status, `says = "text"`: and print this;
/// - `cmdline = "GOGC=off,GODEBUG=gctrace=1"`: with these settings; `mem = "64M"`: with this much memory.
///
/// `off` says that the test switches one mechanism off and must see the failure which that mechanism prevents.
#[proc_macro_attribute]
pub fn kernel_test(attribute: TokenStream, item: TokenStream) -> TokenStream {
    expanded(syn::parse(attribute).and_then(|keys| kernel_test::expand(keys, item.into())))
}

fn expanded(result: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    result
        .unwrap_or_else(|error| {
            let message = error.to_compile_error();
            quote!(#message)
        })
        .into()
}
