//! Masks against hand-written ones.

use super::{Pattern, Scan};
use crate::Trace;
use crate::gc::cell::GcCell;
use crate::gc::handle::Gc;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, MaybeUninit, offset_of};
use core::sync::atomic::{AtomicPtr, AtomicU64};

use Scan::{Ambiguous, Noscan, Precise, Repeated};

#[derive(Trace)]
struct Node {
    left: Option<Gc<Node>>,
    right: Option<Gc<Node>>,
}

#[derive(Trace)]
#[repr(C)]
struct Pair<T> {
    number: u64,
    value: T,
    next: Option<Gc<Pair<T>>>,
}

#[derive(Trace)]
#[repr(C)]
struct Triple<A, B>(A, u8, B)
where
    B: Copy;

#[derive(Trace)]
struct Unit;

#[derive(Trace)]
#[expect(dead_code, reason = "only its layout is looked at")]
#[repr(C, u64)]
enum Shape {
    Nothing,
    Tuple(u64, Gc<u8>),
    Named { first: Gc<u8>, second: u64, third: (u64, Gc<u8>) },
}

#[derive(Trace)]
#[expect(dead_code, reason = "only its layout is looked at")]
enum Choice<T> {
    A(T),
    B { text: &'static str },
    C,
}

#[derive(Trace)]
enum Never {}

#[derive(Trace)]
struct Tail<'a, T: ?Sized + 'a, const N: usize = 3>(PhantomData<T>, &'a u8, [Gc<u8>; N]);

#[derive(Trace)]
#[repr(C)]
struct Callbacks {
    plain: fn(u32) -> u32,
    generic: for<'a> fn(&'a Node) -> &'a Node,
    object: Gc<Node>,
    tag: PhantomData<Stranger>,
}

/// Has no `Trace`.
#[repr(C)]
struct Stranger(u64);

#[derive(Trace)]
struct HoldsStranger {
    _stranger: Stranger,
}

#[derive(Trace)]
struct HoldsNoStranger {
    _strangers: [PhantomData<Stranger>; 3],
    _count: u64,
}

#[derive(Trace)]
struct Phantom<T> {
    _of: PhantomData<T>,
    object: Gc<u8>,
}

#[derive(Trace)]
#[repr(C)]
struct Exactly64Words {
    numbers: [u64; 63],
    last: Gc<u8>,
}

#[derive(Trace)]
#[repr(C)]
struct Over64Words<T> {
    first: Gc<u8>,
    numbers: [T; 64],
}

#[derive(Trace)]
#[repr(C)]
struct Table {
    used: u64,
    seed: f64,
    buckets: [Option<Gc<Node>>; 100],
}

#[derive(Trace)]
#[expect(dead_code, reason = "only its layout is looked at")]
#[repr(C, u64)]
enum Tables {
    None(u64),
    One(Table),
    Other(Table),
}

#[derive(Trace)]
#[repr(C)]
struct Branch {
    keys: [u64; 31],
    used: u64,
    children: [GcCell<Option<Gc<Branch>>>; 32],
    parent: Option<Gc<Branch>>,
}

#[derive(Trace)]
struct Large {
    _bytes: [u8; 100_000],
}

#[test]
fn structs_have_the_mask_of_their_fields() {
    assert_eq!(Node::SCAN, Precise(0b11));
    assert_eq!(Pair::<u64>::SCAN, Precise(0b100));
    assert_eq!(Pair::<Gc<u8>>::SCAN, Precise(0b110));
    assert_eq!(Pair::<Node>::SCAN, Precise(0b1110));
    assert_eq!(Pair::<Pair<Gc<u8>>>::SCAN, Precise(0b11100));
    assert_eq!(Pair::<&'static str>::SCAN, Ambiguous);
    assert_eq!(Triple::<u16, u32>::SCAN, Noscan);
    assert_eq!(Triple::<Gc<u8>, Option<Gc<Node>>>::SCAN, Precise(0b101));
    assert_eq!(Unit::SCAN, Noscan);
    assert_eq!(Never::SCAN, Noscan);
    assert_eq!(Tail::<str>::SCAN, Ambiguous);
}

#[test]
fn enums_have_the_masks_of_all_their_variants() {
    assert_eq!(Shape::SCAN, Precise(0b10110), "tag, then (number, Gc) over (Gc, number, (number, Gc))");
    assert_eq!(Choice::<u64>::SCAN, Ambiguous);
    assert_eq!(Option::<Gc<u8>>::SCAN, Precise(1));
    assert_eq!(size_of::<Option<Gc<u8>>>(), 8);
    assert_eq!(Option::<u64>::SCAN, Noscan);
    assert_eq!(Option::<Node>::SCAN, Precise(0b11 << (offset_of!(Option<Node>, Some.0) / 8)));
    let (ok, err) = (offset_of!(Result<Gc<u8>, u64>, Ok.0), offset_of!(Result<u64, Gc<u8>>, Err.0));
    assert_eq!(Result::<Gc<u8>, u64>::SCAN, Precise(1 << (ok / 8)));
    assert_eq!(Result::<u64, Gc<u8>>::SCAN, Precise(1 << (err / 8)));
    assert_eq!(Result::<u64, u8>::SCAN, Noscan);
}

#[test]
fn tuples_and_arrays_have_the_masks_of_their_elements() {
    let mask = 1 << (offset_of!((u8, Gc<u8>, u64), 1) / 8);
    assert_eq!(<(u8, Gc<u8>, u64)>::SCAN, Precise(mask));
    assert_eq!(<(u8, (u16, f64), char, bool)>::SCAN, Noscan);
    assert_eq!(
        <(Gc<u8>, Gc<u8>, Gc<u8>, Gc<u8>, Gc<u8>, Gc<u8>, Gc<u8>, Gc<u8>, Gc<u8>, Gc<u8>, Gc<u8>, Gc<u8>)>::SCAN,
        Precise(0xfff)
    );
    assert_eq!(<[Gc<u8>; 5]>::SCAN, Precise(0b11111));
    assert_eq!(<[Pair<u64>; 3]>::SCAN, Precise(0b100_100_100));
    assert_eq!(<[[Gc<u8>; 2]; 3]>::SCAN, Precise(0b111111));
    assert_eq!(<[Gc<u8>; 64]>::SCAN, Precise(u64::MAX));
    assert_eq!(<[Gc<u8>; 65]>::SCAN, Repeated(Pattern::of_elements(1, 1, 65)));
    assert_eq!(<[[Pair<u64>; 3]; 1000]>::SCAN, Repeated(Pattern::of_elements(9, 0b100_100_100, 1000)));
    assert_eq!(<[[Pair<u64>; 30]; 100]>::SCAN, Repeated(Pattern::of_elements(3, 0b100, 3000)));
    assert_eq!(<[String; 65]>::SCAN, Ambiguous);
    assert_eq!(<[Gc<u8>; 0]>::SCAN, Noscan);
    assert_eq!(<[String; 0]>::SCAN, Noscan);
    assert_eq!(<[Unit; usize::MAX]>::SCAN, Noscan);
    assert_eq!(<[u8; 1 << 30]>::SCAN, Noscan);
}

#[test]
fn beyond_64_words_a_type_is_precise_if_one_pattern_says_where_its_references_are() {
    assert_eq!(size_of::<Exactly64Words>(), 512);
    assert_eq!(Exactly64Words::SCAN, Precise(1 << 63));
    assert_eq!(Over64Words::<u64>::SCAN, Repeated(Pattern::of_words(0, 1)));
    assert_eq!(Over64Words::<Pair<Gc<u8>>>::SCAN, Ambiguous, "one before 65 others");
    assert_eq!(<[Over64Words<u64>; 2]>::SCAN, Ambiguous, "one in 65 words");
    assert_eq!(<[Over64Words<u64>; 1]>::SCAN, Over64Words::<u64>::SCAN);
    assert_eq!(Table::SCAN, Repeated(Pattern::of_elements(1, 1, 100).after(2)));
    assert_eq!(Tables::SCAN, Repeated(Pattern::of_elements(1, 1, 100).after(3)));
    assert_eq!(Branch::SCAN, Repeated(Pattern::of_words(32, (1 << 33) - 1)));
    assert_eq!(Large::SCAN, Noscan);
}

#[test]
fn what_has_no_trace_makes_its_owner_ambiguous() {
    assert_eq!(HoldsStranger::SCAN, Ambiguous);
    assert_eq!(HoldsNoStranger::SCAN, Noscan);
    assert_eq!(Phantom::<Stranger>::SCAN, Precise(1));
}

#[test]
fn only_the_closed_list_is_never_read() {
    assert_eq!(AtomicU64::SCAN, Noscan);
    assert_eq!(usize::SCAN, Noscan);
    assert_eq!(<fn(u32, Gc<u8>) -> Gc<u8>>::SCAN, Noscan);
    assert_eq!(<unsafe extern "C" fn()>::SCAN, Noscan);
    assert_eq!(Callbacks::SCAN, Precise(0b100));
    assert_eq!(ManuallyDrop::<u64>::SCAN, Noscan);
    for (name, scan) in [
        ("AtomicPtr", AtomicPtr::<u8>::SCAN),
        ("&str", <&'static str>::SCAN),
        ("*const", <*const u8>::SCAN),
        ("String", String::SCAN),
        ("Vec", Vec::<u8>::SCAN),
        ("Box", Box::<[u8]>::SCAN),
        ("Box<dyn>", Box::<dyn Fn()>::SCAN),
        ("BTreeMap", BTreeMap::<u8, u8>::SCAN),
        ("MaybeUninit", MaybeUninit::<u64>::SCAN),
        ("Option<&u8>", Option::<&'static u8>::SCAN),
    ] {
        assert_eq!(scan, Ambiguous, "{name}");
    }
}

#[test]
fn a_cell_without_a_barrier_is_ambiguous_unless_it_holds_no_reference() {
    assert_eq!(Cell::<u32>::SCAN, Noscan);
    assert_eq!(RefCell::<(u32, f64)>::SCAN, Noscan);
    assert_eq!(Cell::<Option<Gc<u8>>>::SCAN, Ambiguous);
    assert_eq!(RefCell::<Node>::SCAN, Ambiguous);
    assert_eq!(<(GcCell<Gc<u8>>, GcCell<Option<Gc<u8>>>)>::SCAN, Precise(0b11));
}

#[test]
#[should_panic(expected = "aligned")]
fn a_reference_between_two_words_is_refused() {
    Scan::of_fields(16, &[(4, Gc::<u8>::SCAN)]);
}
