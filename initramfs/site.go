package initramfs

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/initramfs/cpio"
	"github.com/windlass-hpc/windlass/internal/config"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// configDir is where the daemon looks for its files.
const configDir = "etc/windlass"

// site makes the layer of the site's own files: overlays first, then the configuration, then single files, each over those before.
func (p *Plan) site(o *Options) (*cpio.Tree, error) {
	// The kernel gives a directory the mode that the last layer says.
	t := &cpio.Tree{Modes: map[string]uint32{"root": 0o700, "tmp": 0o1777, "var/tmp": 0o1777, configDir + "/credentials": 0o700}}
	for _, dir := range o.Overlay {
		if err := p.overlay(t, dir); err != nil {
			return nil, err
		}
	}
	for i, file := range o.Config {
		to := path.Join(configDir, filepath.Base(file))
		if i == 0 {
			to = path.Join(configDir, filepath.Base(config.DefaultFile))
			if err := config.CheckFile(file); err != nil {
				return nil, fault.New(fault.Invalid, "the configuration for the nodes: %w", err)
			}
		}
		if err := p.file(t, File{From: file, To: to}); err != nil {
			return nil, err
		}
	}
	for _, f := range o.Files {
		if err := p.file(t, f); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// file adds one file. A symbolic link is followed: what it leads to is meant.
func (p *Plan) file(t *cpio.Tree, f File) error {
	st, err := os.Stat(f.From)
	if err != nil {
		return unreadable("a file to pack", err)
	}
	if !st.Mode().IsRegular() {
		return fault.Hintf(fault.New(fault.Invalid, "%s is no file", f.From), "a directory is packed by --overlay")
	}
	mode := f.Mode
	if mode == 0 {
		mode = modeOf(st)
	}
	p.closed(f.From, st)
	from := f.From
	return t.Add(cpio.Entry{Name: f.To, Mode: cpio.TypeRegular | mode, Load: func() ([]byte, error) { return os.ReadFile(from) }})
}

// overlay adds all of a directory. All of it belongs to root on the node, whoever has it here.
func (p *Plan) overlay(t *cpio.Tree, dir string) error {
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return fault.New(fault.NotFound, "the overlay %s is no directory", dir)
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("the overlay: %w", err)
	}
	return filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || file == dir {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		e, err := entryOf(file, st)
		if err != nil {
			return err
		}
		p.closed(file, st)
		e.Name = rel
		return t.Add(e)
	})
}

// entryOf describes a file of an overlay.
func entryOf(file string, st fs.FileInfo) (e cpio.Entry, err error) {
	e.Mode = modeOf(st)
	switch m := st.Mode(); {
	case m.IsDir():
		e.Mode |= cpio.TypeDir
	case m.IsRegular():
		e.Mode |= cpio.TypeRegular
		e.Load = func() ([]byte, error) { return os.ReadFile(file) }
	case m&fs.ModeSymlink != 0:
		to, err := os.Readlink(file)
		if err != nil {
			return e, err
		}
		e.Mode, e.Data = cpio.TypeSymlink|0o777, []byte(to)
	case m&fs.ModeNamedPipe != 0:
		e.Mode |= cpio.TypeFIFO
	case m&fs.ModeDevice != 0:
		sys, ok := st.Sys().(*syscall.Stat_t)
		if !ok {
			return e, fmt.Errorf("%s: the number of the device is not known", file)
		}
		e.Mode |= cpio.TypeBlock
		if m&fs.ModeCharDevice != 0 {
			e.Mode = e.Mode&^cpio.TypeMask | cpio.TypeChar
		}
		e.Major, e.Minor = unix.Major(sys.Rdev), unix.Minor(sys.Rdev)
	default:
		return e, fault.Hintf(fault.New(fault.Invalid, "%s is a socket, which cannot be packed", file), "take it out of the overlay")
	}
	return e, nil
}

// modeOf gives the permissions as they are packed: nobody but root writes, so that the umask of who made the files does not count.
func modeOf(st fs.FileInfo) uint32 {
	m := uint32(st.Mode().Perm()) &^ 0o022
	for bit, to := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000} {
		if st.Mode()&bit != 0 {
			m |= to
		}
	}
	if st.Mode()&fs.ModeSticky != 0 { // a directory such as /tmp is for everybody
		m = uint32(st.Mode().Perm()) | 0o1000
	}
	return m
}

// closed remembers that a file is not for everybody, so that the initramfs is not either.
func (p *Plan) closed(file string, st fs.FileInfo) {
	if !st.Mode().IsRegular() || st.Mode().Perm()&0o044 != 0 {
		return
	}
	if !p.Secret {
		p.Warnings = append(p.Warnings, fmt.Sprintf("%s is closed to others, so the initramfs will be, too; on a boot server, whoever asks for it gets it", file))
	}
	p.Secret = true
}

func parseMode(text string) (uint32, error) {
	mode, err := strconv.ParseUint(text, 8, 32)
	if err != nil || mode == 0 || mode > 0o7777 {
		return 0, fmt.Errorf("%q is no mode, such as 0644", text)
	}
	return uint32(mode), nil
}
