fn main() {
    runtime::gc::HEAP.sweep_all();
}
