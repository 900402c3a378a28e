//! Garbage of every kind around a small live set: lists of `Gc`, strings, vectors, maps. Everything in the live set can be computed
//! from its seed, and is compared with that all the time: what the collector freed too early would show.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use runtime::prelude::*;
use runtime::program::{Arguments, MISUSED};

use crate::random::Random;

#[derive(Trace)]
struct Link {
    number: u64,
    next: Option<Gc<Link>>,
}

enum Live {
    List(Gc<Link>),
    Text(String),
    Numbers(Vec<u64>),
    Map(BTreeMap<u64, Gc<Link>>),
}

const LIVE: usize = 512;
const MOST_ELEMENTS: u64 = 200;

#[program("churn SECONDS", "makes garbage of every kind around a live set that it checks all the time")]
fn churn(arguments: &Arguments) -> u8 {
    let Some([seconds]) = arguments.numbers([(0, 1_000_000)]) else { return MISUSED };
    let (before, end) = (memory_stats(), now() + seconds * 1_000_000_000);
    let mut random = Random::new(1);
    let mut live: Vec<(u64, Live)> = (0..LIVE).map(|_| random.number()).map(|seed| (seed, make(seed))).collect();
    let (mut made, mut checks) = (LIVE, 0);
    loop {
        for _ in 0..LIVE {
            let seed = random.number();
            let (made_from, old) =
                core::mem::replace(&mut live[random.below(LIVE as u64) as usize], (seed, make(seed)));
            if !is_intact(made_from, &old) {
                return broken(made_from, &old);
            }
            // Half of it is given back by its owner, half is left to the collector.
            if seed & 1 == 0 {
                core::mem::forget(old);
            }
        }
        if let Some((seed, value)) = live.iter().find(|(seed, value)| !is_intact(*seed, value)) {
            return broken(*seed, value);
        }
        made += LIVE;
        checks += 2 * LIVE;
        if now() >= end {
            break;
        }
    }
    let after = memory_stats();
    let (collections, freed) = (after.num_gc - before.num_gc, after.frees - before.frees);
    println!(
        "{made} lists, strings, vectors and maps; {collections} collections freed {freed} objects; {checks} checks"
    );
    collect();
    println!("live heap: {} KiB", memory_stats().heap_alloc >> 10);
    let intact = live.iter().all(|(seed, value)| is_intact(*seed, value));
    println!("live set: {}", if intact { "intact" } else { "broken" });
    u8::from(!intact)
}

fn broken(seed: u64, value: &Live) -> u8 {
    let kind = match value {
        Live::List(_) => "list",
        Live::Text(_) => "string",
        Live::Numbers(_) => "vector",
        Live::Map(_) => "map",
    };
    println!("the {kind} made from {seed:#x} has changed");
    1
}

fn make(seed: u64) -> Live {
    let random = Random::new(seed);
    let count = elements(seed);
    match seed % 4 {
        0 => Live::List(list(random, count)),
        1 => {
            let mut text = String::new();
            for number in random.take(count) {
                // Writing to a `String` cannot fail.
                let _ = write!(text, "{number:x} ");
            }
            Live::Text(text)
        }
        2 => Live::Numbers(random.take(count).collect()),
        _ => Live::Map(random.take(count).map(|key| (key, list(Random::new(key), 1 + (key % 3) as usize))).collect()),
    }
}

fn is_intact(seed: u64, value: &Live) -> bool {
    let random = Random::new(seed);
    let count = elements(seed);
    match value {
        Live::List(head) => is_list(*head, random, count),
        Live::Text(text) => {
            let mut words = text.split_ascii_whitespace();
            random
                .take(count)
                .all(|number| words.next().and_then(|word| u64::from_str_radix(word, 16).ok()) == Some(number))
                && words.next().is_none()
        }
        Live::Numbers(numbers) => random.take(count).eq(numbers.iter().copied()),
        Live::Map(map) => {
            random.take(count).all(|key| map.contains_key(&key))
                && map.iter().all(|(key, head)| is_list(*head, Random::new(*key), 1 + (key % 3) as usize))
        }
    }
}

fn elements(seed: u64) -> usize {
    1 + (seed >> 32 & 0xffff) as usize % MOST_ELEMENTS as usize
}

/// A list whose last element has the first number.
fn list(mut random: Random, count: usize) -> Gc<Link> {
    let last = Gc::new(Link { number: random.number(), next: None });
    random.take(count - 1).fold(last, |next, number| Gc::new(Link { number, next: Some(next) }))
}

fn is_list(head: Gc<Link>, random: Random, count: usize) -> bool {
    let numbers: Vec<u64> = random.take(count).collect();
    let links = core::iter::successors(Some(head), |link| link.next);
    links.map(|link| link.number).eq(numbers.into_iter().rev())
}
