// Command gobench is the performance anchor of the project: a set of named
// micro and macro benchmarks of Go's memory system, garbage collector and
// goroutine scheduler. Each result is one line, `name value unit`; lines that
// start with '#' are facts or remarks, the last of them the total time.
//
//	gobench [-quick] [-rows substring,substring] [-list] [-target 300ms]
//
// Most rows scale their iteration count by time (see perOp), so the program
// works natively and, some 10x to 50x slower, under an emulator. When it runs as
// process 1 (see init.go) it powers the machine off at the end.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

var (
	quick  = flag.Bool("quick", false, "short run: small sizes, 60 ms per row")
	rows   = flag.String("rows", "", "only rows whose names contain one of these, with commas between")
	list   = flag.Bool("list", false, "name the rows, measure nothing")
	target = flag.Duration("target", 300*time.Millisecond, "time to spend per row")
)

// A group prints one or more result lines. Every group starts with
// GOMAXPROCS=4, GOGC=100 and a freshly collected heap.
type group struct {
	name string
	f    func()
}

// The order matters: the runtime never frees g structures and every GC cycle
// walks them all, so the groups with many goroutines come last.
var groups = []group{
	{"machine", machine},
	{"alloc", allocSerial},
	{"alloc-parallel", allocParallel},
	{"gc-bintrees", binaryTrees},
	{"gc-gcbench", gcBench},
	{"gc-mark", gcMark},
	{"gc-sweep", gcSweep},
	{"gc-pauses", gcPauses},
	{"gc-stw", gcSTW},
	{"mem", memOverhead},
	{"stack", stackGrowth},
	{"sched", sched},
	{"sieve", sieve},
	{"parked", parked},
}

func main() {
	finish := initProcess()
	defer finish()
	flag.Parse()
	if *quick {
		*target = 60 * time.Millisecond
	}
	start := time.Now()
	if !*list {
		facts()
	}
	for _, g := range groups {
		runtime.GOMAXPROCS(4)
		debug.SetGCPercent(100)
		runtime.GC()
		t0 := time.Now()
		reported = false
		g.f()
		if reported {
			fmt.Printf("# group %s took %.1f s\n", g.name, time.Since(t0).Seconds())
		}
	}
	fmt.Printf("# total %.1f s\n", time.Since(start).Seconds())
}

// wanted says whether to measure the rows base + suffix, or base alone: that one
// of them is asked for. With -list it names those, and nothing is measured.
func wanted(base string, suffixes ...string) bool {
	if suffixes == nil {
		suffixes = []string{""}
	}
	any := false
	for _, s := range suffixes {
		matches := func(part string) bool { return strings.Contains(base+s, part) }
		if slices.ContainsFunc(strings.Split(*rows, ","), matches) {
			any = true
			if *list {
				fmt.Println(base + s)
			}
		}
	}
	return any && !*list
}

// facts prints what a reader needs to judge the numbers.
func facts() {
	fmt.Printf("# %s %s/%s ncpu=%d target=%v quick=%v\n", runtime.Version(),
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), *target, *quick)
	for _, f := range []string{
		"/proc/version",
		"/sys/devices/system/clocksource/clocksource0/current_clocksource",
		"/sys/kernel/mm/transparent_hugepage/enabled",
	} {
		if b, err := os.ReadFile(f); err == nil {
			fmt.Printf("# %s: %s\n", f, strings.TrimSpace(string(b)))
		}
	}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for l := range strings.Lines(string(b)) {
			if strings.HasPrefix(l, "model name") {
				fmt.Printf("# cpu%s", strings.TrimPrefix(l, "model name"))
				break
			}
		}
	}
}

var reported bool // a row, since the group began

// report prints one result, if it is asked for.
func report(name string, value float64, unit string) {
	if !wanted(name) {
		return
	}
	reported = true
	switch {
	case value >= 1000:
		fmt.Printf("%s %.0f %s\n", name, value, unit)
	case value >= 10:
		fmt.Printf("%s %.1f %s\n", name, value, unit)
	default:
		fmt.Printf("%s %.2f %s\n", name, value, unit)
	}
}

// perOp finds an iteration count that takes about a third of the target, runs
// it three times and returns the median nanoseconds per iteration.
func perOp(f func(n int)) float64 {
	goal := *target / 3
	n := 1
	for {
		t0 := time.Now()
		f(n)
		d := max(time.Since(t0), 1)
		if d >= goal/2 || n >= 1<<30 {
			n = max(1, int(float64(n)*float64(goal)/float64(d)))
			break
		}
		n = max(n+1, int(float64(n)*min(50, float64(goal)/float64(d))))
	}
	var r []float64
	for range 3 {
		t0 := time.Now()
		f(n)
		r = append(r, float64(time.Since(t0))/float64(n))
	}
	return median(r)
}

func bench(name string, f func(n int)) {
	if wanted(name) {
		report(name, perOp(f), "ns/op")
	}
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// repeat calls f, which returns its own measured time, at least once and then
// until the target has been spent or most is reached; it returns the median ns.
func repeat(most int, f func() time.Duration) float64 {
	var v []float64
	for t0 := time.Now(); len(v) == 0 || len(v) < most && time.Since(t0) < 3**target; {
		v = append(v, float64(f()))
	}
	return median(v)
}
