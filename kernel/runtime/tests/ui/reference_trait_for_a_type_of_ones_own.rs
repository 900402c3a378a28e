use runtime::Reference;

#[derive(Clone, Copy)]
struct Fat(usize, usize);

// SAFETY: none: two words are no reference.
unsafe impl Reference for Fat {
    type Target = u8;
}

fn main() {}
