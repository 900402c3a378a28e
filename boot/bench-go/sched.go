package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// sched: goroutines, channels and locks. p1 and p4 in a name are GOMAXPROCS.
func sched() {
	for _, p := range []int{1, 4} {
		runtime.GOMAXPROCS(p)
		name := func(s string) string { return fmt.Sprintf("%s/p%d", s, p) }

		// Start and finish, 100 goroutines at a time, reused g structures.
		bench(name("goroutine/create+finish"), func(n int) {
			var wg sync.WaitGroup
			for n > 0 {
				k := min(n, 100)
				wg.Add(k)
				for range k {
					go wg.Done()
				}
				wg.Wait()
				n -= k
			}
		})
		// Start one and wait for it.
		bench(name("goroutine/spawn+join"), func(n int) {
			c := make(chan struct{})
			for range n {
				go func() { c <- struct{}{} }()
				<-c
			}
		})
		bench(name("waitgroup/fan-out-10k"), func(n int) {
			for range n {
				var wg sync.WaitGroup
				wg.Add(10000)
				for range 10000 {
					go wg.Done()
				}
				wg.Wait()
			}
		})
		if p == 1 && wanted(name("gosched/switch")) {
			// Two goroutines that only yield: one switch per Gosched.
			report(name("gosched/switch"), perOp(func(n int) {
				parallel(2, n, func(_, n int) {
					for range n {
						runtime.Gosched()
					}
				})
			})/2, "ns/switch")
		}
		bench(name("chan/unbuffered/round-trip"), func(n int) {
			a, b := make(chan int), make(chan int)
			go func() {
				for v := range a {
					b <- v
				}
				close(b)
			}()
			for i := range n {
				a <- i
				<-b
			}
			close(a)
			<-b
		})
		bench(name("chan/buffered-128/throughput"), func(n int) {
			c := make(chan int, 128)
			go func() {
				for i := range n {
					c <- i
				}
				close(c)
			}()
			for range c {
			}
		})
		if p == 1 {
			bench(name("chan/buffered/send+recv-same-goroutine"), func(n int) {
				c := make(chan int, 1)
				for i := range n {
					c <- i
					<-c
				}
			})
			// All four channels are ready; a send puts the value back.
			bench(name("select-4/ready+send"), func(n int) {
				var c [4]chan int
				for i := range c {
					c[i] = make(chan int, 1)
					c[i] <- i
				}
				c0, c1, c2, c3 := c[0], c[1], c[2], c[3]
				for range n {
					select {
					case v := <-c0:
						c0 <- v
					case v := <-c1:
						c1 <- v
					case v := <-c2:
						c2 <- v
					case v := <-c3:
						c3 <- v
					}
				}
			})
		}
		// One sender visits four unbuffered channels in turn; the receiver
		// blocks in a select over all of them.
		bench(name("select-4/blocking"), func(n int) {
			var c [4]chan int
			for i := range c {
				c[i] = make(chan int)
			}
			go func() {
				for i := range n {
					c[i&3] <- i
				}
			}()
			c0, c1, c2, c3 := c[0], c[1], c[2], c[3]
			for range n {
				select {
				case <-c0:
				case <-c1:
				case <-c2:
				case <-c3:
				}
			}
		})
		var mu sync.Mutex
		var count int
		if p == 1 {
			bench(name("mutex/uncontended"), func(n int) {
				for range n {
					mu.Lock()
					count++
					mu.Unlock()
				}
			})
		} else if wanted(name("mutex/contended")) {
			report(name("mutex/contended"), perOp(func(n int) {
				parallel(p, n, func(_, n int) {
					for range n {
						mu.Lock()
						count++
						mu.Unlock()
					}
				})
			})/float64(p), "ns/op")
		}
	}
}

// sieve: the first 2000 primes with a chain of goroutines, one per prime.
func sieve() {
	want := 2000
	if *quick {
		want = 500
	}
	for _, p := range []int{1, 4} {
		name := fmt.Sprintf("sieve/%d/p%d", want, p)
		if !wanted(name) {
			continue
		}
		runtime.GOMAXPROCS(p)
		ns := repeat(3, func() time.Duration {
			t0 := time.Now()
			quit := make(chan struct{})
			src := make(chan int)
			go func() {
				for i := 2; ; i++ {
					select {
					case src <- i:
					case <-quit:
						close(src)
						return
					}
				}
			}()
			in := src
			for range want {
				prime := <-in
				out := make(chan int)
				go func(in, out chan int) {
					for v := range in {
						if v%prime != 0 {
							out <- v
						}
					}
					close(out)
				}(in, out)
				in = out
			}
			d := time.Since(t0)
			close(quit) // not timed: let the chain drain and end
			for range in {
			}
			return d
		})
		report(name, ns/1e6, "ms")
	}
}

