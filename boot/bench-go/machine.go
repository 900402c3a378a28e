package main

import (
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"time"
)

var (
	sinkInt  uint64
	sinkByte byte
	sinkTime time.Time
)

// machine measures what any runtime on this machine pays: memory bandwidth and
// latency, an atomic add, and the kernel entries that a bare-metal runtime
// would not need.
func machine() {
	bench("machine/alu-chain", func(n int) { // 1 multiply + 1 add, dependent
		x := sinkInt
		for range n {
			x = x*6364136223846793005 + 1442695040888963407
		}
		sinkInt = x
	})
	var a atomic.Int64
	bench("machine/atomic-add", func(n int) {
		for range n {
			a.Add(1)
		}
	})
	bench("machine/call", func(n int) {
		for range n {
			nop()
		}
	})
	bench("machine/time.Now", func(n int) {
		for range n {
			sinkTime = time.Now()
		}
	})
	for _, s := range []struct {
		name string
		size int
	}{{"64", 64}, {"1KiB", 1 << 10}, {"32KiB", 32 << 10}, {"64MiB", 64 << 20}} {
		b, c := make([]byte, s.size), make([]byte, s.size)
		bandwidth("machine/clear/"+s.name, s.size, func() { clear(b) })
		bandwidth("machine/copy/"+s.name, s.size, func() { copy(c, b) })
		sinkByte += c[0]
	}
	// Ways to clear and copy that a kernel would choose from (Go uses AVX2).
	x, y := make([]byte, 32<<10), make([]byte, 32<<10)
	for _, c := range []struct {
		name string
		f    func()
	}{
		{"clear/32KiB/mov8", func() { clearMov(&x[0], len(x)) }},
		{"clear/32KiB/sse16", func() { clearSSE(&x[0], len(x)) }},
		{"clear/32KiB/rep-stosq", func() { clearRep(&x[0], len(x)) }},
		{"clear/32KiB/rep-stosb", func() { clearRepByte(&x[0], len(x)) }},
		{"copy/32KiB/rep-movsq", func() { copyRep(&y[0], &x[0], len(x)) }},
	} {
		bandwidth("machine/"+c.name, len(x), c.f)
	}
	// Dependent loads over a random cycle, one per 64-byte line.
	for _, s := range []struct {
		name  string
		lines int
	}{{"32KiB", 512}, {"1MiB", 16 << 10}, {"256MiB", 4 << 20}} {
		if *quick && s.lines > 1<<20 || !wanted("machine/chase/"+s.name) {
			continue
		}
		m := make([][8]uint32, s.lines*2) // 32 bytes each, every other one used
		p := rand.New(rand.NewPCG(1, 2)).Perm(s.lines)
		for i, v := range p {
			m[2*v][0] = uint32(2 * p[(i+1)%len(p)])
		}
		at := uint32(2 * p[0])
		bench("machine/chase/"+s.name, func(n int) {
			for range n {
				at = m[at][0]
			}
		})
	}
	bench("machine/syscall", func(n int) {
		for range n {
			syscall.Getppid()
		}
	})
	for _, v := range []struct {
		name   string
		advice int
		step   int
	}{
		{"4KiB", 15 /* MADV_NOHUGEPAGE */, 4 << 10},
		{"2MiB-huge", 14 /* MADV_HUGEPAGE */, 2 << 20},
	} {
		if !wanted("machine/pagefault/" + v.name) {
			continue
		}
		const size = 64 << 20
		ns := repeat(9, func() time.Duration {
			m, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE,
				syscall.MAP_ANON|syscall.MAP_PRIVATE)
			if err != nil {
				panic(err)
			}
			defer syscall.Munmap(m)
			syscall.Madvise(m, v.advice)
			t0 := time.Now()
			for i := 0; i < size; i += v.step {
				m[i] = 1
			}
			return time.Since(t0)
		})
		report("machine/pagefault/"+v.name, ns/float64(size/v.step), "ns/page")
	}
	m, err := syscall.Mmap(-1, 0, 4<<10, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err == nil {
		bench("machine/mprotect-pair", func(n int) {
			for range n {
				syscall.Mprotect(m, syscall.PROT_READ)
				syscall.Mprotect(m, syscall.PROT_READ|syscall.PROT_WRITE)
			}
		})
		syscall.Munmap(m)
	}
}

func bandwidth(name string, size int, f func()) {
	if wanted(name) {
		ns := perOp(func(n int) {
			for range n {
				f()
			}
		})
		report(name, float64(size)/ns, "GB/s")
	}
}

//go:noinline
func nop() {}

// In clear_amd64.s.
func clearMov(p *byte, n int)
func clearSSE(p *byte, n int)
func clearRep(p *byte, n int)
func clearRepByte(p *byte, n int)
func copyRep(to, from *byte, n int)
