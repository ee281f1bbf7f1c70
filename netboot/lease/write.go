package lease

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/durable"
)

// append adds a batch to the file. The caller holds flush.
func (j *journal) append(b *batch) error {
	_, err := j.f.WriteAt(b.data, j.size)
	if err == nil {
		err = unix.Fdatasync(int(j.f.Fd()))
	}
	if err != nil {
		// no node is told of these, so the next server must not read them
		return j.note(fmt.Errorf("write %s: %w", j.path, errors.Join(err, j.f.Truncate(j.size))))
	}
	j.size += int64(len(b.data))
	j.lines += b.lines
	_ = j.note(j.settle()) // the lines are in the file: see rewrite
	return nil
}

// settle has the name of a new file on disk. The caller holds flush.
func (j *journal) settle() error {
	if j.named {
		return nil
	}
	if err := j.syncDir(context.Background(), filepath.Dir(j.path)); err != nil {
		return fmt.Errorf("sync the directory of %s: %w", j.path, err)
	}
	j.named = true
	return nil
}

// note remembers how writing went, for who asks after it.
func (j *journal) note(err error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failed = err
	return err
}

// failing gives why leases could not be written lately.
func (j *journal) failing() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failed
}

// rewrite replaces the file by one with a line for each lease, those of the batch that gathers among them. When there is no room for that, the
// file grows on. Once the new file has the name, its lines are what the next server reads: they count as written, though only a later sync of
// the directory may keep them when the power fails.
func (j *journal) rewrite() error {
	var b *batch
	lines := j.all(func() { b = j.take() })
	var data []byte
	for _, line := range lines {
		data = append(append(data, line...), '\n')
	}
	f, err := j.replace(data)
	if err != nil && j.f != nil && b.lines > 0 {
		j.limit = 2 * j.lines
		b.err = j.append(b)
		return b.err
	}
	if err != nil {
		return j.note(err)
	}
	if j.f != nil {
		j.f.Close() // has no name any more
	}
	j.f, j.size, j.lines, j.limit = f, int64(len(data)), len(lines), max(minLines, 4*len(lines))
	j.named = false
	_ = j.note(j.settle())
	return nil
}

// mend writes the file anew when that failed before.
func (j *journal) mend() error {
	if j.failing() == nil {
		return nil
	}
	j.flush.Lock()
	defer j.flush.Unlock()
	if err := j.rewrite(); err != nil {
		return err
	}
	return j.failing()
}

// goOn opens the file that an earlier server wrote, whose first size bytes are whole lines, or an empty one.
func (j *journal) goOn(size int64) error {
	f, err := os.OpenFile(j.path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	if err := f.Truncate(size); err != nil {
		f.Close()
		return err
	}
	j.f, j.size, j.limit, j.named = f, size, minLines, true
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
