"""gdb's commands for Tricolor: green threads, spans and heap objects, read from the stopped machine. Go: runtime-gdb.py.

    info goroutines          every green thread: * for the one on the CPU, number, state, the function that it is in
    goroutine N COMMAND      COMMAND as if thread N were running; `goroutine 1 bt`
    info spans [BYTES]       every span of the heap, or those with slots of so many bytes
    heapobj ADDRESS          the object that the address points into, and its words

Nothing runs in the guest: all is read by the names of the runtime's own types, so a change there shows here as an error.
"""

import gdb

PAGE = 8192
CLASSES = 68
# The last: of objects over 512 bytes (span_class.rs).
KINDS = ["noscan", "precise", "ambiguous", "precise"]
SPAN_STATES = ["free", "supplied", "cached", "central", "large"]
WRAPPINGS = ["value", "data", "inner", "v", "__0", "pointer"]


def bare(value):
    """What is inside cells, atomics, locks and newtypes."""
    while value.type.strip_typedefs().code == gdb.TYPE_CODE_STRUCT:
        names = [field.name for field in value.type.strip_typedefs().fields()]
        inside = next((name for name in WRAPPINGS if name in names), None)
        if inside is None:
            break
        value = value[inside]
    return value


def static(name):
    symbol = gdb.lookup_static_symbol(name) or gdb.lookup_global_symbol(name)
    if symbol is None:
        raise gdb.GdbError("no symbol %s: is the kernel's ELF file loaded?" % name)
    return bare(symbol.value())


def number(value):
    return int(bare(value))


def variant(value):
    """An enum's value as Rust's debug format has it, without the path: Parked(Sleep)."""
    return ", ".join(part.split("::")[-1] for part in str(value).split("(")).replace(")", "")


def records(pool):
    """All records of a FixedPool."""
    table = pool["slots"]
    name = str(table.type.strip_typedefs())
    slot = gdb.lookup_type(name[name.index("<") + 1 : name.rindex(", ")])
    start = number(table["range"]["start"])
    for index in range(int(table["length"])):
        at = gdb.Value(start + index * slot.sizeof).cast(slot.pointer())
        yield at.dereference()["record"]


class Thread:
    """A green thread, as its record has it."""

    STATES = {"Runnable": "runnable", "Running": "running", "Parked": "waiting"}

    def __init__(self, record):
        self.record = record
        self.id = number(record["id"])
        self.state = variant(bare(record["state"]))

    @staticmethod
    def all():
        threads = [Thread(record) for record in records(static("runtime::sched::records::THREADS"))]
        return sorted((thread for thread in threads if thread.state != "Free"), key=lambda thread: thread.id)

    @staticmethod
    def find(id):
        for thread in Thread.all():
            if thread.id == id:
                return thread
        raise gdb.GdbError("there is no goroutine %d" % id)

    def registers(self):
        """RIP, RSP and RBP where it goes on; None: the CPU has them."""
        if self.state == "Running":
            return None
        word = gdb.lookup_type("u64").pointer()
        # preempt/stub.rs: RBP, then the interrupted address; below there was no red zone.
        if preempted := number(self.record["stub_frame"]):
            frame = gdb.Value(preempted).cast(word)
            return {"rip": int(frame[1]), "rsp": preempted + 2 * 8, "rbp": int(frame[0])}
        # switch.rs: six registers, RBP last, then the address to go on at.
        rsp = number(self.record["saved_sp"])
        frame = gdb.Value(rsp).cast(word)
        return {"rip": int(frame[6]), "rsp": rsp + 7 * 8, "rbp": int(frame[5])}

    def function(self):
        """Its innermost function that is not the runtime's own, if there is one."""
        with Swapped(self.registers()):
            frame = gdb.newest_frame()
            innermost = frame.name() or "?"
            while frame is not None:
                name = frame.name() or "?"
                if not name.startswith(("runtime::", "core::", "alloc::", "spin::")):
                    return innermost if name == "?" else name
                frame = frame.older()
            return innermost


class Swapped:
    """The CPU's registers, replaced for a while."""

    def __init__(self, registers):
        self.registers = registers or {}

    def __enter__(self):
        self.saved = {name: int(gdb.parse_and_eval("$" + name)) for name in self.registers}
        self.set(self.registers)

    def __exit__(self, *_):
        self.set(self.saved)

    @staticmethod
    def set(registers):
        for name, value in registers.items():
            gdb.execute("set $%s = 0x%x" % (name, value & (1 << 64) - 1), to_string=True)


