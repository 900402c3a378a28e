fn main() {
    let _: Option<&runtime::cpu::Cpu> = None;
}
