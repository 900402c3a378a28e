//! Random programs on a graph of collected objects, and the same graph once more in numbers that the collector never follows.
//!
//! 1. A [`Graph`] holds roots, and nodes that they reach; its [`Shadow`] says by numbers which node is where and what is in it.
//! 2. Each operation changes both: a node is made, linked, unlinked, swapped; a text hung on it; a stack grows, a panic unwinds, the graph
//!    moves into a new thread and comes back as its result, the world is collected.
//! 3. A [`Store`] has blocks of every size class and kind, made, given back, forgotten, grown and shrunk between the graph's nodes.
//! 4. Now and then both are walked side by side. What was freed too early, moved, or overwritten shows as a difference. And the heap walker
//!    looks whether the heap's own records agree.
//!
//! Several graphs take turns, so that each one's garbage is allocated between another's live objects. The same seed gives the same
//! operations; when the timer interrupts them is what differs.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use runtime::prelude::*;
use runtime::program::{Arguments, MISUSED};

mod store;

use crate::random::Random;
use runtime::heap_table;
use runtime::inspect::check_heap;
use store::Store;

const LINKS: usize = 3;
const ROOTS: usize = 16;
const GRAPHS: u64 = 4;
/// How often, in operations: the two are compared, the heap walked, the world collected, the graph moved to another thread.
const COMPARED: u64 = 20_000;
const WALKED: u64 = 2_000;
const COLLECTED: u64 = 50_000;
const MOVED: u64 = 5_000;
/// How far a walk goes to choose a node.
const FARTHEST: u64 = 24;
const DEEPEST: u64 = 300;
/// No node, in a shadow.
const NONE: u32 = u32::MAX;

#[derive(Trace)]
struct Node {
    number: u64,
    links: [GcCell<Option<Gc<Node>>>; LINKS],
    burden: GcCell<Option<Gc<Burden>>>,
}

/// What hangs on a node, of one of the kinds of memory. All of it can be computed from the seed.
#[derive(Trace)]
struct Burden {
    seed: u64,
    memory: Memory,
}

#[derive(Trace)]
enum Memory {
    Words(Gc<[u64; 6]>),
    Text(String),
    Bytes(Vec<u8>),
    Boxes(Box<[Box<u64>]>),
}

impl Burden {
    fn new(seed: u64) -> Burden {
        let count = 1 + (seed >> 8) as usize % 40;
        let memory = match seed % 8 {
            0 | 1 => Memory::Words(Gc::new([seed; 6])),
            2 | 3 => Memory::Text(core::iter::repeat_n(letter(seed), count).collect()),
            // Now and then more than a size class holds.
            4 => Memory::Bytes(vec![seed as u8; if seed >> 16 & 0xff == 0 { 1000 * count } else { count }]),
            _ => Memory::Boxes((0..count as u64 % 5).map(|index| Box::new(seed ^ index)).collect()),
        };
        Burden { seed, memory }
    }

    fn is_intact(&self, seed: u64) -> bool {
        self.seed == seed
            && match &self.memory {
                Memory::Words(words) => words.iter().all(|word| *word == seed),
                Memory::Text(text) => !text.is_empty() && text.chars().all(|found| found == letter(seed)),
                Memory::Bytes(bytes) => !bytes.is_empty() && bytes.iter().all(|byte| *byte == seed as u8),
                Memory::Boxes(boxes) => (0..).zip(boxes.iter()).all(|(index, number)| **number == seed ^ index),
            }
    }
}

fn letter(seed: u64) -> char {
    char::from(b'a' + (seed % 26) as u8)
}

/// What ought to be there. Numbers only: nothing here keeps a node alive.
struct Shadow {
    roots: [u32; ROOTS],
    nodes: Vec<ShadowNode>,
    free: Vec<u32>,
}

#[derive(Clone, Copy)]
struct ShadowNode {
    number: u64,
    links: [u32; LINKS],
    /// The burden's seed.
    burden: Option<u64>,
}

/// A node, and its place in the shadow.
#[derive(Clone, Copy)]
struct Pair(Gc<Node>, u32);

struct Graph {
    random: Random,
    roots: [Option<Gc<Node>>; ROOTS],
    shadow: Shadow,
    store: Store,
    made: u64,
    compared: u64,
    walks: u64,
}

#[program("shadow OPERATIONS SEED", "random programs against a shadow of what they should do")]
fn shadow(arguments: &Arguments) -> u8 {
    run(arguments, false)
}

#[program("shadow-of-a-bug OPERATIONS SEED", "the same with an object that is freed too early: ends with a difference")]
fn shadow_of_a_bug(arguments: &Arguments) -> u8 {
    run(arguments, true)
}

