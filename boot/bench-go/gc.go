package main

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
	"unsafe"
)

// withGC runs f and prints its wall time and what the collector did meanwhile.
// The pauses are per cycle: both stop-the-world phases of a cycle added up.
func withGC(name string, f func()) {
	if !wanted(name, "/wall", "/cycles", "/pause-total", "/pause-max", "/allocated", "/heap-sys") {
		return
	}
	runtime.GC()
	var a, b runtime.MemStats
	runtime.ReadMemStats(&a)
	t0 := time.Now()
	f()
	wall := time.Since(t0)
	runtime.ReadMemStats(&b)
	var worst uint64
	for i := max(a.NumGC, max(b.NumGC, 256)-256); i < b.NumGC; i++ {
		worst = max(worst, b.PauseNs[i%256])
	}
	report(name+"/wall", float64(wall)/1e6, "ms")
	report(name+"/cycles", float64(b.NumGC-a.NumGC), "count")
	report(name+"/pause-total", float64(b.PauseTotalNs-a.PauseTotalNs)/1e3, "us")
	report(name+"/pause-max", float64(worst)/1e3, "us")
	report(name+"/allocated", float64(b.TotalAlloc-a.TotalAlloc)/1e6, "MB")
	report(name+"/heap-sys", float64(b.HeapSys-b.HeapReleased)/1e6, "MB")
}

// ---- binary trees (Benchmarks Game) ----

type tree struct{ l, r *tree }

func bottomUp(d int) *tree {
	if d == 0 {
		return &tree{}
	}
	return &tree{bottomUp(d - 1), bottomUp(d - 1)}
}

func (t *tree) check() int {
	if t.l == nil {
		return 1
	}
	return 1 + t.l.check() + t.r.check()
}

var longLived *tree

func trees(depth int, par bool) {
	bottomUp(depth + 1).check() // stretch tree
	longLived = bottomUp(depth)
	var wg sync.WaitGroup
	for d := 4; d <= depth; d += 2 {
		work := func() {
			for range 1 << (depth - d + 4) {
				bottomUp(d).check()
			}
		}
		if par {
			wg.Go(work)
		} else {
			work()
		}
	}
	wg.Wait()
	longLived.check()
	longLived = nil
}

// binaryTrees: p1 and p4 run all in one goroutine (on p4 the collector has three
// idle processors); p4-par gives each depth its goroutine.
func binaryTrees() {
	depths := []int{16, 18}
	if *quick {
		depths = []int{12}
	}
	for _, d := range depths {
		runtime.GOMAXPROCS(1)
		withGC(fmt.Sprintf("bintrees/%d/p1", d), func() { trees(d, false) })
		runtime.GOMAXPROCS(4)
		withGC(fmt.Sprintf("bintrees/%d/p4", d), func() { trees(d, false) })
		withGC(fmt.Sprintf("bintrees/%d/p4-par", d), func() { trees(d, true) })
	}
}

// ---- GCBench (Ellis, Kovac, Boehm) ----

type gcNode struct {
	l, r *gcNode
	i, j int
}

func populate(d int, n *gcNode) { // top down
	if d <= 0 {
		return
	}
	n.l, n.r = new(gcNode), new(gcNode)
	populate(d-1, n.l)
	populate(d-1, n.r)
}

func makeNode(d int) *gcNode { // bottom up
	if d <= 0 {
		return new(gcNode)
	}
	return &gcNode{l: makeNode(d - 1), r: makeNode(d - 1)}
}

var (
	gcLong  *gcNode
	gcArray []float64
	gcTemp  *gcNode
)

func gcBenchOnce(stretch, long, array, lo, hi int) {
	gcTemp = makeNode(stretch)
	gcTemp = nil
	gcLong = new(gcNode)
	populate(long, gcLong)
	gcArray = make([]float64, array)
	for i := range array / 2 {
		gcArray[i] = 1 / float64(i+1)
	}
	for d := lo; d <= hi; d += 2 {
		iters := 2 * (1<<(stretch+1) - 1) / (1<<(d+1) - 1)
		for range iters {
			gcTemp = new(gcNode)
			populate(d, gcTemp)
		}
		for range iters {
			gcTemp = makeNode(d)
		}
		gcTemp = nil
	}
	gcLong, gcArray = nil, nil
}

