use runtime::platform::Platform;

fn start_again(platform: &'static dyn Platform, start: runtime::Start) {
    runtime::start(platform, start);
}

fn main() {}
