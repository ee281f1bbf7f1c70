package credential

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/helper"
	"github.com/windlass-hpc/windlass/internal/helper/act"
	"github.com/windlass-hpc/windlass/internal/safepath"
)

// Store is the daemon's directory of credentials: a file each, named as requests name it.
type Store struct {
	Dir string
	// Helper reads files in another process; nil: they are read in this one, which waits for ever for a file system that does not answer.
	Helper *helper.Runner
}

// Read gives the secret that src names, without the newline at its end; "" when it names none. NotFound: the file is not there.
// Invalid: it is not one that can be trusted, or it is empty, or too large. Timeout: its file system has not answered in 3 s.
func (s Store) Read(src Source) (string, error) {
	if err := src.Validate("options"); err != nil {
		return "", err
	}
	switch {
	case src.File != "":
		return s.read(src.File, "secret file "+src.File)
	case src.Name != "":
		dir := s.Dir
		if dir == "" {
			dir = DefaultDir
		}
		return s.read(filepath.Join(dir, src.Name), fmt.Sprintf("credential %s (in %s)", src.Name, dir))
	}
	return src.Secret, nil
}

// readTimeout bounds reading one file, which is on the network perhaps.
const readTimeout = 3 * time.Second

// read reads the file at path, which messages call what.
func (s Store) read(path, what string) (string, error) {
	f, err := s.file(path, what)
	if err != nil {
		return "", explain(what, err)
	}
	if err := trusted(f, what); err != nil {
		return "", err
	}
	if len(f.Data) > Max {
		return "", fault.New(fault.Invalid, "%s has more than %d bytes: it cannot be a secret", what, Max)
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(f.Data), "\n"), "\r")
	if text == "" {
		return "", fault.Hintf(fault.New(fault.Invalid, "%s is empty", what), "write the secret to it")
	}
	return text, nil
}

// file reads by way of a helper: a file system on the network may not answer. While one waits for the same file there is no other.
func (s Store) file(path, what string) (helper.File, error) {
	if s.Helper == nil {
		return act.ReadFile(path, Max+1)
	}
	for _, l := range s.Helper.LeftAt(path, helper.OpRead) {
		err := fault.New(fault.Timeout, "stuck: a helper has waited for %s for %s", what, time.Since(l.Since).Round(time.Second))
		return helper.File{}, fault.Hintf(err, "see that the file system with it answers")
	}
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	return s.Helper.Read(ctx, path, Max+1)
}

// trusted sees to it that nobody else can have written the file, or can read it.
func trusted(f helper.File, what string) error {
	if f.Mode&unix.S_IFMT != unix.S_IFREG {
		return fault.New(fault.Invalid, "%s is %s, not a file", what, safepath.TypeName(f.Mode))
	}
	if f.Generated {
		return fault.New(fault.Invalid, "%s is not a file, but made up by the kernel", what)
	}
	if f.UID != 0 && int(f.UID) != os.Geteuid() {
		err := fault.New(fault.Invalid, "%s belongs to user %d: only a file of root's is trusted", what, f.UID)
		return fault.Hintf(err, "chown root it")
	}
	if open := f.Mode & 0o077; open != 0 {
		err := fault.New(fault.Invalid, "%s is open to others (mode %04o)", what, f.Mode&0o7777)
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
	return fault.Hintf(fault.New(fault.KindOf(err), "%s: %w", what, err), "%s", fault.HintOf(err))
}
