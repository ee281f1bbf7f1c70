package overlay

import (
	"os"

	"golang.org/x/sys/unix"
)

// The directories that this package makes.
const (
	upperName = "upper"
	workName  = "work"
	emptyName = "empty"
)

// stack is what an overlay is made of, held open, so that nothing can be put in the place of what was checked.
type stack struct {
	lower       []*os.File // uppermost first
	base        *os.File   // where upper and work lie
	upper, work *os.File   // nil without an upper
	release     func()     // gives the upper free for other calls; may be nil
}

func (s *stack) closeLayers() {
	for _, f := range append([]*os.File{s.base, s.upper, s.work}, s.lower...) {
		if f != nil {
			f.Close()
		}
	}
	s.lower, s.base, s.upper, s.work = nil, nil, nil, nil
}

func (s *stack) close() {
	s.closeLayers()
	if s.release != nil {
		s.release()
	}
}

// openDir opens a directory O_PATH.
func openDir(path string, flags int) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}
