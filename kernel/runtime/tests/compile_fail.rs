//! What safe code could do wrong, and must not compile. Each file in `ui/` is one such program, beside it what the compiler says.
//!
//! The words are the pinned toolchain's. After a change of it `TRYBUILD=overwrite ./x test programs_that_must_not_compile` writes
//! them anew; what then has to be read is the difference.

#[test]
fn programs_that_must_not_compile_do_not() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
