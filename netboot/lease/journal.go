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

	flush sync.Mutex // held by who writes; guards what follows
	f     *os.File
	size  int64
	lines int
	limit int // of lines, from which on the file is written anew

	mu   sync.Mutex
	next *batch
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
	return &journal{path: filepath.Join(dir, fileName), lock: lock, next: &batch{}}, nil
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

func (j *journal) append(b *batch) error {
	_, err := j.f.WriteAt(b.data, j.size)
	if err == nil {
		err = unix.Fdatasync(int(j.f.Fd()))
	}
	if err != nil {
		// no node is told of these, so the next server must not read them
		return fmt.Errorf("write %s: %w", j.path, errors.Join(err, j.f.Truncate(j.size)))
	}
	j.size += int64(len(b.data))
	j.lines += b.lines
	return nil
}

// rewrite replaces the file by one with a line for each lease, those of the batch that gathers among them. When there is no room for that, the
// file grows on.
func (j *journal) rewrite() error {
	var b *batch
	lines := j.all(func() { b = j.take() })
	var data []byte
	for _, line := range lines {
		data = append(append(data, line...), '\n')
	}
	f, err := j.replace(data)
	if err != nil && j.f != nil {
		j.limit = 2 * j.lines
		b.err = j.append(b)
		return b.err
	}
	if err != nil {
		return err
	}
	if j.f != nil {
		j.f.Close() // has no name any more
	}
	j.f, j.size, j.lines, j.limit = f, int64(len(data)), len(lines), max(minLines, 4*len(lines))
	b.err = durable.SyncDir(context.Background(), filepath.Dir(j.path))
	return b.err
}

// goOn opens the file that an earlier server wrote, whose first size bytes are whole lines.
func (j *journal) goOn(size int64) error {
	f, err := os.OpenFile(j.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := f.Truncate(size); err != nil {
		f.Close()
		return err
	}
	j.f, j.size, j.limit = f, size, minLines
	return nil
}

// replace writes a new file, syncs it and gives it the name; the directory is not synced yet.
func (j *journal) replace(data []byte) (*os.File, error) {
	tmp := j.path + durable.TempSuffix
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(tmp, j.path)
	}
	if err != nil {
		f.Close()
		os.Remove(tmp)
		return nil, err
	}
	return f, nil
}
