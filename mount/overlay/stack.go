package overlay

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/idmap"
)

// The directories that this package makes.
const (
	upperName = "upper"
	workName  = "work"
	emptyName = "empty"
)

// stack is what an overlay is made of, held open, so that nothing can be put in the place of what was checked.
type stack struct {
	lower       []*os.File   // uppermost first
	base        *os.File     // where upper and work lie
	upper, work *os.File     // nil without an upper
	release     func()       // gives the upper free for other calls; may be nil
	ids         *idmap.Range // that the overlay is to show; nil for those of the layers
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

// names are the paths of upper and work, empty without an upper.
func (s *stack) names() (upper, work string) {
	if s.upper == nil {
		return "", ""
	}
	return s.upper.Name(), s.work.Name()
}

// openDir opens a directory O_PATH.
func openDir(path string, flags int) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}