fn run(arguments: &Arguments, with_bug: bool) -> u8 {
    let Some([operations, seed]) = arguments.numbers([(1, 1 << 40), (0, u64::MAX)]) else { return MISUSED };
    println!("seed {seed}");
    let before = memory_stats();
    let threads: Vec<_> = (0..GRAPHS)
        .map(|number| {
            let share = operations / GRAPHS + u64::from(number < operations % GRAPHS);
            go(move || Graph::new(seed.wrapping_mul(GRAPHS).wrapping_add(number)).live(share, with_bug))
        })
        .collect();
    let ends: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
    let collections = memory_stats().num_gc - before.num_gc;
    let sum = |figure: fn(&Graph) -> u64| ends.iter().flatten().flatten().map(figure).sum::<u64>();
    let (made, compared, walks) = (sum(|graph| graph.made), sum(|graph| graph.compared), sum(|graph| graph.walks));
    let same = ends.iter().all(|end| matches!(end, Ok(Ok(_))));
    for end in &ends {
        match end {
            Ok(Ok(_)) => {}
            Ok(Err(difference)) => println!("difference: {difference}"),
            Err(failure) => println!("a thread ended: {failure}"),
        }
    }
    println!("{operations} operations, {made} nodes made, {collections} collections, {compared} nodes compared");
    println!("{walks} walks through the heap");
    let unused = heap_table().classes.iter().filter(|class| class.mallocs == 0).count();
    println!("{unused} classes without an object");
    u8::from(!same)
}

type Difference = &'static str;

impl Graph {
    fn new(seed: u64) -> Graph {
        let shadow = Shadow { roots: [NONE; ROOTS], nodes: Vec::new(), free: Vec::new() };
        let (random, store) = (Random::new(seed), Store::new());
        Graph { random, roots: [None; ROOTS], shadow, store, made: 0, compared: 0, walks: 0 }
    }

    fn live(mut self, operations: u64, with_bug: bool) -> Result<Graph, Difference> {
        for number in 0..operations {
            if with_bug && number == operations / 2 {
                self.store.plant(&mut self.random);
            }
            self = self.operate()?;
        }
        self.compare()?;
        Ok(self)
    }

    fn operate(mut self) -> Result<Graph, Difference> {
        match self.random.below(1000) {
            0..255 => self.make(),
            255..470 => self.link()?,
            470..474 => self.unlink()?,
            474 => self.move_root()?,
            475..615 => self.load()?,
            615..620 => self.descend()?,
            620..630 => self.panic()?,
            630..655 => self.use_plain_memory()?,
            655..985 => self.store.operate(&mut self.random)?,
            _ => yield_now(),
        }
        if self.random.below(COMPARED) == 0 {
            self.compare()?;
        }
        if self.random.below(WALKED) == 0 {
            self.walk()?;
        }
        if self.random.below(COLLECTED) == 0 {
            collect();
        }
        if self.random.below(MOVED) == 0 {
            // As a closure that has not run, then as a result that nobody has taken.
            let thread = go(move || self);
            yield_now();
            self = thread.join().map_err(|_| "a thread that only returned its graph ended otherwise")?;
        }
        Ok(self)
    }

    /// A node that some root reaches. Both graphs are walked, and must agree on the way.
    fn choose(&mut self) -> Result<Option<Pair>, Difference> {
        let root = self.random.below(ROOTS as u64) as usize;
        let Some(mut at) = self.shadow.pair(self.roots[root], self.shadow.roots[root])? else { return Ok(None) };
        for _ in 0..self.random.below(FARTHEST) {
            let link = self.random.below(LINKS as u64) as usize;
            match self.shadow.pair(at.0.links[link].get(), self.shadow.nodes[at.1 as usize].links[link])? {
                Some(next) => at = next,
                None => break,
            }
        }
        Ok(Some(at))
    }

    fn set_root(&mut self, to: Option<Pair>) {
        let root = self.random.below(ROOTS as u64) as usize;
        self.roots[root] = to.map(|pair| pair.0);
        self.shadow.roots[root] = to.map_or(NONE, |pair| pair.1);
    }

    /// A new node, in front of what a root holds.
    fn make(&mut self) {
        let root = self.random.below(ROOTS as u64) as usize;
        let number = self.random.number();
        let links = [GcCell::new(self.roots[root]), GcCell::null(), GcCell::null()];
        let node = Gc::new(Node { number, links, burden: GcCell::null() });
        let place = self.shadow.add(ShadowNode { number, links: [self.shadow.roots[root], NONE, NONE], burden: None });
        self.made += 1;
        (self.roots[root], self.shadow.roots[root]) = (Some(node), place);
    }

    fn link(&mut self) -> Result<(), Difference> {
        let (Some(from), to) = (self.choose()?, self.choose()?) else { return Ok(()) };
        let link = 1 + self.random.below(LINKS as u64 - 1) as usize; // the first is what the node was made with
        let (cell, new) = (&from.0.links[link], to.map(|pair| pair.0));
        let shadow = &mut self.shadow.nodes[from.1 as usize].links[link];
        match self.random.below(3) {
            0 => cell.set(new),
            1 => drop(cell.swap(new)),
            _ => {
                cell.compare_exchange(cell.get(), new).map_err(|_| "a cell that nobody else knows changed by itself")?
            }
        }
        *shadow = to.map_or(NONE, |pair| pair.1);
        Ok(())
    }

