use runtime::addr::Address;
use runtime::platform::{Fault, Registers};

fn main() {
    let fault = Fault { address: Address(0), write: true, execute: false, present: false };
    runtime::upcall::page_fault(fault, &mut Registers::default());
}
