//! Sections against the timer, under loom: every place at which an interrupt can come, two interrupts in a row.
//!
//! Who holds the lock `cpu` has the processor: a thread takes it for one instruction, a handler from its entrance to its end, for on
//! its own CPU nothing interrupts it. So loom's every interleaving is every way of being interrupted. The handler is that of
//! tick.rs, the instructions are those of `SafepointsHeld`.

use super::Section;
use core::sync::atomic::Ordering;
use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
use loom::thread;

struct Machine {
    cpu: Mutex<State>,
    /// Ends a `hlt`.
    interrupted: Condvar,
}

struct State {
    section: Section,
    /// What a section protects is half done.
    is_torn: bool,
    /// The timer has fired and nobody has done yet what a tick does.
    is_owed: bool,
    interrupts: usize,
}

impl State {
    fn tick(&mut self) {
        assert!(!self.is_torn, "the tick came in the midst of what a section protects");
        self.is_owed = false;
    }

    /// `dec` of the whole word: whether that was the outermost and nothing is noted.
    fn count_down(&mut self) -> bool {
        let is_outermost = self.section.depth.fetch_sub(1, Ordering::Relaxed) == 1;
        is_outermost && !self.section.has_note()
    }
}

impl Machine {
    fn new(depth: u32) -> Arc<Machine> {
        let state = State { section: Section::new(depth), is_torn: false, is_owed: false, interrupts: 0 };
        Arc::new(Machine { cpu: Mutex::new(state), interrupted: Condvar::new() })
    }

    /// The processor, until the guard is dropped: for one instruction, or with interrupts off.
    fn cpu(&self) -> MutexGuard<'_, State> {
        self.cpu.lock().expect("nobody panics with the processor")
    }

    fn enter(&self) {
        self.cpu().section.depth.fetch_add(1, Ordering::Relaxed);
    }

    /// Looks, then stores.
    fn enter_allocating(&self) {
        let is_zero = {
            let cpu = self.cpu();
            !cpu.section.is_inside() && !cpu.section.has_note()
        };
        assert!(is_zero, "a section inside another");
        let cpu = self.cpu();
        cpu.section.depth.store(1, Ordering::Relaxed);
        cpu.section.noted.store(0, Ordering::Relaxed);
    }

    fn leave(&self) {
        let is_done = self.cpu().count_down();
        if !is_done && !self.cpu().section.is_inside() {
            self.act_on_notes();
        }
    }

    /// The end of an allocation: the nested section of the slow path acts.
    fn leave_allocating(&self) {
        let is_done = self.cpu().count_down();
        if !is_done {
            self.enter();
            assert!(self.cpu().section.is_outermost());
            self.leave();
        }
    }

    /// The wrong way round: looks first, then counts down.
    fn leave_looking_first(&self) {
        let has_note = self.cpu().section.has_note();
        self.cpu().count_down();
        if has_note {
            self.act_on_notes();
        }
    }

    fn act_on_notes(&self) {
        self.enter();
        let has_note = self.cpu().section.take_note();
        if has_note {
            self.cpu().tick();
        }
        self.leave();
    }

    /// `hlt`, in a machine whose timer fires once.
    fn halt(&self, cpu: MutexGuard<'_, State>) {
        let is_forever = cpu.interrupts == 1;
        if is_forever {
            drop(cpu);
            panic!("the CPU sleeps for ever");
        }
        drop(self.interrupted.wait(cpu));
    }

    fn protected(&self) {
        self.cpu().is_torn = true;
        self.cpu().is_torn = false;
    }

    fn timer(&self) {
        let mut cpu = self.cpu();
        cpu.is_owed = true;
        cpu.interrupts += 1;
        if cpu.section.is_inside() {
            cpu.section.note();
        } else {
            cpu.section.set_inside(true);
            cpu.section.take_note();
            cpu.tick();
            cpu.section.set_inside(false);
        }
        self.interrupted.notify_all();
    }
}

/// Runs `thread` with `interrupts` of them at every place; in the end nothing may be owed.
fn interrupt_everywhere(interrupts: usize, depth: u32, thread: fn(&Machine)) {
    loom::model(move || {
        let machine = Machine::new(depth);
        let timer = thread::spawn({
            let machine = machine.clone();
            move || (0..interrupts).for_each(|_| machine.timer())
        });
        thread(&machine);
        timer.join().expect("the handler does not panic");
        let cpu = machine.cpu();
        assert!(!cpu.is_owed, "a note was lost");
        assert_eq!((cpu.section.is_inside(), cpu.section.has_note()), (depth != 0, false));
    });
}

#[test]
fn no_note_is_lost_wherever_the_timer_interrupts_a_section() {
    interrupt_everywhere(2, 0, |machine| {
        machine.enter();
        machine.protected();
        machine.leave();
    });
}

#[test]
fn no_note_is_lost_wherever_the_timer_interrupts_an_allocation() {
    interrupt_everywhere(2, 0, |machine| {
        machine.enter_allocating();
        machine.protected();
        machine.leave_allocating();
    });
}

#[test]
fn no_note_is_lost_in_nested_sections_and_between_two() {
    interrupt_everywhere(1, 0, |machine| {
        machine.enter();
        machine.enter();
        machine.protected();
        machine.leave();
        machine.protected();
        machine.leave();
        machine.enter();
        machine.leave();
    });
}

#[test]
#[should_panic(expected = "a note was lost")]
fn looking_before_counting_down_loses_a_note() {
    interrupt_everywhere(1, 0, |machine| {
        machine.enter();
        machine.leave_looking_first();
    });
}

#[test]
#[should_panic(expected = "in the midst")]
fn without_a_section_the_tick_comes_in_the_midst() {
    interrupt_everywhere(1, 0, Machine::protected);
}

/// `schedule` in sched/dispatch.rs, with nobody to run: a section without end that acts on notes by itself.
fn idle(machine: &Machine, halt: fn(&Machine)) {
    while machine.cpu().interrupts == 0 || machine.cpu().is_owed {
        let has_note = machine.cpu().section.take_note();
        if has_note {
            machine.cpu().tick();
        } else {
            halt(machine);
        }
    }
}

#[test]
fn an_idle_cpu_never_sleeps_through_its_timer() {
    interrupt_everywhere(1, 1, |machine| {
        idle(machine, |machine| {
            let cpu = machine.cpu(); // cli
            if !cpu.section.has_note() {
                machine.halt(cpu); // sti; hlt
            }
        });
    });
}

#[test]
#[should_panic(expected = "sleeps for ever")]
fn looking_for_notes_with_interrupts_on_may_sleep_for_ever() {
    interrupt_everywhere(1, 1, |machine| {
        idle(machine, |machine| {
            let has_note = machine.cpu().section.has_note();
            if !has_note {
                machine.halt(machine.cpu());
            }
        });
    });
}
