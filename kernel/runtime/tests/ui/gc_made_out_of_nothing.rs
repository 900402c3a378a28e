use runtime::prelude::*;
use core::marker::PhantomData;
use core::ptr::NonNull;

fn main() {
    let _ = Gc(NonNull::<u8>::dangling(), PhantomData);
}
