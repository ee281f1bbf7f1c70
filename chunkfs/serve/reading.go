package serve

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"
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

// recheck is how often an interrupted reader is looked at: the kernel sends one interrupt, and is silent when a deadly signal follows.
const recheck = 50 * time.Millisecond

func (r *reading) watch() {
	tick := time.NewTicker(recheck)
	defer tick.Stop()
	for !killed(r.pid) {
		select {
		case <-tick.C:
		case <-r.done:
			return
		}
	}
	r.giveUp()
}

// killed reports whether a thread is gone, or has SIGKILL pending, which every deadly signal becomes.
func killed(pid uint32) bool {
	if pid == 0 {
		return false
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if os.IsNotExist(err) {
		return true
	}
	for line := range bytes.Lines(b) {
		if mask, ok := bytes.CutPrefix(line, []byte("SigPnd:")); ok {
			pending, err := strconv.ParseUint(string(bytes.TrimSpace(mask)), 16, 64)
			return err == nil && pending&(1<<(9-1)) != 0
		}
	}
	return false
}
