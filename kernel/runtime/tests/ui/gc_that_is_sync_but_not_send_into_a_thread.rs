use runtime::prelude::*;

/// As a `MutexGuard`: many may look, its thread alone may have it.
#[derive(Trace)]
struct Guard(core::marker::PhantomData<*const ()>);

// SAFETY: nothing is in it.
unsafe impl Sync for Guard {}

fn shared<T: Sync>(_: &T) {}

fn main() {
    shared(&Guard(core::marker::PhantomData));
    let guard = Gc::new(Guard(core::marker::PhantomData));
    go(move || guard);
}
