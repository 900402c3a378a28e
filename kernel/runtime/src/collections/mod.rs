//! Collections for programs whose memory the collector reads by the type of the elements. Go: slices and maps.
//!
//! `alloc`'s own collections work too: their memory is ambiguous, every aligned word of it may be a reference (allocator.rs). These are for
//! who has many: a `GcVec<(u64, Gc<T>)>` keeps nothing by its numbers, and numbers alone are never read.
//!
//! | ours         | Go                | memory                                                             |
//! |--------------|-------------------|---------------------------------------------------------------------|
//! | [`GcVec<T>`] | `[]T` and `append`| noscan, by element, or ambiguous if no pattern says where references are |
//! | [`GcString`] | `strings.Builder` | noscan                                                             |
//! | [`GcMap<K, V>`] | `map[K]V`      | noscan if keys and values are, else ambiguous                      |
//!
//! They own their elements as `Vec` does: who drops one drops those, and its memory is free for others at once. One
//! that lies in an object of the heap is not dropped when the object dies, for the collector runs no drop glue: what
//! the elements own *in the heap* dies with them, anything else (a lock held, a thread to be joined) is never let go.
//!
//! Where the elements may hold references, nobody gets a `&mut` to one of a [`GcVec`]: all that is written there goes through
//! gc/typed_memory.rs, where a concurrent collector's write barrier can stand. A [`GcMap`]'s memory is ambiguous then, and such a collector
//! reads ambiguous memory again.

mod growth;
mod into_iter;
mod map;
mod map_hash;
mod map_memory;
mod string;
mod vec;
mod vec_traits;

pub use into_iter::IntoIter;
pub use map::GcMap;
pub use map_hash::random_seed;
pub(crate) use map_hash::set_up;
pub use string::GcString;
pub use vec::GcVec;