    fn unlink(&mut self) -> Result<(), Difference> {
        if let Some(node) = self.choose()? {
            let link = self.random.below(LINKS as u64) as usize;
            node.0.links[link].set(None);
            self.shadow.nodes[node.1 as usize].links[link] = NONE;
        }
        Ok(())
    }

    /// A root forgets what it holds, or leads into the middle of what another does.
    fn move_root(&mut self) -> Result<(), Difference> {
        let to = if self.random.below(3) == 0 { None } else { self.choose()? };
        self.set_root(to);
        Ok(())
    }

    fn load(&mut self) -> Result<(), Difference> {
        if let Some(node) = self.choose()? {
            let seed = self.random.number();
            node.0.burden.set(Some(Gc::new(Burden::new(seed))));
            self.shadow.nodes[node.1 as usize].burden = Some(seed);
        }
        Ok(())
    }

    /// A stack grows; its frames are the only ones that know their nodes.
    fn descend(&mut self) -> Result<(), Difference> {
        fn deeper(depth: u64, random: &mut Random) -> bool {
            let number = random.number();
            let node = Gc::new(Node { number, links: [const { GcCell::null() }; LINKS], burden: GcCell::null() });
            let room = core::hint::black_box([number; 32]);
            let below = depth == 0 || deeper(depth - 1, random);
            below && node.number == number && room.iter().all(|word| *word == number)
        }
        let depth = self.random.below(DEEPEST);
        deeper(depth, &mut self.random).then_some(()).ok_or("a node that only a frame knew has changed")
    }

    /// Operations that a panic unwinds through; what they did before stays.
    fn panic(&mut self) -> Result<(), Difference> {
        let caught = catch_unwind(|| -> Result<(), Difference> {
            self.make();
            self.load()?;
            match self.random.below(64) {
                0 => panic!("on purpose"),
                _ => Ok(()),
            }
        });
        caught.unwrap_or(Ok(()))
    }

    /// The global allocator's memory, given back by its owner.
    fn use_plain_memory(&mut self) -> Result<(), Difference> {
        let burdens: Vec<Burden> = (0..self.random.below(8)).map(|_| Burden::new(self.random.number())).collect();
        burdens.iter().all(|burden| burden.is_intact(burden.seed)).then_some(()).ok_or("a burden on nobody has changed")
    }

    /// Looks whether the heap's records agree, as they are between two operations, also amid a sweep.
    fn walk(&mut self) -> Result<(), Difference> {
        self.walks += 1;
        check_heap().map_err(|broken| {
            println!("the heap walker: {broken}");
            "the heap's records do not agree"
        })
    }

    /// Walks both from the roots. A place in the shadow that no root reaches any more is free for another node.
    fn compare(&mut self) -> Result<(), Difference> {
        let mut seen = vec![false; self.shadow.nodes.len()];
        let mut ahead: Vec<Pair> = Vec::new();
        for root in 0..ROOTS {
            ahead.extend(self.shadow.pair(self.roots[root], self.shadow.roots[root])?);
        }
        while let Some(Pair(node, place)) = ahead.pop() {
            if core::mem::replace(&mut seen[place as usize], true) {
                continue;
            }
            self.compared += 1;
            let shadow = self.shadow.nodes[place as usize];
            for (cell, link) in node.links.iter().zip(shadow.links) {
                ahead.extend(self.shadow.pair(cell.get(), link)?);
            }
            match (node.burden.get(), shadow.burden) {
                (None, None) => {}
                (Some(burden), Some(seed)) if burden.is_intact(seed) => {}
                _ => return Err("a node's burden is not what was hung on it"),
            }
        }
        self.store.compare()?;
        self.shadow.free = (0..).zip(seen).filter(|(_, seen)| !seen).map(|(place, _)| place).collect();
        Ok(())
    }
}

impl Shadow {
    /// A node and the place where it should be: both there and the same, or both nothing.
    fn pair(&self, node: Option<Gc<Node>>, place: u32) -> Result<Option<Pair>, Difference> {
        match (node, self.nodes.get(place as usize)) {
            (None, None) => Ok(None),
            (Some(node), Some(shadow)) if node.number == shadow.number => Ok(Some(Pair(node, place))),
            (Some(_), Some(_)) => Err("another node is where one was put"),
            _ => Err("a node is missing, or is where none was put"),
        }
    }

    fn add(&mut self, node: ShadowNode) -> u32 {
        match self.free.pop() {
            Some(place) => {
                self.nodes[place as usize] = node;
                place
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() as u32 - 1
            }
        }
    }
}
