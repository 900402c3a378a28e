fn main() {
    runtime::upcall::timer(&mut runtime::platform::Registers::default(), runtime::addr::Range::EMPTY);
}
