fn main() {
    let held = runtime::cpu::SafepointsHeld::enter();
    runtime::yield_now();
    drop(held);
}
