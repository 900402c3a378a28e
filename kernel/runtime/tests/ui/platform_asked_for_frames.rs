fn main() {
    let heap = runtime::addr::Range::EMPTY;
    runtime::platform::platform().decommit(heap);
}
