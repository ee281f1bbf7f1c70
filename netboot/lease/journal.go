package lease

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/durable"
)

// The files in the directory of leases.
const (
	fileName = "leases.jsonl"
	lockName = "lock"
)

// minLines is how many lines the file has at least before it is written anew.
const minLines = 4096

// journal is the file of leases: a line for each that was given or ended, of which the last one of a node and of an address counts. What
// several nodes wait for is synced together: while one sync is under way, the next lines gather.
//
// Lock order: flush, then the lock that all takes, then mu.
type journal struct {
	path string
	lock *os.File // as long as it is open, this server alone writes
	// all gives one line for each lease, and calls gathered while no line can be added.
	all func(gathered func()) (lines [][]byte)

	// syncDir is durable.SyncDir, but for tests.
	syncDir func(ctx context.Context, dir string) error

	flush sync.Mutex // held by who writes; guards what follows
	f     *os.File
	named bool // that the file has its name is on disk, too
	size  int64
	lines int
	limit int // of lines, from which on the file is written anew

	mu     sync.Mutex
	next   *batch
	failed error // of what was written last
}

// batch is lines that are synced together. It is guarded by flush once it is taken.
type batch struct {
	data  []byte
	lines int
	taken bool
	err   error
}

// openJournal makes the directory, and sees to it that nobody else writes there. Nothing can be added before rewrite.
func openJournal(dir string) (*journal, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("another server that runs keeps its leases in %s", dir)
		}
		return nil, err
	}
	return &journal{path: filepath.Join(dir, fileName), lock: lock, syncDir: durable.SyncDir, next: &batch{}}, nil
}

func (j *journal) close() error {
	j.flush.Lock()
	defer j.flush.Unlock()
	var err error
	if j.f != nil {
		err = j.f.Close()
	}
	return errors.Join(err, j.lock.Close())
}

// add has a line written with the next ones; wait says how that went. Lines are in the order of the calls.
func (j *journal) add(line []byte) *batch {
	j.mu.Lock()
	defer j.mu.Unlock()
	b := j.next
	b.data = append(append(b.data, line...), '\n')
	b.lines++
	return b
}

// take ends the gathering of a batch.
func (j *journal) take() *batch {
	j.mu.Lock()
	defer j.mu.Unlock()
	b := j.next
	b.taken = true
	j.next = &batch{}
	return b
}

// wait waits until a batch is on disk. Who comes first writes it, with all that has gathered until then.
func (j *journal) wait(b *batch) error {
	j.flush.Lock()
	defer j.flush.Unlock()
	if b.taken {
		return b.err
	}
	if j.lines >= j.limit {
		_ = j.rewrite() // which says it in b, too
	} else {
		b = j.take()
		b.err = j.append(b)
	}
	return b.err
}
