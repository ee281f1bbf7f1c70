package overlay

import (
	"fmt"
	"os"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Two overlays on one upper destroy each other's files. The kernel only refuses that with an index, which is not for us (options.go),
// so the mounts that there are get asked. An overlay in a mount namespace of its own is not seen by this.

// inode knows a directory whatever path leads to it.
type inode struct{ dev, ino uint64 }

func inodeOf(f *os.File) (inode, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return inode{}, fmt.Errorf("stat %s: %w", f.Name(), err)
	}
	return inode{uint64(st.Dev), st.Ino}, nil
}

// take keeps a directory for one call of Mount, until its overlay can be seen.
func (d *Driver) take(dir *os.File) (release func(), err error) {
	i, err := inodeOf(dir)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.taken[i] {
		return nil, inUse(dir.Name(), "an overlay that is being mounted")
	}
	d.taken[i] = true
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.taken, i)
	}, nil
}

// checkUnused gives Busy when an overlay has this upper.
func checkUnused(upper *os.File) error {
	want, err := inodeOf(upper)
	if err != nil {
		return err
	}
	infos, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("overlay"))
	if err != nil {
		return fmt.Errorf("read mountinfo: %w", err)
	}
	for _, i := range infos {
		path := existing(option(i, "upperdir"))
		var st unix.Stat_t
		if path != "" && unix.Lstat(path, &st) == nil && want == (inode{uint64(st.Dev), st.Ino}) {
			return inUse(upper.Name(), "the overlay at "+i.Mountpoint)
		}
	}
	return nil
}

func inUse(path, by string) error {
	return fault.Hintf(fault.New(fault.Busy, "%s is the upper of %s already", path, by), "delete that first, or give this one an upper of its own")
}

// option gives an option of a mount as mountinfo has it.
func option(i *mountinfo.Info, key string) string {
	for _, o := range strings.Split(i.VFSOptions, ",") {
		if value, ok := strings.CutPrefix(o, key+"="); ok {
			return value
		}
	}
	return ""
}

// existing reads a path of mountinfo. Of an overlay that was made with mount(2) it has the backslashes that overlayfs wants, of another
// it has not; which one it is cannot be told but by looking.
func existing(shown string) string {
	path := unoctal(shown)
	if plain := unescape(path); plain != path {
		if _, err := os.Lstat(plain); err == nil {
			return plain
		}
	}
	return path
}
