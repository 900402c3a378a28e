use runtime::prelude::*;

fn wait(thread: &JoinHandle<u8>) {
    let _ = thread.join();
}

fn main() {
    wait(&go(|| 1));
}