// gcBench uses the classic parameters (18, 16, 500000, 4..16).
func gcBench() {
	for _, p := range []int{1, 4} {
		runtime.GOMAXPROCS(p)
		if *quick {
			withGC(fmt.Sprintf("gcbench/small/p%d", p), func() { gcBenchOnce(14, 12, 50000, 4, 12) })
			continue
		}
		withGC(fmt.Sprintf("gcbench/p%d", p), func() { gcBenchOnce(18, 16, 500000, 4, 16) })
	}
}

// ---- mark throughput ----

type markNode struct { // 32 bytes, two pointers
	a, b *markNode
	_    [2]uint64
}

var markRoot *markNode

// buildTree links n nodes as a complete binary tree in address order: the
// children of node i are 2i+1 and 2i+2.
func buildTree(n int) *markNode {
	v := makeNodes(n)
	for i := range v {
		if 2*i+1 < n {
			v[i].a = v[2*i+1]
		}
		if 2*i+2 < n {
			v[i].b = v[2*i+2]
		}
	}
	return v[0]
}

// buildRandom links n nodes in one random cycle and adds a random second edge:
// the collector finds parallelism, but every step is a cache miss.
func buildRandom(n int) *markNode {
	v := makeNodes(n)
	r := rand.New(rand.NewPCG(3, 4))
	order := make([]uint32, n)
	for i := range order {
		order[i] = uint32(i)
	}
	r.Shuffle(n, func(i, j int) { order[i], order[j] = order[j], order[i] })
	for i, k := range order {
		v[k].a = v[order[(i+1)%n]]
		v[k].b = v[r.IntN(n)]
	}
	return v[0]
}

// buildList links n nodes as one list in random order: no parallelism at all.
func buildList(n int) *markNode {
	root := buildRandom(n)
	for p := root; p != nil; p = p.a {
		p.b = nil
		if p.a == root {
			p.a = nil
		}
	}
	return root
}

func makeNodes(n int) []*markNode {
	v := make([]*markNode, n)
	for i := range v {
		v[i] = new(markNode)
	}
	return v
}

// gcMark: time of a full runtime.GC() over a live heap of n 32-byte objects
// (mark, sweep, the two stops). Nothing else runs, so idle processors mark too.
func gcMark() {
	shapes := []struct {
		name  string
		build func(int) *markNode
	}{{"tree", buildTree}, {"random", buildRandom}, {"list", buildList}}
	sizes := []struct {
		name string
		n    int
	}{{"1e6", 1e6}, {"1e7", 1e7}}
	if *quick {
		sizes = sizes[:1]
		sizes[0].name, sizes[0].n = "2e5", 2e5
	}
	for _, size := range sizes {
		n := size.n
		for _, s := range shapes {
			name := "mark/" + s.name + "/" + size.name
			if !wanted(name, "/p1", "/p1/bandwidth", "/p4", "/p4/bandwidth") {
				continue
			}
			debug.SetGCPercent(-1)
			markRoot = s.build(n)
			runtime.GC() // drops the build's scaffolding
			for _, p := range []int{1, 4} {
				name := fmt.Sprintf("%s/p%d", name, p)
				if !wanted(name) && !wanted(name+"/bandwidth") {
					continue
				}
				runtime.GOMAXPROCS(p)
				ns := repeat(7, func() time.Duration {
					t0 := time.Now()
					runtime.GC()
					return time.Since(t0)
				})
				report(name, ns/float64(n), "ns/object")
				report(name+"/bandwidth", 32*float64(n)/ns*1e3, "MB/s")
			}
			markRoot = nil
			runtime.GC()
		}
	}
}

// ---- sweep ----

var keep []unsafe.Pointer

