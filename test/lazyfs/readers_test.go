package lazyfs

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"
)

// readers are a process that reads files of an image at random, each of its threads in a way of its own, and compares every byte, until
// it is told to end. It is a process of its own since a Go program stands still while the kernel waits for a page that it has mapped:
// the web server of the test would too, and the page would never come.
type readers struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	said  chan report
	ended chan struct{}

	mu   sync.Mutex // one question at a time
	last report
	over bool
}

// report is what readers say: an answer, or an error.
type report struct {
	Reads   int64
	Bytes   int64
	Longest time.Duration // that a read took, of those that ended since the last mark
	Overdue time.Duration // how long after the mark the last read ended that had begun before it
	Waiting int           // reads that began before the mark and have not ended
	Error   string
}

// readVar asks a process of this binary to read: its value is the directory of the mount, and treeVar's that of the right bytes.
const (
	readVar = "WINDLASS_LAZYFS_READ"
	treeVar = "WINDLASS_LAZYFS_TREE"
)

// read starts readers of an image that is mounted at dir. They end with the test at the latest.
func read(t *testing.T, img *image, dir string) *readers {
	t.Helper()
	r := &readers{t: t, said: make(chan report, 1), ended: make(chan struct{})}
	r.cmd = exec.Command(os.Args[0])
	// A thread that waits for a page counts as one that runs, and the collector waits for it.
	r.cmd.Env = append(os.Environ(), readVar+"="+dir, treeVar+"="+img.tree, "GOMAXPROCS="+strconv.Itoa(2*len(ways())), "GOGC=off", "GOMEMLIMIT=1GiB")
	r.cmd.Stderr = os.Stderr
	var err error
	r.in, err = r.cmd.StdinPipe()
	must(t, err)
	out, err := r.cmd.StdoutPipe()
	must(t, err)
	must(t, r.cmd.Start())
	go r.listen(out)
	t.Cleanup(r.finish)
	return r
}

// listen takes answers, and errors as they come.
func (r *readers) listen(out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var s report
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil || s.Error != "" {
			r.t.Errorf("reader: %s %v", s.Error, err)
			continue
		}
		r.said <- s
	}
	if err := r.cmd.Wait(); err != nil {
		r.t.Errorf("the readers ended: %v", err)
	}
	close(r.ended)
}

// stuckTimeout is how long a read may take at all.
const stuckTimeout = 60 * time.Second

// ask has the readers do something and gives where they are then.
func (r *readers) ask(what string) report {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return r.last
	}
	_, _ = io.WriteString(r.in, what+"\n")
	select {
	case r.last = <-r.said:
	case <-r.ended:
		r.t.Error("the readers have gone")
	case <-time.After(stuckTimeout):
		r.t.Error("readers are stuck")
	}
	return r.last
}

// mark has times be measured from now on.
func (r *readers) mark() { r.t.Helper(); r.ask("mark") }

func (r *readers) now() report { r.t.Helper(); return r.ask("tell") }

// finish has all readers end, which they do or are stuck.
func (r *readers) finish() {
	r.t.Helper()
	if r.over {
		return
	}
	r.ask("end")
	r.over = true
	r.in.Close()
	select {
	case <-r.ended:
	case <-time.After(stuckTimeout):
		_ = r.cmd.Process.Kill()
		<-r.ended
	}
	if r.last.Reads == 0 {
		r.t.Error("nothing was read")
	}
}

// String tells what was read, when all went well.
func (r *readers) String() string {
	s := r.now()
	return fmt.Sprintf("%d reads (%d MiB), 0 wrong, 0 errors, longest %v", s.Reads, s.Bytes>>20, s.Longest.Round(time.Millisecond))
}
