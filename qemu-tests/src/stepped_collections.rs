//! Collections of `alloc` and hashbrown at work, stopped after every instruction: none of them loses an object that it still uses.
//!
//! hashbrown's table is held by a pointer into its middle for most of its life, `BTreeMap` moves references between nodes, and the chains
//! of `mem::take` have an object in registers only.

use crate::loops;
use crate::stepping::{COUNT, assert_held, fold, numbers};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, BinaryHeap, LinkedList, VecDeque};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use hashbrown::{HashMap, HashSet};
use runtime::inspect::random_seed;
use runtime::kernel_test;
use runtime::prelude::*;

fn vec_consumed(seed: u64) -> u64 {
    let boxes: Vec<Box<u64>> = numbers(seed).take(COUNT).map(Box::new).collect();
    boxes.into_iter().fold(0, |sum, word| fold(sum, *word))
}

fn vec_shifted(seed: u64) -> u64 {
    let mut boxes: Vec<Box<u64>> = Vec::new();
    for (index, number) in numbers(seed).take(12).enumerate() {
        boxes.insert(index / 2, Box::new(number));
    }
    boxes.remove(3);
    boxes.retain(|word| **word % 3 != 0);
    let tail = boxes.split_off(boxes.len() / 2);
    boxes.drain(1..3).chain(tail).fold(0, |sum, word| fold(sum, *word))
}

fn vec_of_vecs(seed: u64) -> u64 {
    let rows: Vec<Vec<u64>> = (0..4).map(|row| numbers(seed + row).take(5).collect()).collect();
    rows.iter().flatten().fold(0, |sum, word| fold(sum, *word))
}

fn deque(seed: u64) -> u64 {
    let mut deque: VecDeque<Box<u64>> = VecDeque::with_capacity(8);
    for number in numbers(seed).take(COUNT) {
        if deque.len() == 7 {
            deque.pop_front();
        }
        deque.push_back(Box::new(number));
    }
    deque.push_front(Box::new(seed));
    deque.iter().rev().chain(deque.iter()).fold(0, |sum, word| fold(sum, **word))
}

fn heap(seed: u64) -> u64 {
    let mut heap: BinaryHeap<Box<u64>> = numbers(seed).take(10).map(Box::new).collect();
    core::iter::from_fn(|| heap.pop()).fold(0, |sum, word| fold(sum, *word))
}

#[kernel_test(unstressed)]
fn vectors_and_deques_hold_what_is_in_them() {
    assert_held(&loops! { vec_consumed vec_shifted vec_of_vecs deque heap });
}

fn gc_vec(seed: u64) -> u64 {
    let mut objects: GcVec<(u64, Gc<u64>)> = GcVec::new();
    for (index, number) in numbers(seed).take(COUNT).enumerate() {
        objects.insert(index / 2, (number, Gc::new(number)));
    }
    objects.remove(3);
    objects.swap(0, 5);
    objects.set(1, (seed, Gc::new(seed)));
    objects.retain(|(number, _)| number % 3 != 0);
    objects.sort_unstable_by(|a, b| (*a.1).cmp(&*b.1));
    let last = objects.pop().map_or(0, |(_, object)| *object);
    objects.into_iter().fold(last, |sum, (_, object)| fold(sum, *object))
}

fn gc_slice(seed: u64) -> u64 {
    let objects: Gc<[Gc<u64>]> = numbers(seed).take(COUNT).map(Gc::new).collect();
    let again = Gc::<[Gc<u64>]>::from_fn(objects.len(), |index| Gc::new(*objects[objects.len() - 1 - index]));
    again.iter().zip(objects.iter()).fold(0, |sum, (a, b)| fold(sum, **a ^ **b))
}

#[kernel_test(unstressed)]
fn collected_vectors_and_slices_hold_what_is_in_them() {
    assert_held(&loops! { gc_vec gc_slice });
}

fn gc_map(seed: u64) -> u64 {
    let mut map: GcMap<u64, Gc<u64>> = GcMap::new();
    for key in numbers(seed).take(COUNT) {
        map.insert(key, Gc::new(!key));
    }
    let removed = numbers(seed).nth(2).and_then(|key| map.remove(&key)).map_or(0, |object| *object);
    *map.entry(seed).or_insert_with(|| Gc::new(seed)) = Gc::new(seed + 1);
    numbers(seed).take(COUNT).fold(removed, |sum, key| fold(sum, map.get(&key).map_or(1, |object| **object)))
}

