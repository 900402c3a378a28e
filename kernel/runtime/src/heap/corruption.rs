//! The heap walker against more than 100 kinds of corruption: each is done to a heap in use, seen by the walker (or not: [`UNSEEN`]), and
//! undone.
//!
//! Unsafe here: writing over the heap's own fields.
#![allow(unsafe_code)]

mod ways;

pub(super) use ways::Fields;
use ways::{Write, of_heap, of_span, of_sweep, read, store, write};

use super::pretend::{Pretend, Random};
use super::span::State;
use super::*;
use crate::addr::PAGE;
use std::collections::BTreeSet;
use std::string::String;

/// What the walker cannot see, and why: nothing else in the heap says the same thing.
const UNSEEN: [(&str, &str); 14] = [
    ("cached: a slot taken or given back", "how many of a cached span's slots are free is counted nowhere"),
    ("cached: a slot given back in the window", "as above"),
    ("cached: next leads to itself", "links of spans that are in no list mean nothing"),
    ("cached: next leads nowhere", "as above"),
    ("full: free slots known to be zero", "there are none"),
    ("kept full: free slots known to be zero", "as above"),
    ("large: free slots known to be zero", "as above"),
    ("bare: free slots known to be zero", "as above"),
    ("unswept full: free slots known to be zero", "as above"),
    ("unswept partial: a slot more freed by hand", "what counts is what is marked"),
    ("unswept large: free slots known to be zero", "as above"),
    ("heap: the hint too low", "it makes the walk longer, no more"),
    ("heap: the trigger", "any trigger is right; the pacer sets another after every collection"),
    ("precise: another mask", "what is in an object is known to its type alone"),
];

/// A heap with spans in all states, and one of each role to be corrupted.
struct Lab {
    heap: &'static Heap,
    cache: Cache,
    /// Another CPU's.
    other: Cache,
    cached: &'static Span,
    partial: &'static Span,
    full: &'static Span,
    /// Full too, and still with its CPU.
    kept: &'static Span,
    large: &'static Span,
    bare: &'static Span,
    precise: &'static Span,
    precise_base: usize,
    unused: &'static Span,
}

impl Lab {
    fn new(random: &mut Random) -> Lab {
        let heap: &Heap = Box::leak(Box::new(Heap::new()));
        heap.init(Pretend::new()).expect("there is room for an arena");
        let mut cache = Cache::new();
        let allocate = |cache: &mut Cache, class: SpanClass| loop {
            let object = match class.kind() {
                Kind::Precise => cache.allocate_precise(class, 1, true),
                _ => cache.allocate(class),
            };
            match object {
                Some(object) => return object.addr().get(),
                None => cache.refill(heap, class, false, false).expect("memory"),
            }
        };
        let class = |bytes, kind| SpanClass::for_request(bytes, 8, kind).expect("small");
        // Two full spans, two with a hole or more, one of them cached: of a class whose last slot is not the last bit of a word.
        let plain = class(48, Kind::Ambiguous);
        let mut objects: Vec<_> = (0..4 * plain.slots()).map(|_| allocate(&mut cache, plain)).collect();
        let kept = plain.slots();
        let mut holes: Vec<_> = objects.drain(2 * plain.slots()..).collect();
        random.shuffle(&mut holes);
        objects.extend(&holes[..kept]);
        let other: Vec<_> = [24, 1024, 5000]
            .iter()
            .flat_map(|&bytes| {
                let class = class(bytes, Kind::Noscan);
                (0..random.below(60) + 30).map(|_| allocate(&mut cache, class)).collect::<Vec<_>>()
            })
            .collect();
        let precise: Vec<_> = (0..400).map(|_| allocate(&mut cache, class(32, Kind::Precise))).collect();
        let large: Vec<_> = (0..3)
            .map(|_| heap.allocate_large(&mut cache, Bytes(40_000), 8, Kind::Noscan, false).expect("memory"))
            .collect();
        cache.flush(heap);
        for &object in objects.iter().chain(&other).chain(&precise) {
            assert!(heap.find(object).is_some_and(Object::mark_stopped));
        }
        for object in &large {
            assert!(heap.find(object.addr().get()).is_some_and(Object::mark_stopped));
        }
        tests::sweep(heap);
        let span_of = |object: usize| heap.find(object).expect("it is alive").span;
        let full = span_of(objects[0]);
        assert_eq!(full.free_slots(), 0);
        for _ in 0..3 {
            allocate(&mut cache, plain);
        }
        let cached = heap.spans().find(|span| span.state() == State::Cached).expect("allocated from");
        let partial = span_of(
            holes
                .iter()
                .copied()
                .take(kept)
                .find(|&object| !core::ptr::eq(span_of(object), cached))
                .expect("two spans have holes"),
        );
        let [kept, _] = [(); 2].map(|()| span_of(allocate(&mut cache, class(8192, Kind::Noscan))));
        let shared = allocate(&mut cache, tiny::CLASS);
        cache.share(core::ptr::NonNull::new(core::ptr::with_exposed_provenance_mut(shared)).expect("not 0"), 1);
        // Both have a supply.
        let mut other = Cache::new();
        for cache in [&mut cache, &mut other] {
            while cache.supplies[0].cached_pages().count() < 2 {
                allocate(cache, class(2048, Kind::Noscan));
            }
        }
        let bare = heap.open_large(&mut cache, Bytes(3 << 20), 8, Kind::Noscan, false).expect("addresses");
        // One large object dies: a record and pages are unused then.
        let unused = span_of(large[2].addr().get());
        // SAFETY: it is not used again.
        unsafe { heap.free_large(large[2]) };
        let large = span_of(large[0].addr().get());
        Lab {
            heap,
            cache,
            other,
            cached,
            partial,
            full,
            kept,
            large,
            bare: span_of(bare.addr().get()),
            precise: span_of(precise[0]),
            precise_base: precise[0],
            unused,
        }
    }

