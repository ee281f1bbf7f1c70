package credential

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/safepath"
)

// Store is the daemon's directory of credentials: a file each, named as requests name it.
type Store struct{ Dir string }

// Read gives the secret that src names, without the newline at its end; "" when it names none. NotFound: the file is not there.
// Invalid: it is not one that can be trusted, or it is empty, or too large.
func (s Store) Read(src Source) (string, error) {
	if err := src.Validate("options"); err != nil {
		return "", err
	}
	switch {
	case src.File != "":
		return read(src.File, "secret file "+src.File)
	case src.Name != "":
		dir := s.Dir
		if dir == "" {
			dir = DefaultDir
		}
		return read(filepath.Join(dir, src.Name), fmt.Sprintf("credential %s (in %s)", src.Name, dir))
	}
	return src.Secret, nil
}

// read reads the file at path, which messages call what.
func read(path, what string) (string, error) {
	// O_NONBLOCK: a fifo without a writer would block the open. O_NOFOLLOW: a link may be somebody else's to change.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return "", explain(what, err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if err := trusted(fd, what); err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(f, Max+1))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", what, err)
	}
	if len(b) > Max {
		return "", fault.New(fault.Invalid, "%s has more than %d bytes: it cannot be a secret", what, Max)
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if text == "" {
		return "", fault.Hintf(fault.New(fault.Invalid, "%s is empty", what), "write the secret to it")
	}
	return text, nil
}

// trusted sees to it that nobody else can have written the open file, or can read it. It looks at what is open: a name could be made to
// mean another file in between.
func trusted(fd int, what string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat %s: %w", what, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fault.New(fault.Invalid, "%s is %s, not a file", what, safepath.TypeName(st.Mode))
	}
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		err := fault.New(fault.Invalid, "%s belongs to user %d: only a file of root's is trusted", what, st.Uid)
		return fault.Hintf(err, "chown root it")
	}
	if open := st.Mode & 0o077; open != 0 {
		err := fault.New(fault.Invalid, "%s is open to others (mode %04o)", what, st.Mode&0o7777)
		return fault.Hintf(err, "chmod 0600 it, and change the secret if others may have read it")
	}
	return nil
}

func explain(what string, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return fault.Hintf(fault.New(fault.NotFound, "there is no %s: %w", what, err), "put the secret there, mode 0600, root's, or name another")
	case errors.Is(err, unix.ELOOP):
		return fault.Hintf(fault.New(fault.Invalid, "%s is a symbolic link, or there are too many on its way", what), "name the file itself")
	case errors.Is(err, unix.ENAMETOOLONG):
		return fault.New(fault.Invalid, "%s: %w", what, err)
	case errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return fault.New(fault.Invalid, "%s is not a file", what)
	}
	return fmt.Errorf("open %s: %w", what, err)
}
