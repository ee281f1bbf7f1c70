package journal

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
)

// File is a log of bounded size: what is older than its last two parts is forgotten.
type File struct {
	path string
	size int64

	mu      sync.Mutex
	f       *os.File
	written int64
}

// OpenFile appends to the file at path, which is made, with its directory, for root alone. It has at most twice size bytes, half of them in
// path.1.
func OpenFile(path string, size int64) (*File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	l := &File{path: path, size: size}
	return l, l.open()
}

func (l *File) open() (err error) {
	if l.f, err = os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	st, err := l.f.Stat()
	if err != nil {
		return err
	}
	l.written = st.Size()
	return nil
}

// Write appends p.
func (l *File) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.written+int64(len(p)) > l.size {
		err := errors.Join(l.f.Close(), os.Rename(l.path, l.path+".1"), l.open())
		if err != nil {
			return 0, err
		}
	}
	n, err := l.f.Write(p)
	l.written += int64(n)
	return n, err
}
