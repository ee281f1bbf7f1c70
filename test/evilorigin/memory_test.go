package evilorigin_test

import (
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/test/evilorigin"
)

// bombs are the scripts that send, or promise, more than anybody has room for.
var bombs = []string{"1xx flood", "gzip bomb", "Content-Length of a terabyte", "huge header", "header without end", "chunks without end",
	"200 in chunks without end", "chunk of 16 EiB", "trailer without end", "body without end", "HTTP/2 header without end", "tag is huge"}

// growth is how much larger the heap may become: some buffers of one piece for each of a few attempts.
const growth = 24 << 20 * slowdown

func TestMemoryStaysFlat(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(20)) // what is garbage is not what is asked about
	certs := evilorigin.MakeCerts(t)
	st := newStore(t, 2)
	var most uint64
	for _, script := range evilorigin.Scripts() {
		if !slices.Contains(bombs, script.Name) {
			continue
		}
		t.Run(script.Name, func(t *testing.T) {
			set := open(t, certs, hasty, evilorigin.Serve(t, st.files, certs, &script))
			before := heap()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				atOnce(t, st.most(), set, 300*tick)
			}()
			for running := true; running; {
				select {
				case <-ended:
					running = false
				case <-time.After(5 * time.Millisecond):
				}
				if now := heap(); now > before {
					most = max(most, now-before)
				}
			}
		})
	}
	t.Logf("figure: %d kinds of bombs; the heap grew by %d KiB at most", len(bombs), most>>10)
	if most > growth {
		t.Errorf("the heap grew by %d bytes; %d are the limit", most, growth)
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}
