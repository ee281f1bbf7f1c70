package serve

import (
	"sync"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/fusefs"
)

// reading is a read request under way.
//
// The kernel sends an interrupt for every signal of the reader, also for those that have a handler. A read of a file or a page fault that
// fails with EINTR is what no program expects, and to EROFS it is an input error. So a read is given up only when its reader has been
// killed: that waits for our answer, and for nothing else.
type reading struct {
	node   uint64
	pid    uint32 // the reader's thread; 0: of a namespace that we do not see, never given up
	cancel chan struct{}
	done   chan struct{} // closed when it is answered
	once   sync.Once
}

func (r *reading) giveUp() { r.once.Do(func() { close(r.cancel) }) }

func (r *reading) watch() {
	tick := time.NewTicker(fusefs.Recheck)
	defer tick.Stop()
	for !fusefs.Killed(r.pid) {
		select {
		case <-tick.C:
		case <-r.done:
			return
		}
	}
	r.giveUp()
}