// gcSweep: runtime.GC() returns after everything is swept. "dead": 256 MiB of
// garbage and nothing to mark, so the time is the sweep plus that of an empty
// cycle, shown as "empty". "half": every other object is dead, time of
// the first cycle (mark half, free half) and of the next one (nothing to free).
func gcSweep() {
	debug.SetGCPercent(-1)
	total := 256 << 20
	if *quick {
		total = 32 << 20
	}
	for _, p := range []int{1, 4} {
		runtime.GOMAXPROCS(p)
		timeGC := func() time.Duration {
			t0 := time.Now()
			runtime.GC()
			return time.Since(t0)
		}
		if name := fmt.Sprintf("sweep/empty/p%d", p); wanted(name) {
			timeGC()
			report(name, repeat(21, timeGC)/1e3, "us")
		}
		for _, size := range []int{32, 512} {
			n := total / size
			fill := func(keepEvery int) {
				keep = make([]unsafe.Pointer, 0, n/2+1)
				for i := range n {
					var q unsafe.Pointer
					if size == 32 {
						n32 = new([32]byte)
						q = unsafe.Pointer(n32)
					} else {
						n512 = new([512]byte)
						q = unsafe.Pointer(n512)
					}
					if keepEvery > 0 && i%keepEvery == 0 {
						keep = append(keep, q)
					}
				}
				if keepEvery == 0 {
					keep = nil
				}
			}
			if name := fmt.Sprintf("sweep/dead/%d/p%d", size, p); wanted(name, "", "/page") {
				ns := repeat(7, func() time.Duration { fill(0); return timeGC() })
				report(name, ns/float64(n), "ns/object")
				report(name+"/page", ns/float64(total/8192), "ns/8KiB-page")
			}
			if name := fmt.Sprintf("sweep/half/%d/p%d", size, p); wanted(name, "/first", "/again") {
				var again []float64
				ns := repeat(5, func() time.Duration {
					fill(2)
					d := timeGC()
					again = append(again, float64(timeGC()))
					return d
				})
				report(name+"/first", ns/float64(n), "ns/object")
				report(name+"/again", median(again)/float64(n), "ns/object")
				keep = nil
				runtime.GC()
			}
		}
	}
}

// ---- pauses ----

var pauseNames = []string{
	"/sched/pauses/total/gc:seconds",
	"/sched/pauses/stopping/gc:seconds",
	"/cpu/classes/gc/total:cpu-seconds",
	"/cpu/classes/total:cpu-seconds",
	"/cpu/classes/idle:cpu-seconds",
	"/gc/cycles/total:gc-cycles",
}

func readMetrics() []metrics.Sample {
	s := make([]metrics.Sample, len(pauseNames))
	for i, n := range pauseNames {
		s[i].Name = n
	}
	metrics.Read(s)
	return s
}

var pauseRows = []string{"/pauses",
	"/pause-p50", "/pause-p90", "/pause-p99", "/pause-max",
	"/stopping-p50", "/stopping-p90", "/stopping-p99", "/stopping-max"}

// reportPauses prints the distribution of the pauses between two readings; a
// percentile is the upper edge of its histogram bucket.
func reportPauses(name string, a, b []metrics.Sample) {
	for i, what := range []string{"pause", "stopping"} {
		ha, hb := a[i].Value.Float64Histogram(), b[i].Value.Float64Histogram()
		counts := make([]uint64, len(hb.Counts))
		var total uint64
		for j := range counts {
			counts[j] = hb.Counts[j] - ha.Counts[j]
			total += counts[j]
		}
		if i == 0 {
			report(name+"/pauses", float64(total), "count")
		}
		for _, q := range []struct {
			name string
			at   float64
		}{{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"max", 1}} {
			var seen uint64
			for j, c := range counts {
				seen += c
				if c > 0 && float64(seen) >= q.at*float64(total) {
					report(name+"/"+what+"-"+q.name, hb.Buckets[j+1]*1e6, "us")
					break
				}
			}
		}
	}
}

// gcPauses: four goroutines churn short trees over 32 MiB of live tree.
func gcPauses() {
	if !wanted("pauses/churn", append([]string{"/objects", "/cycles", "/gc-cpu"}, pauseRows...)...) {
		return
	}
	runtime.GOMAXPROCS(4)
	gcLong = makeNode(19) // 2^20 nodes of 32 bytes
	runtime.GC()
	span := 10 * *target
	a := readMetrics()
	var count [4]struct {
		n int
		_ [120]byte
	}
	t0 := time.Now()
	parallel(4, 0, func(id, _ int) {
		for time.Since(t0) < span {
			makeNode(10)
			count[id].n += 1<<11 - 1
		}
	})
	wall := time.Since(t0)
	runtime.GC() // the cpu classes are brought up to date at the end of a cycle
	b := readMetrics()
	gcLong = nil
	n := 0
	for _, c := range count {
		n += c.n
	}
	report("pauses/churn/objects", float64(n)/wall.Seconds()/1e6, "Mops/s")
	report("pauses/churn/cycles", float64(b[5].Value.Uint64()-a[5].Value.Uint64()), "count")
	gc := b[2].Value.Float64() - a[2].Value.Float64()
	all := b[3].Value.Float64() - a[3].Value.Float64()
	idle := b[4].Value.Float64() - a[4].Value.Float64()
	report("pauses/churn/gc-cpu", 100*gc/(all-idle), "%")
	reportPauses("pauses/churn", a, b)
}

