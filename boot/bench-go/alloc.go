package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

// Types with a pointer: the collector must scan them.
type (
	scan8 struct {
		p *byte
	}
	scan16 struct {
		p *byte
		_ [8]byte
	}
	scan24 struct {
		p *byte
		_ [16]byte
	}
	scan64 struct {
		p *byte
		_ [56]byte
	}
	scan512 struct {
		p *byte
		_ [504]byte
	}
)

// Every allocation is stored in one of these globals and so escapes to the heap.
// The loops are written out, not generic, so that the compiler knows the size
// and calls its size-specialised allocator, as ordinary Go code does.
var (
	n1     *[1]byte
	n2     *[2]byte
	n4     *[4]byte
	n8     *[8]byte
	n16    *[16]byte
	n32    *[32]byte
	n64    *[64]byte
	n128   *[128]byte
	n256   *[256]byte
	n512   *[512]byte
	n1024  *[1024]byte
	n4096  *[4096]byte
	n8192  *[8192]byte
	n32768 *[32768]byte
	n64k   *[64 << 10]byte
	n1m    *[1 << 20]byte
	n16m   *[16 << 20]byte
	s8     *scan8
	s16    *scan16
	s24    *scan24
	s64    *scan64
	s512   *scan512
)

var allocs = []struct {
	name string
	size int
	f    func(n int)
}{
	// Below 16 bytes without pointers: the tiny allocator (several per block).
	{"tiny/1", 1, func(n int) {
		for range n {
			n1 = new([1]byte)
		}
	}},
	{"tiny/2", 2, func(n int) {
		for range n {
			n2 = new([2]byte)
		}
	}},
	{"tiny/4", 4, func(n int) {
		for range n {
			n4 = new([4]byte)
		}
	}},
	{"tiny/8", 8, func(n int) {
		for range n {
			n8 = new([8]byte)
		}
	}},
	{"noscan/16", 16, func(n int) {
		for range n {
			n16 = new([16]byte)
		}
	}},
	{"noscan/32", 32, func(n int) {
		for range n {
			n32 = new([32]byte)
		}
	}},
	{"noscan/64", 64, func(n int) {
		for range n {
			n64 = new([64]byte)
		}
	}},
	{"noscan/128", 128, func(n int) {
		for range n {
			n128 = new([128]byte)
		}
	}},
	{"noscan/256", 256, func(n int) {
		for range n {
			n256 = new([256]byte)
		}
	}},
	{"noscan/512", 512, func(n int) {
		for range n {
			n512 = new([512]byte)
		}
	}},
	{"noscan/1024", 1024, func(n int) {
		for range n {
			n1024 = new([1024]byte)
		}
	}},
	{"noscan/4096", 4096, func(n int) {
		for range n {
			n4096 = new([4096]byte)
		}
	}},
	{"noscan/8192", 8192, func(n int) {
		for range n {
			n8192 = new([8192]byte)
		}
	}},
	{"noscan/32768", 32768, func(n int) {
		for range n {
			n32768 = new([32768]byte)
		}
	}},
	{"scan/8", 8, func(n int) {
		for range n {
			s8 = new(scan8)
		}
	}},
	{"scan/16", 16, func(n int) {
		for range n {
			s16 = new(scan16)
		}
	}},
	{"scan/24", 24, func(n int) {
		for range n {
			s24 = new(scan24)
		}
	}},
	{"scan/64", 64, func(n int) {
		for range n {
			s64 = new(scan64)
		}
	}},
	{"scan/512", 512, func(n int) {
		for range n {
			s512 = new(scan512)
		}
	}},
	{"large/64KiB", 64 << 10, func(n int) {
		for range n {
			n64k = new([64 << 10]byte)
		}
	}},
	{"large/1MiB", 1 << 20, func(n int) {
		for range n {
			n1m = new([1 << 20]byte)
		}
	}},
	{"large/16MiB", 16 << 20, func(n int) {
		for range n {
			n16m = new([16 << 20]byte)
		}
	}},
}

// allocSerial: one goroutine allocates and drops.
//
//	gogc=off  the collector runs between timed batches only: neither mark nor
//	          sweep is in the figure; clearing of reused memory is.
//	gogc=100  steady state with an almost empty live heap, a cycle about every
//	          4 MiB: concurrent mark, assists and lazy sweep are in the figure.
func allocSerial() {
	for _, a := range allocs {
		debug.SetGCPercent(-1)
		if name := "alloc/" + a.name + "/gogc=off"; wanted(name) {
			report(name, perOpNoGC(a.size, a.f), "ns/op")
		}
	}
	debug.SetGCPercent(100)
	for _, a := range allocs {
		bench("alloc/"+a.name+"/gogc=100", a.f)
	}
	n64k, n1m, n16m = nil, nil, nil
}

// perOpNoGC is perOp for f that allocates size bytes per iteration with the
// collector off: batches of at most 256 MiB, collected between the timings.
func perOpNoGC(size int, f func(n int)) float64 {
	batch := max(1, (256<<20)/max(size, 8))
	n := min(batch, 64)
	for { // calibrate, and warm the heap up
		t0 := time.Now()
		f(n)
		d := time.Since(t0)
		runtime.GC()
		if n == batch || d > *target/6 {
			break
		}
		n = min(batch, n*4)
	}
	var ns []float64
	var spent time.Duration
	for len(ns) < 3 || spent < *target {
		t0 := time.Now()
		f(n)
		d := time.Since(t0)
		spent += d
		ns = append(ns, float64(d)/float64(n))
		runtime.GC()
	}
	return median(ns)
}

// Padded per-goroutine sinks, so that the goroutines share no cache line.
var (
	parN [4]struct {
		p *[64]byte
		_ [120]byte
	}
	parS [4]struct {
		p *scan64
		_ [120]byte
	}
	ballast []byte
)

// allocParallel: p goroutines on p processors allocate 64-byte objects; the
// figure is their sum. With an almost empty heap the collector runs every 4 MiB,
// with 64 MiB of live bytes (without pointers) every 64 MiB.
func allocParallel() {
	kinds := []struct {
		name string
		f    func(id, n int)
	}{
		{"noscan/64", func(id, n int) {
			for range n {
				parN[id].p = new([64]byte)
			}
		}},
		{"scan/64", func(id, n int) {
			for range n {
				parS[id].p = new(scan64)
			}
		}},
	}
	for _, k := range kinds {
		for _, p := range []int{1, 2, 4} {
			runtime.GOMAXPROCS(p)
			all := func(n int) { parallel(p, n, k.f) }
			name := fmt.Sprintf("alloc-parallel/%s/p%d", k.name, p)
			debug.SetGCPercent(-1)
			if wanted(name + "/gogc=off") {
				report(name+"/gogc=off", float64(p)*1000/perOpNoGC(64*p, all), "Mops/s")
			}
			debug.SetGCPercent(100)
			if wanted(name + "/gogc=100") {
				report(name+"/gogc=100", float64(p)*1000/perOp(all), "Mops/s")
			}
			if wanted(name + "/gogc=100-64MiB-live") {
				ballast = make([]byte, 64<<20)
				runtime.GC()
				report(name+"/gogc=100-64MiB-live", float64(p)*1000/perOp(all), "Mops/s")
				ballast = nil
				runtime.GC()
			}
		}
	}
}

// parallel runs f(id, n) in p goroutines and waits for them.
func parallel(p, n int, f func(id, n int)) {
	var wg sync.WaitGroup
	for id := range p {
		wg.Go(func() { f(id, n) })
	}
	wg.Wait()
}