class InfoGoroutines(gdb.Command):
    """Lists the green threads: * for the one on the CPU, number, state, function; behind it what a waiting one waits for."""

    def __init__(self):
        super().__init__("info goroutines", gdb.COMMAND_STACK, gdb.COMPLETE_NONE)

    def invoke(self, _argument, _from_tty):
        threads = Thread.all()
        if not threads:
            print("no goroutines yet: the runtime has not started")
        for thread in threads:
            running = "*" if thread.state == "Running" else " "
            name, _, reason = thread.state.partition(", ")
            state = Thread.STATES.get(name, name)
            print("%s %d %-8s %s%s" % (running, thread.id, state, thread.function(), reason and " (%s)" % reason))


class Goroutine(gdb.Command):
    """goroutine N COMMAND: runs a command as if green thread N were on the CPU."""

    def __init__(self):
        super().__init__("goroutine", gdb.COMMAND_STACK, gdb.COMPLETE_NONE)

    def invoke(self, argument, _from_tty):
        words = argument.split(None, 1)
        if len(words) != 2 or not words[0].isdigit():
            raise gdb.GdbError("usage: goroutine N COMMAND, as in goroutine 1 bt")
        with Swapped(Thread.find(int(words[0])).registers()):
            gdb.execute(words[1])


class Span:
    def __init__(self, record):
        self.record = record
        self.base, self.pages = number(record["base"]), number(record["pages"])
        self.slots, self.slot_bytes = number(record["slots"]), number(record["slot_bytes"])
        self.kind = KINDS[number(record["class"]) // CLASSES]
        self.state = SPAN_STATES[number(record["state"])]
        # heap/sweep.rs: until a span is swept, its marks say what is in it.
        is_swept = self.state == "cached" or number(record["generation"]) == Span.generation()
        self.bits = "allocated" if is_swept else "marked"

    @staticmethod
    def generation():
        return number(static("runtime::gc::HEAP")["sweep"]["generation"])

    @staticmethod
    def all():
        spans = [Span(record) for record in records(bare(static("runtime::gc::HEAP")["page_heap"])["spans"])]
        return sorted((span for span in spans if span.state not in ("free", "supplied")), key=lambda span: span.base)

    def is_allocated(self, slot):
        # heap/window.rs: of the 64 slots that a CPU allocates from, the free ones are set.
        if slot // 64 * 64 == number(self.record["window_start"]):
            return number(self.record["window"]) >> (slot % 64) & 1 == 0
        return number(self.record["bits"][slot // 64][self.bits]) >> (slot % 64) & 1 != 0

    def allocated(self):
        return sum(self.is_allocated(slot) for slot in range(self.slots))


class InfoSpans(gdb.Command):
    """info spans [BYTES]: lists the heap's spans, or those with slots of so many bytes."""

    def __init__(self):
        super().__init__("info spans", gdb.COMMAND_DATA, gdb.COMPLETE_NONE)

    def invoke(self, argument, _from_tty):
        wanted = int(gdb.parse_and_eval(argument)) if argument else None
        print("base                pages  slots allocated  slot bytes  kind       state")
        for span in Span.all():
            if wanted in (None, span.slot_bytes):
                figures = (span.base, span.pages, span.slots, span.allocated(), span.slot_bytes, span.kind, span.state)
                print("0x%016x %6d %6d %9d %11d  %-9s  %s" % figures)


class HeapObject(gdb.Command):
    """heapobj ADDRESS: the object that an address points into, and its first words."""

    def __init__(self):
        super().__init__("heapobj", gdb.COMMAND_DATA, gdb.COMPLETE_EXPRESSION)

    def invoke(self, argument, _from_tty):
        address = int(gdb.parse_and_eval(argument)) & (1 << 64) - 1
        span = next((span for span in Span.all() if 0 <= address - span.base < span.pages * PAGE), None)
        slot = span and (address - span.base) // span.slot_bytes
        if span is None or slot >= span.slots:
            print("0x%x is in no object of the heap" % address)
            return
        at = span.base + slot * span.slot_bytes
        is_allocated = "allocated" if span.is_allocated(slot) else "free"
        place = (at, address - at, span.slot_bytes, is_allocated, slot, span.slots, span.base, span.kind, span.state)
        print("object 0x%x +0x%x, %d bytes, %s: slot %d of %d in the span at 0x%x, %s, %s" % place)
        gdb.execute("x/%dgx 0x%x" % (min(span.slot_bytes // 8, 8), at))


for command in (InfoGoroutines, Goroutine, InfoSpans, HeapObject):
    command()