// gcSTW: how long it takes to stop four goroutines in loops without calls, which
// must be interrupted asynchronously. GOMAXPROCS is 4 for 3 spinners plus the
// requester, and for 4 spinners, where the requester also waits for a processor.
func gcSTW() {
	runtime.GOMAXPROCS(4)
	for _, k := range []int{0, 3, 4} {
		name := fmt.Sprintf("stw/%d-spinners", k)
		if !wanted(name, append([]string{"/runtime.GC"}, pauseRows...)...) {
			continue
		}
		a := readMetrics()
		var req []float64
		spin(k, func() {
			for t0 := time.Now(); len(req) < 20 || time.Since(t0) < 10**target && len(req) < 2000; {
				t := time.Now()
				runtime.GC()
				req = append(req, float64(time.Since(t)))
			}
		})
		b := readMetrics()
		report(name+"/runtime.GC", median(req)/1e3, "us")
		reportPauses(name, a, b)
	}
}

// ---- memory overhead ----

// memOverhead keeps objects of random sizes 8..1024 (without pointers) alive and
// compares their requested bytes with what the heap takes: right after a first
// fill, and after every object was replaced on average 4 times under GOGC=100.
// The table of pointers to them is not counted as overhead.
func memOverhead() {
	var names []string
	for _, when := range []string{"filled", "churned-before-gc", "churned-after-gc"} {
		for _, what := range []string{"heap-alloc", "heap-inuse", "heap-held", "metadata"} {
			names = append(names, when+"/"+what)
		}
	}
	if !wanted("mem/", names...) {
		return
	}
	live := 128 << 20
	if *quick {
		live = 16 << 20
	}
	debug.FreeOSMemory()
	var m0, m runtime.MemStats
	runtime.ReadMemStats(&m0)
	r := rand.New(rand.NewPCG(5, 6))
	table := make([]unsafe.Pointer, 0, live/256)
	sizes := make([]uint16, 0, live/256)
	sum := 0
	one := func() (unsafe.Pointer, uint16) {
		n := 8 + r.IntN(1017)
		sum += n
		return unsafe.Pointer(unsafe.SliceData(make([]byte, n))), uint16(n)
	}
	for sum < live {
		p, n := one()
		table, sizes = append(table, p), append(sizes, n)
	}
	tableBytes := float64(cap(table)*8 + cap(sizes)*2)
	show := func(name string) {
		runtime.ReadMemStats(&m)
		f := float64(sum)
		sub := func(a, b uint64) float64 { return float64(a) - float64(b) - tableBytes }
		report("mem/"+name+"/heap-alloc", sub(m.HeapAlloc, m0.HeapAlloc)/f, "x-live")
		report("mem/"+name+"/heap-inuse", sub(m.HeapInuse, m0.HeapInuse)/f, "x-live")
		report("mem/"+name+"/heap-held", sub(m.HeapSys-m.HeapReleased, m0.HeapSys-m0.HeapReleased)/f, "x-live")
		report("mem/"+name+"/metadata", (float64(m.GCSys+m.MSpanInuse+m.MCacheInuse+m.OtherSys)-
			float64(m0.GCSys+m0.MSpanInuse+m0.MCacheInuse+m0.OtherSys))/f, "x-live")
	}
	runtime.GC()
	show("filled")
	for range 4 * len(table) {
		i := r.IntN(len(table))
		sum -= int(sizes[i])
		table[i], sizes[i] = one()
	}
	show("churned-before-gc")
	runtime.GC()
	show("churned-after-gc")
	runtime.KeepAlive(table)
}