    /// Another cycle: what was partial, full and large is unswept, and has objects that were found dead.
    fn begin_sweep(&mut self) {
        self.cache.flush(self.heap);
        self.other.flush(self.heap);
        let alive = self.heap.spans().flat_map(Span::allocated).filter(|object| object.slot % 3 != 1);
        alive.for_each(|object| assert!(object.mark_stopped()));
        tests::begin_sweep(self.heap);
    }

    fn check(&self) -> Result<(), check::Broken> {
        self.heap.check_with(&[&self.cache, &self.other])
    }
}

#[test]
#[cfg_attr(miri, ignore = "writes behind the back of references is what it does, which Miri forbids")]
fn more_than_a_hundred_kinds_of_corruption_are_found_and_the_rest_is_known() {
    let (mut kinds, mut unseen, mut seen) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut inflict = |lab: &Lab, name: String, writes: Vec<Write>| {
        let before: Vec<_> = writes.iter().map(|write| read(write.at, write.bytes)).collect();
        let changes = writes.iter().zip(&before).any(|(write, &before)| read_back(write) != before);
        assert!(changes, "{name}: nothing is corrupted");
        writes.iter().for_each(|write| store(write.at, write.bytes, write.value));
        let found = lab.check().is_err();
        writes.iter().zip(before).rev().for_each(|(write, before)| store(write.at, write.bytes, before));
        assert_eq!(lab.check(), Ok(()), "{name}: undone");
        _ = if found { seen.insert(name.clone()) } else { unseen.insert(name.clone()) };
        kinds.insert(name);
    };
    for _ in 0..5 {
        let mut random = Random::new();
        let mut lab = Lab::new(&mut random);
        lab.check().expect("a sound heap");
        let mut ways = Vec::new();
        let roles = [
            ("cached", lab.cached),
            ("partial", lab.partial),
            ("full", lab.full),
            ("kept full", lab.kept),
            ("large", lab.large),
            ("bare", lab.bare),
        ];
        for (role, span) in roles {
            ways.extend(
                of_span(span, &lab, &mut random).into_iter().map(|(way, writes)| (format!("{role}: {way}"), writes)),
            );
        }
        ways.extend(of_heap(&mut lab, &mut random).into_iter().map(|(way, writes)| (format!("heap: {way}"), writes)));
        let masks = core::ptr::with_exposed_provenance::<u64>(lab.precise.base().0 + PAGE.0 - PAGE.0 / 64);
        assert_eq!(lab.precise.pointer_mask(0), 1, "{:#x} is the first slot", lab.precise_base);
        ways.push(("precise: another mask".into(), vec![write(masks, |mask| mask ^ 2)]));
        ways.into_iter().for_each(|(name, writes)| inflict(&lab, name, writes));
        lab.begin_sweep();
        lab.check().expect("a sound heap");
        let roles = [("unswept partial", lab.partial), ("unswept full", lab.full), ("unswept large", lab.large)];
        let of_spans = roles.into_iter().flat_map(|(role, span)| {
            of_span(span, &lab, &mut random).into_iter().map(move |(way, writes)| (format!("{role}: {way}"), writes))
        });
        let of_sweep = of_sweep(&lab).into_iter().map(|(way, writes)| (format!("sweep: {way}"), writes));
        // Only of the living it is known which slots they have.
        let ways = of_spans.chain(of_sweep).filter(|(name, _)| name != "unswept partial: a slot taken or given back");
        ways.for_each(|(name, writes)| inflict(&lab, name, writes));
    }
    let known: BTreeSet<String> = UNSEEN.iter().map(|(name, _)| String::from(*name)).collect();
    assert_eq!(unseen, known, "what the walker does not see");
    assert!(unseen.is_disjoint(&seen), "a kind is found always or never");
    println!("{} kinds of corruption, {} of them found", kinds.len(), seen.len());
    assert!(seen.len() > 100);
}

/// The value as far as the place can hold it.
fn read_back(write: &Write) -> u64 {
    write.value & u64::MAX >> (64 - 8 * write.bytes)
}
