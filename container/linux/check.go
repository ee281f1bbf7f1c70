package linux

import (
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/container/shim/proto"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/safepath"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// defaultPath is the container's PATH when env does not say.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// found is what Check finds in an image.
type found struct {
	path string // of the program
	args []string
	user proto.Identity
}

// Check looks at what Start would need in root.
func (r *Runtime) Check(ctx context.Context, spec *models.Container, root string) error {
	_, err := r.check(ctx, spec, root)
	return err
}

func (r *Runtime) check(ctx context.Context, spec *models.Container, root string) (*found, error) {
	if err := r.Validate(spec); err != nil {
		return nil, err
	}
	args, err := splitCommand(spec)
	if err != nil {
		return nil, err
	}
	dir, err := os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the container's root: %w", err)
	}
	defer dir.Close()
	if err := checkPlaces(int(dir.Fd())); err != nil {
		return nil, err
	}
	f := &found{args: args}
	if f.path, err = findProgram(int(dir.Fd()), args[0], pathOf(spec)); err != nil {
		return nil, err
	}
	if f.user, err = lookupUser(ctx, int(dir.Fd()), spec.User); err != nil {
		return nil, err
	}
	return f, checkWorkDir(int(dir.Fd()), spec)
}

// checkPlaces sees that where the runtime mounts something the image has a directory, or nothing. A link there would be refused by the
// kernel later, with less to say.
func checkPlaces(root int) error {
	for _, name := range []string{"proc", "sys", "dev", "run", "tmp"} {
		var st unix.Stat_t
		err := unix.Fstatat(root, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		switch {
		case err == unix.ENOENT:
		case err != nil:
			return fault.New(fault.Internal, "look at /%s in the image: %w", name, err)
		case st.Mode&unix.S_IFMT == unix.S_IFLNK:
			return fault.New(fault.Invalid, "/%s in the image is a link; it must be a directory, something is mounted there", name)
		case st.Mode&unix.S_IFMT != unix.S_IFDIR:
			return fault.New(fault.Invalid, "/%s in the image is no directory; something is mounted there", name)
		}
	}
	return nil
}

func pathOf(spec *models.Container) string {
	if p, ok := spec.Env["PATH"]; ok {
		return p
	}
	return defaultPath
}

// findProgram finds the command in the image and sees whether it can be executed.
func findProgram(root int, name, searchPath string) (string, error) {
	if strings.HasPrefix(name, "/") {
		return name, checkProgram(root, name)
	}
	var odd error
	for _, dir := range filepath.SplitList(searchPath) {
		p := path.Join("/", dir, name)
		err := checkProgram(root, p)
		if err == nil {
			return p, nil
		}
		if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) && odd == nil {
			odd = err
		}
	}
	if odd != nil {
		return "", odd
	}
	return "", fault.Hintf(fault.New(fault.Invalid, "init %s: no such file in the image, in any directory of PATH (%s)", name, searchPath),
		"give its absolute path in command")
}

func checkProgram(root int, name string) error {
	f, err := safepath.OpenInRootAt(root, name, unix.O_PATH, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return fault.Hintf(fault.New(fault.Invalid, "init %s: no such file in the image: %w", name, unix.ENOENT),
			"is the command right, and is it the right image?")
	case errors.Is(err, unix.ELOOP):
		return fault.New(fault.Invalid, "init %s: it is a link that leads nowhere in the image: %w", name, unix.ELOOP)
	case err != nil:
		return fault.New(fault.Internal, "init %s: %w", name, err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fault.New(fault.Internal, "init %s: %w", name, err)
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return fault.Hintf(fault.New(fault.Invalid, "init %s: it is a directory in the image", name), "name a program in command")
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return fault.Hintf(fault.New(fault.Invalid, "init %s: it is no regular file in the image", name), "name a program in command")
	case st.Mode&0o111 == 0:
		return fault.Hintf(fault.New(fault.Invalid, "init %s: it is not executable in the image (mode %04o)", name, st.Mode&0o7777),
			"chmod +x it in the image")
	}
	return nil
}

// private says that a path lies where the runtime mounts something empty or made by the kernel; the image says nothing about it.
func private(p string) bool {
	for _, dir := range []string{"/proc", "/sys", "/dev", "/run", "/tmp"} {
		if p == dir || strings.HasPrefix(p, dir+"/") {
			return true
		}
	}
	return false
}

func checkWorkDir(root int, spec *models.Container) error {
	dir := path.Clean("/" + spec.WorkingDir)
	if private(dir) {
		return nil
	}
	for _, b := range spec.Binds {
		if t := path.Clean(*b.Target); dir == t || strings.HasPrefix(dir, t+"/") {
			return nil
		}
	}
	f, err := safepath.OpenInRootAt(root, dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return fault.Hintf(fault.New(fault.Invalid, "working_dir %s: no such directory in the image", dir), "make it in the image, or name another")
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return fault.New(fault.Invalid, "working_dir %s: it is no directory in the image", dir)
	case err != nil:
		return fault.New(fault.Internal, "working_dir %s: %w", dir, err)
	}
	return f.Close()
}
