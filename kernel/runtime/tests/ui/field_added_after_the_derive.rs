#![feature(macro_attr)]
use runtime::prelude::*;

macro_rules! with_another_field {
    attr() (struct $name:ident { $($fields:tt)* }) => {
        struct $name { $($fields)* hidden: Box<u64> }
    };
}

#[derive(Trace)]
#[with_another_field]
struct Owner {
    number: u64,
}

fn main() {}
