//! The collector reads no byte of an object without references: it collects while their memory is away. In a process that would read as
//! zeroes.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hint::black_box;
use runtime::addr::{Address, Bytes, MIB, Range};
use runtime::inspect::is_allocated;
use runtime::kernel_test;
use runtime::prelude::*;
use runtime::testing::platform;

const PAGE: usize = 8192;

/// Collects while nobody can read so many bytes from `start` on. Afterwards they have memory again, and any contents.
fn collect_without(start: usize, bytes: usize) {
    let range = Range::new(Address(start), Bytes(bytes));
    assert!(platform().decommit(range), "a touch faults");
    collect();
    assert_eq!(platform().commit(range), Ok(()));
}

#[kernel_test]
fn a_large_object_without_references_is_kept_unread() {
    let object = Gc::<[u8; MIB]>::zeroed();
    let place = Gc::as_ptr(object).addr();
    collect_without(place, MIB);
    assert!(is_allocated(place));
    assert_eq!(Gc::as_ptr(black_box(object)).addr(), place);
}

#[kernel_test]
fn a_page_of_small_objects_without_references_is_kept_unread() {
    let objects: Vec<Gc<[u64; 2]>> = (0..4 * PAGE as u64 / 16).map(|number| Gc::new([number; 2])).collect();
    let place = |object: &Gc<[u64; 2]>| Gc::as_ptr(*object).addr();
    let is_ours = |page: &usize| objects.iter().filter(|object| place(object) / PAGE == *page).count() == PAGE / 16;
    let page = objects.iter().map(|object| place(object) / PAGE).find(is_ours).expect("one of them is full");
    collect_without(page * PAGE, PAGE);
    assert!(black_box(&objects).iter().all(|object| is_allocated(place(object))));
}

#[kernel_test(off, status = 2, says = "absent 0x")]
fn an_object_that_may_have_references_is_read() {
    let object: Box<[usize]> = (0..MIB / 8).collect();
    collect_without(object.as_ptr().addr(), MIB);
    drop(black_box(object));
}
