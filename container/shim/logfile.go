package shim

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/windlass-hpc/windlass/container/shim/proto"
)

// logFile is the container's log. A full disk never blocks the container: what cannot be written is dropped and counted, and the gap
// is noted in the log as soon as something can be written again.
type logFile struct {
	path    string
	limit   int64
	f       *os.File
	size    int64
	dropped int64
	why     error
}

func openLog(dir string, limit int64) (*logFile, error) {
	l := &logFile{path: filepath.Join(dir, proto.LogName), limit: limit}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open the log: %w", err)
	}
	l.f, l.size = f, st.Size()
	return l, nil
}

func (l *logFile) write(b []byte) {
	if len(b) == 0 {
		return
	}
	if l.size > 0 && l.size+int64(len(b)) > l.limit {
		l.rotate()
	}
	if l.dropped > 0 {
		note := fmt.Sprintf("\n[windlass: %d bytes of output are missing here: %v]\n", l.dropped, l.why)
		if n, err := l.f.WriteString(note); err != nil {
			l.size += int64(n)
			l.drop(len(b), err)
			return
		}
		l.size += int64(len(note))
		l.dropped, l.why = 0, nil
	}
	n, err := l.f.Write(b)
	l.size += int64(n)
	if err != nil {
		l.drop(len(b)-n, err)
	}
}

func (l *logFile) drop(n int, why error) {
	l.dropped += int64(n)
	l.why = why
}

// rotate keeps the log as log.1 and begins a new one. When that fails the log goes on growing: better than to lose it.
func (l *logFile) rotate() {
	if err := os.Rename(l.path, l.path+".1"); err != nil {
		l.limit *= 2
		return
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		_ = os.Rename(l.path+".1", l.path)
		l.limit *= 2
		return
	}
	l.f.Close()
	l.f, l.size = f, 0
}

func (l *logFile) close() { l.f.Close() }
