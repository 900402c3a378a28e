//! Loops over slices as people write them, stopped after every instruction: none of them loses a slice that it still reads.
//!
//! Each loop is a function of its own with nothing but its argument to hold the object. Its twin at the end is compiled with loop
//! strength reduction, and loses it.

use crate::loops;
use crate::stepping::{COUNT, Stepped, assert_held, fold, numbers, step_through};
use alloc::vec;
use alloc::vec::Vec;
use core::hint::black_box;
use runtime::kernel_test;
use runtime::prelude::*;
use runtime::switch_off::{Mechanism, disable};

/// A part of an array in the collected heap: the only reference to it is what is returned.
#[inline(never)]
fn array(seed: u64) -> &'static [u64] {
    let object: Gc<[u64; COUNT]> = Gc::new(core::array::from_fn(|index| fold(seed, index as u64)));
    // SAFETY: the object lives as long as this is found where the collector looks, which is what is tested.
    let all = unsafe { &*Gc::as_ptr(object) };
    // The compiler must not know the length, or it unrolls the loops to nothing.
    &all[..black_box(COUNT) - seed as usize]
}

/// A leaked vector: the only reference to it is what is returned.
#[inline(never)]
fn slice(seed: u64) -> &'static mut [u64] {
    numbers(seed).take(COUNT + seed as usize).collect::<Vec<_>>().leak()
}

/// As [`slice()`], in memory that is never scanned.
#[inline(never)]
fn bytes(seed: u64) -> &'static [u8] {
    numbers(seed).map(|number| number as u8).take(3 * COUNT + seed as usize).collect::<Vec<_>>().leak()
}

fn sum_of<'a>(words: impl Iterator<Item = &'a u64>) -> u64 {
    words.fold(0, |sum, word| fold(sum, *word))
}

/// Functions from a seed to a sum, over what `$make` makes of the seed.
macro_rules! over {
    ($make:ident: $($name:ident($a:ident: $ty:ty) $body:block)*) => {$(
        fn $name(seed: u64) -> u64 {
            #[inline(never)]
            #[allow(clippy::needless_range_loop, reason = "indices are what is tested")]
            fn walk($a: $ty) -> u64 $body
            walk($make(seed))
        }
    )*};
}

over! { array:
    array_forwards(a: &[u64]) {
        sum_of(a.iter())
    }
    array_backwards(a: &[u64]) {
        sum_of(a.iter().rev())
    }
    array_by_index(a: &[u64]) {
        let mut sum = 0;
        for i in 0..a.len() {
            sum = fold(sum, a[i]);
        }
        sum
    }
    array_to_its_end(a: &[u64]) {
        let (mut sum, mut rest) = (0, a);
        while let [first, others @ ..] = rest {
            sum = fold(sum, *first);
            rest = others;
        }
        fold(sum, rest.len() as u64)
    }
    array_from_its_end(a: &[u64]) {
        let (mut sum, mut rest) = (0, a);
        while let [others @ .., last] = rest {
            sum = fold(sum, *last);
            rest = others;
        }
        sum
    }
    array_of_fixed_length(a: &[u64]) {
        let a: &[u64; 20] = a.first_chunk().expect("it is longer");
        let mut sum = 0;
        for i in 0..20 {
            sum = fold(sum, a[19 - i]);
        }
        sum
    }
    array_numbered(a: &[u64]) {
        numbered(a, black_box(5000), black_box(5002), black_box(5021))
    }
    array_zipped_with_numbers(a: &[u64]) {
        zipped_with_numbers(a, black_box(5000), black_box(5002), black_box(5021))
    }
}

/// Entries `from..to` of a table whose first has the number `first`.
///
/// With loop strength reduction one register runs over the numbers and another holds `entries - 8 * first`: nothing points into the
/// table while it is read.
#[inline(never)]
fn numbered(entries: &[u64], first: usize, from: usize, to: usize) -> u64 {
    let mut sum = 0;
    for (index, entry) in entries[from - first..to - first].iter().enumerate() {
        sum = fold(sum, (from.wrapping_add(index) as u64).wrapping_mul(*entry));
    }
    sum
}