fn gc_string(seed: u64) -> u64 {
    let mut words: GcMap<GcString, u64> = GcMap::new();
    for number in numbers(seed).take(COUNT) {
        let mut word = GcString::from("number ");
        word.extend(format!("{number:x}").chars());
        words.insert(word, number);
    }
    numbers(seed).take(COUNT).fold(0, |sum, number| fold(sum, words[format!("number {number:x}").as_str()]))
}

#[kernel_test(unstressed)]
fn collected_maps_hold_what_is_in_them() {
    println!("GODEBUG=randseed={}", random_seed());
    assert_held(&loops! { gc_map gc_string });
}

fn tree_map(seed: u64) -> u64 {
    let mut map: BTreeMap<u64, Box<u64>> = numbers(seed).take(COUNT).map(|key| (key, Box::new(!key))).collect();
    let first = map.first_key_value().map_or(0, |(key, _)| *key);
    map.remove(&first);
    let sum = map.iter().rev().fold(0, |sum, (key, word)| fold(sum, key ^ **word));
    map.range(first..).take(5).fold(sum, |sum, (_, word)| fold(sum, **word))
}

fn tree_set(seed: u64) -> u64 {
    let set: BTreeSet<String> = numbers(seed).take(6).map(|number| format!("{number:x}")).collect();
    set.into_iter().fold(0, |sum, text| fold(sum, text.len() as u64 ^ u64::from(text.as_bytes()[2])))
}

fn hash_map(seed: u64) -> u64 {
    let mut map: HashMap<u64, Box<u64>> = HashMap::new();
    for key in numbers(seed).take(COUNT) {
        map.insert(key, Box::new(!key));
    }
    let sum = numbers(seed).take(COUNT).fold(0, |sum, key| fold(sum, map.remove(&key).map_or(0, |word| *word)));
    fold(sum, map.len() as u64)
}

/// In no order: a sum that does not care.
fn hash_set(seed: u64) -> u64 {
    let set: HashSet<Box<u64>> = numbers(seed).take(COUNT).map(Box::new).collect();
    set.iter().chain(&set).chain(set.clone().iter()).fold(0u64, |sum, word| sum.wrapping_add(fold(seed, **word)))
}

#[kernel_test(unstressed)]
fn maps_hold_what_is_in_them() {
    assert_held(&loops! { tree_map tree_set hash_map hash_set });
}

fn shared(seed: u64) -> u64 {
    let first: Arc<[u64]> = numbers(seed).take(COUNT).collect();
    let holders: Vec<Arc<[u64]>> = (0..4).map(|_| first.clone()).collect();
    drop(first);
    holders.into_iter().rev().fold(0, |sum, holder| holder.iter().fold(sum, |sum, word| fold(sum, *word)))
}

fn weakly_shared(seed: u64) -> u64 {
    let strong = Rc::new(Box::new(fold(1, seed)));
    let weak: Vec<_> = (0..5).map(|_| Rc::downgrade(&strong)).collect();
    let sum = weak.iter().filter_map(|weak| weak.upgrade()).fold(0, |sum, word| fold(sum, **word));
    drop(strong);
    weak.iter().fold(sum, |sum, weak| fold(sum, weak.upgrade().is_some().into()))
}

#[derive(Trace)]
struct Node {
    number: u64,
    next: Option<Gc<Node>>,
}

#[inline(never)]
fn collected_list(seed: u64) -> Option<Gc<Node>> {
    numbers(seed).take(COUNT).fold(None, |next, number| Some(Gc::new(Node { number, next })))
}

fn list_of_handles(seed: u64) -> u64 {
    core::iter::successors(collected_list(seed), |node| node.next).fold(0, |sum, node| fold(sum, node.number))
}

struct Link {
    number: u64,
    next: Option<Box<Link>>,
}

fn boxed_list(seed: u64) -> Option<Box<Link>> {
    numbers(seed).take(COUNT / 2).fold(None, |next, number| Some(Box::new(Link { number, next })))
}

