//! Loops whose references are in vector registers for a moment, stopped after every instruction: none of them loses an object.

use crate::loops;
use crate::stepped_slices::is_lost_without;
use crate::stepping::{COUNT, assert_held, fold, numbers};
use alloc::boxed::Box;
use alloc::vec::Vec;
use runtime::kernel_test;
use runtime::switch_off::Mechanism;

/// The sum over numbers, each in a box of its own, that `shuffle` has moved about, and the boxes.
fn shuffled(seed: u64, shuffle: fn(&mut Vec<Box<u64>>)) -> (u64, Vec<Box<u64>>) {
    let mut boxes: Vec<_> = numbers(seed).take(COUNT + seed as usize).map(Box::new).collect();
    shuffle(&mut boxes);
    (boxes.iter().fold(0, |sum, word| fold(sum, **word)), boxes)
}

/// Functions from a seed to a sum over boxes that `$body` has moved about.
macro_rules! over_boxes {
    ($($name:ident($a:ident) $body:block)*) => {$(
        fn $name(seed: u64) -> u64 {
            #[inline(never)]
            fn shuffle($a: &mut Vec<Box<u64>>) $body
            shuffled(seed, shuffle).0
        }
    )*};
}

over_boxes! {
    reversed(a) {
        a.reverse();
    }
    rotated(a) {
        a.rotate_left(7);
        a.rotate_right(4);
    }
    inserted_and_removed(a) {
        for i in 0..a.len() {
            let last = a.pop().expect("as many as before");
            a.insert(i, last);
        }
        let first = a.remove(0);
        a.push(first);
    }
    sorted(a) {
        a.sort();
    }
    halves_swapped(a) {
        let (low, high) = a.split_at_mut(COUNT / 2);
        low.swap_with_slice(&mut high[..COUNT / 2]);
    }
}

/// Two vectors that change places again and again.
fn vectors_swapped(seed: u64) -> u64 {
    #[inline(never)]
    fn swap(one: &mut Vec<u64>, other: &mut Vec<u64>) {
        core::mem::swap(one, other);
    }
    let mut pair = Box::new([(); 2].map(|()| numbers(seed).take(COUNT).collect::<Vec<_>>()));
    let [one, other] = &mut *pair;
    for _ in 0..seed + 2 {
        swap(one, other);
        one.push(other[0]);
    }
    pair.iter().flatten().fold(0, |sum, word| fold(sum, *word))
}

#[kernel_test(unstressed)]
fn loops_that_move_references_by_vectors_hold_them() {
    assert_held(&loops! { reversed rotated inserted_and_removed sorted halves_swapped vectors_swapped });
}

/// [`reversed`], but the boxes are not given back: the lost ones are free already, and freeing them again would end the process.
fn reversed_and_forgotten(seed: u64) -> u64 {
    let (sum, boxes) = shuffled(seed, |boxes| boxes.reverse());
    core::mem::forget(boxes);
    sum
}

#[kernel_test(off, status = 0)]
fn the_rig_sees_an_object_that_is_lost_for_want_of_vector_registers() {
    assert!(is_lost_without(Mechanism::VectorRegisters, reversed_and_forgotten));
}