/// The same, put otherwise: the compiler unrolls it, and keeps the table's start for what is left over.
#[inline(never)]
fn zipped_with_numbers(entries: &[u64], first: usize, from: usize, to: usize) -> u64 {
    let numbered = (from..to).zip(&entries[from - first..to - first]);
    numbered.fold(0, |sum, (number, entry)| fold(sum, (number as u64).wrapping_mul(*entry)))
}

over! { slice:
    slice_forwards(a: &mut [u64]) {
        sum_of(a.iter())
    }
    slice_of_the_inside(a: &mut [u64]) {
        sum_of(a[3..COUNT - 3].iter())
    }
    every_third(a: &mut [u64]) {
        sum_of(a.iter().step_by(3))
    }
    every_third_backwards(a: &mut [u64]) {
        sum_of(a.iter().rev().step_by(3))
    }
    windows(a: &mut [u64]) {
        a.windows(4).fold(0, |sum, window| fold(sum, window[0] ^ window[3]))
    }
    chunks(a: &mut [u64]) {
        sum_of(a.chunks(5).flatten())
    }
    chunks_backwards(a: &mut [u64]) {
        a.rchunks_exact(4).rev().fold(0, |sum, chunk| fold(sum, chunk[0] ^ chunk[3]))
    }
    enumerated(a: &mut [u64]) {
        a.iter().enumerate().fold(0, |sum, (index, word)| fold(sum, *word ^ index as u64))
    }
    zipped_with_itself(a: &mut [u64]) {
        let (low, high) = a.split_at(COUNT / 2);
        low.iter().zip(high.iter().rev()).fold(0, |sum, (one, other)| fold(sum, one ^ other))
    }
    sorted(a: &mut [u64]) {
        a.sort_unstable();
        sum_of(a.iter())
    }
    searched(a: &mut [u64]) {
        a.sort();
        let wanted = a[COUNT / 3];
        let found = [a.binary_search(&wanted).ok(), a.iter().position(|word| *word == wanted)];
        found.iter().flatten().fold(0, |sum, index| fold(sum, *index as u64))
    }
}

over! { bytes:
    bytes_forwards(a: &[u8]) {
        a.iter().fold(0, |sum, byte| fold(sum, (*byte).into()))
    }
    bytes_backwards(a: &[u8]) {
        a.iter().rev().fold(0, |sum, byte| fold(sum, (*byte).into()))
    }
    words_in_bytes(a: &[u8]) {
        a.as_chunks::<8>().0.iter().fold(0, |sum, word| fold(sum, u64::from_le_bytes(*word)))
    }
    compared_and_copied(a: &[u8]) {
        let copy: Vec<u8> = a.into();
        let last = copy.iter().rposition(|byte| *byte == a[2]);
        fold((copy == a).into(), last.map_or(0, |index| index as u64))
    }
}

#[kernel_test(unstressed)]
fn loops_over_slices_hold_them() {
    assert_held(&loops! {
        array_forwards array_backwards array_by_index array_to_its_end array_from_its_end array_of_fixed_length array_numbered
        array_zipped_with_numbers slice_forwards slice_of_the_inside every_third every_third_backwards windows chunks
        chunks_backwards enumerated zipped_with_itself sorted searched bytes_forwards bytes_backwards words_in_bytes
        compared_and_copied
    });
}