fn list_taken_apart(seed: u64) -> u64 {
    let (mut sum, mut rest) = (0, boxed_list(seed));
    while let Some(link) = rest {
        sum = fold(sum, link.number);
        rest = link.next;
    }
    sum
}

fn list_reversed(seed: u64) -> u64 {
    let (mut rest, mut reversed) = (boxed_list(seed), None);
    while let Some(mut link) = rest {
        rest = core::mem::replace(&mut link.next, reversed);
        reversed = Some(link);
    }
    core::iter::successors(reversed.as_deref(), |link| link.next.as_deref()).fold(0, |sum, link| fold(sum, link.number))
}

/// Cuts links out through a cursor, taking what follows and putting it back.
fn take_chain(seed: u64) -> u64 {
    let mut head = boxed_list(seed);
    let mut cursor = &mut head;
    while let Some(mut link) = cursor.take() {
        if link.number.is_multiple_of(2) {
            *cursor = core::mem::take(&mut link.next);
        } else {
            cursor = &mut cursor.insert(link).next;
        }
    }
    core::iter::successors(head.as_deref(), |link| link.next.as_deref()).fold(0, |sum, link| fold(sum, link.number))
}

fn taken_vectors(seed: u64) -> u64 {
    let (mut current, mut done): (Vec<u64>, Vec<Vec<u64>>) = Default::default();
    for number in numbers(seed).take(COUNT) {
        current.push(number);
        if current.len() == 4 {
            done.push(core::mem::take(&mut current));
        }
    }
    done.iter_mut().flat_map(core::mem::take).fold(0, fold)
}

fn linked_list(seed: u64) -> u64 {
    let mut list: LinkedList<u64> = numbers(seed).take(COUNT / 2).collect();
    let mut tail = list.split_off(4);
    tail.append(&mut list);
    tail.into_iter().rev().fold(0, fold)
}

#[kernel_test(unstressed)]
fn counted_references_and_lists_hold_theirs() {
    assert_held(&loops! {
        shared weakly_shared list_of_handles list_taken_apart list_reversed take_chain taken_vectors linked_list
    });
}

struct Tree {
    number: u64,
    children: [Option<Box<Tree>>; 2],
}

fn tree(seed: u64) -> u64 {
    fn grow(depth: u64, seed: u64) -> Option<Box<Tree>> {
        (depth > 0).then(|| {
            let children = [2 * seed, 2 * seed + 1].map(|seed| grow(depth - 1, seed));
            Box::new(Tree { number: fold(depth, seed), children })
        })
    }
    fn sum_up(tree: Option<&Tree>) -> u64 {
        tree.map_or(1, |tree| tree.children.iter().fold(tree.number, |sum, child| fold(sum, sum_up(child.as_deref()))))
    }
    sum_up(grow(4, seed).as_deref())
}

fn closures(seed: u64) -> u64 {
    let mut steps: Vec<Box<dyn FnMut(u64) -> u64>> = Vec::new();
    for number in numbers(seed).take(6) {
        let mut held = vec![number];
        steps.push(Box::new(move |word| {
            held.push(word);
            held.iter().fold(0, |sum, word| fold(sum, *word))
        }));
    }
    (0..2).fold(0, |sum, _| steps.iter_mut().fold(sum, |sum, step| step(sum)))
}

fn sorted_by_key(seed: u64) -> u64 {
    let mut texts: Vec<String> = numbers(seed).take(9).map(|number| format!("{:x}", number >> 40)).collect();
    texts.sort_by_key(|text| (text.len(), text.chars().rev().collect::<String>()));
    texts.dedup();
    texts.iter().fold(0, |sum, text| text.bytes().fold(sum, |sum, byte| fold(sum, byte.into())))
}

fn strings(seed: u64) -> u64 {
    let line: String = numbers(seed).take(5).map(|number| format!("{} ", number & 0xfff)).collect();
    let upper = line.trim().replace('1', "one, zwölf").to_uppercase();
    let words = upper.split([' ', ',']).filter(|word| !word.is_empty());
    words.fold(0, |sum, word| word.char_indices().rev().fold(sum, |sum, (at, c)| fold(sum, at as u64 ^ u64::from(c))))
}

#[kernel_test(unstressed)]
fn trees_closures_and_strings_hold_theirs() {
    assert_held(&loops! { tree closures sorted_by_key strings });
}
