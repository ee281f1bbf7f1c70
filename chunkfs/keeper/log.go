package keeper

import (
	"fmt"
	"os"
	"sync"
	"time"
)

// maxLog bounds a log in bytes: it lies on a tmpfs, which is memory. What the runtime writes when a program panics comes on top.
const maxLog = 1 << 20

// Log is a log file that keeper and server append to. When it has grown too long, the older half goes.
type Log struct {
	mu sync.Mutex
	f  *os.File
}

// OpenLog opens or makes the log at path.
func OpenLog(path string) (*Log, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &Log{f: f}, nil
}

// InheritedLog is the log that this process has as its standard error; nil when that is no regular file that can be read and written.
func InheritedLog() *Log {
	info, err := os.Stderr.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	l, err := OpenLog(fmt.Sprintf("/proc/self/fd/%d", os.Stderr.Fd()))
	if err != nil {
		return nil
	}
	return l
}

// Write appends b, which is a line or several.
func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if info, err := l.f.Stat(); err == nil && info.Size()+int64(len(b)) > maxLog {
		l.halve(info.Size())
	}
	return l.f.Write(b)
}

func (l *Log) halve(size int64) {
	tail := make([]byte, maxLog/2)
	n, _ := l.f.ReadAt(tail, max(0, size-int64(len(tail))))
	if l.f.Truncate(0) == nil {
		_, _ = l.f.Write(tail[:n])
	}
}

func (l *Log) printf(format string, args ...any) {
	fmt.Fprintf(l, "%s keeper: %s\n", time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), fmt.Sprintf(format, args...))
}
