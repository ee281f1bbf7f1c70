package serve

import (
	"os"
	"strconv"
	"strings"

	"github.com/windlass-hpc/windlass/chunkfs/control"
)

// stats tells how a mount fares. In mode direct there is nothing to tell but that it is complete.
func (s *server) stats(m *mount) control.Stats {
	st := control.Stats{
		Image: m.rec.Image, Mode: m.rec.Mode, Size: m.img.Size(), Cached: m.img.Cached(), Complete: m.img.Complete(),
		Latency: []control.Bucket{}, Prefetch: control.PrefetchState{State: "none"}, RSS: rss(), Kept: s.keeper.Kept(),
	}
	if m.dev == nil {
		return st
	}
	d := m.dev.Stats()
	st.Wanted, st.Served, st.Fetched, st.Shared, st.Amplification = d.Wanted, d.Served, d.Fetched, d.Shared, d.Amplification()
	st.Hits, st.Misses, st.Errors, st.Corrupt, st.Requests, st.LastError = d.Hits, d.Misses, d.Errors, d.Corrupt, d.Requests, d.LastError
	for _, b := range d.Latency {
		st.Latency = append(st.Latency, control.Bucket{Le: b.Le, Count: b.Count})
	}
	st.LatencySum = d.Waited.Seconds()
	st.Prefetch = control.PrefetchState{State: d.Prefetch.State, Done: d.Prefetch.Done, Total: d.Prefetch.Total}
	st.Origins = m.origins.Health()
	return st
}

// rss is the memory of this process that is in RAM, in bytes; without the cache's pages that it shows to nobody but the kernel.
func rss() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}
