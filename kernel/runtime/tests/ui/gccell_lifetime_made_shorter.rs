use runtime::prelude::*;

fn shorter<'a, 'b>(cell: &'b GcCell<Gc<&'static str>>) -> &'b GcCell<Gc<&'a str>> {
    cell
}

fn main() {}