over! { slice:
    next_and_previous(a: &mut [u64]) {
        let mut sum = 0;
        for i in 1..a.len() - 1 {
            sum = fold(sum, a[i + 1].wrapping_sub(a[i - 1]));
        }
        sum
    }
    previous_backwards(a: &mut [u64]) {
        let mut sum = 0;
        for i in (1..a.len()).rev() {
            sum = fold(sum, a[i - 1]);
        }
        sum
    }
    mirrored(a: &mut [u64]) {
        let mut sum = 0;
        for i in 0..a.len() {
            sum = fold(sum, a[a.len() - 1 - i] ^ i as u64);
        }
        sum
    }
    written_and_read(a: &mut [u64]) {
        for i in 1..a.len() {
            a[i] = fold(a[i], a[i - 1]);
        }
        a.iter_mut().rev().for_each(|word| *word ^= *word >> 7);
        sum_of(a.iter())
    }
    reversed_in_place(a: &mut [u64]) {
        a.reverse();
        a.rotate_left(7);
        a.swap(0, COUNT - 1);
        sum_of(a.iter())
    }
    columns(a: &mut [u64]) {
        let mut sum = 0;
        for column in 0..4 {
            for row in 0..COUNT / 4 {
                sum = fold(sum, a[row * 4 + column]);
            }
        }
        sum
    }
    matrix_product(a: &mut [u64]) {
        let mut sum = 0;
        for i in 0..4 {
            for j in 0..4 {
                let dot = (0..4).fold(0u64, |dot, k| dot.wrapping_add(a[i * 4 + k].wrapping_mul(a[k * 4 + j])));
                sum = fold(sum, dot);
            }
        }
        sum
    }
    stencil(a: &mut [u64]) {
        let (width, mut sum) = (black_box(6), 0);
        for y in 1..COUNT / width - 1 {
            for x in 1..width - 1 {
                let i = y * width + x;
                sum = fold(sum, a[i] ^ a[i - 1] ^ a[i + 1] ^ a[i - width] ^ a[i + width]);
            }
        }
        sum
    }
    convolution(a: &mut [u64]) {
        let (kernel, signal) = a.split_at(4);
        let mut sum = 0;
        for i in 3..signal.len() {
            let taps = kernel.iter().enumerate();
            sum = taps.fold(sum, |sum, (tap, weight)| fold(sum, weight.wrapping_mul(signal[i - tap])));
        }
        sum
    }
}

fn sieve(seed: u64) -> u64 {
    #[inline(never)]
    fn sieved(limit: usize) -> &'static [bool] {
        let is_prime = vec![true; limit].leak();
        for number in 2..limit {
            if is_prime[number] {
                (number * number..limit).step_by(number).for_each(|multiple| is_prime[multiple] = false);
            }
        }
        is_prime
    }
    let numbered = sieved(80 + seed as usize).iter().zip(0..);
    numbered.filter(|(is_prime, _)| **is_prime).fold(0, |sum, (_, number)| fold(sum, number))
}

#[kernel_test(unstressed)]
fn loops_with_biased_indices_hold_their_slices() {
    assert_held(&loops! {
        next_and_previous previous_backwards mirrored written_and_read reversed_in_place columns matrix_product stencil
        convolution sieve
    });
}

/// Whether a loop is disturbed by a collector that is blind for one kind of root.
pub(crate) fn is_lost_without(mechanism: Mechanism, the_loop: fn(u64) -> u64) -> bool {
    let _off = disable(mechanism);
    let Stepped { expected, found, .. } = step_through(the_loop, 1);
    expected != found
}

#[kernel_test(off, status = 0)]
fn the_rig_sees_a_slice_that_is_lost_for_want_of_registers() {
    assert!(is_lost_without(Mechanism::SavedRegisters, array_forwards));
}

#[kernel_test(off, status = 0)]
fn the_rig_sees_a_slice_that_is_lost_for_want_of_interior_pointers() {
    assert!(is_lost_without(Mechanism::InteriorPointers, array_to_its_end));
}

#[kernel_test(off, build = "lsr")]
fn with_loop_strength_reduction_a_loop_loses_its_table() {
    let Stepped { expected, found, .. } = step_through(array_numbered, 1);
    assert_ne!(expected, found, "the loop was held, with the optimisation that this kernel is built without");
}