// parked: memory and time per goroutine blocked on a channel.
func parked() {
	for _, n := range []int{100_000, 1_000_000} {
		name := fmt.Sprintf("parked/%d", n)
		if *quick && n > 100_000 || !wanted(name, "/create", "/stack", "/heap", "/rss", "/gc", "/wake+finish") {
			continue
		}
		debug.FreeOSMemory()
		var m0, m1 runtime.MemStats
		runtime.ReadMemStats(&m0)
		rss0 := rss()
		gate := make(chan struct{})
		var up, done sync.WaitGroup
		up.Add(n)
		done.Add(n)
		t0 := time.Now()
		for range n {
			go func() {
				up.Done()
				<-gate
				done.Done()
			}()
		}
		up.Wait()
		d := time.Since(t0)
		time.Sleep(50 * time.Millisecond)
		runtime.ReadMemStats(&m1)
		rss1 := rss()
		f := float64(n)
		report(name+"/create", float64(d)/f, "ns/goroutine")
		report(name+"/stack", float64(m1.StackInuse-m0.StackInuse)/f, "bytes")
		report(name+"/heap", (float64(m1.HeapAlloc)-float64(m0.HeapAlloc))/f, "bytes")
		report(name+"/rss", (rss1-rss0)/f, "bytes")
		t0 = time.Now()
		runtime.GC()
		report(name+"/gc", float64(time.Since(t0))/f, "ns/goroutine")
		t0 = time.Now()
		close(gate)
		done.Wait()
		report(name+"/wake+finish", float64(time.Since(t0))/f, "ns/goroutine")
	}
}

// rss returns the resident bytes of this process, or 0.
func rss() float64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, res float64
	fmt.Sscan(string(b), &size, &res)
	return res * 4096
}

var lowest uintptr // address of the deepest frame's local

// descend recurses n frames deep; each frame holds a pointer into the frame
// above, so that moving the stack has something to fix up.
//
//go:noinline
func descend(n int, up *uint64) uint64 {
	var local [4]uint64
	local[n&3] = *up + 1
	if n == 0 {
		lowest = uintptr(unsafe.Pointer(&local))
		return local[0]
	}
	return descend(n-1, &local[n&3]) + local[(n+1)&3]
}

// stackGrowth: recursion to a given depth in bytes on a fresh goroutine, first
// with the stack growing (doubling copies), then again on the grown stack. The
// collector is off, for it would shrink the stack.
func stackGrowth() {
	debug.SetGCPercent(-1)
	frame := 0
	onGoroutine(func() {
		var x uint64
		descend(1000, &x)
		descend(1000, &x)
		a := lowest
		descend(0, &x)
		frame = int(lowest-a) / 1000
	})
	report("stack/frame", float64(frame), "bytes")
	clock := perOp(func(n int) { // cost of the two clock reads
		for range n {
			sinkTime = time.Now()
		}
	})
	for _, s := range []struct {
		name string
		size int
	}{{"64KiB", 64 << 10}, {"1MiB", 1 << 20}, {"64MiB", 64 << 20}} {
		if !wanted("stack/"+s.name, "/growing", "/grown", "/growth-total") {
			continue
		}
		depth := s.size / frame
		var first, second []float64
		for t0 := time.Now(); len(first) < 3 || time.Since(t0) < *target && len(first) < 10000; {
			onGoroutine(func() {
				var x uint64
				t0 := time.Now()
				descend(depth, &x)
				t1 := time.Now()
				descend(depth, &x)
				t2 := time.Now()
				first = append(first, (float64(t1.Sub(t0))-clock)/float64(depth))
				second = append(second, (float64(t2.Sub(t1))-clock)/float64(depth))
			})
		}
		report("stack/"+s.name+"/growing", median(first), "ns/frame")
		report("stack/"+s.name+"/grown", median(second), "ns/frame")
		report("stack/"+s.name+"/growth-total", (median(first)-median(second))*float64(depth)/1000, "us")
	}
}

func onGoroutine(f func()) {
	done := make(chan struct{})
	go func() {
		f()
		close(done)
	}()
	<-done
}

// spin runs k goroutines in loops without calls while f runs.
func spin(k int, f func()) {
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range k {
		wg.Go(func() {
			x := uint64(1)
			for !stop.Load() { // an intrinsic: no call, no safe point
				x = x*6364136223846793005 + 1
			}
			atomic.AddUint64(&sinkInt, x)
		})
	}
	f()
	stop.Store(true)
	wg.Wait()
}
