use runtime::prelude::*;

fn longer<'a>(short: Gc<&'a str>) -> Gc<&'static str> {
    short
}

fn main() {}
