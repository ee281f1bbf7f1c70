// Package cpio writes and reads the archives that Linux unpacks as its first file system: cpio in the format newc.
//
// What it writes depends on nothing but the entries: they are sorted by name, numbered in that order, and have one time, so that the same
// tree gives the same bytes anywhere. It writes no hard links. What it reads it takes as hostile. The format is described in the
// kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
package cpio

import (
	"io/fs"
	"path"
	"strings"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// The types of entries, as in stat(2).
const (
	TypeMask    = 0o170000
	TypeFIFO    = 0o010000
	TypeChar    = 0o020000
	TypeDir     = 0o040000
	TypeBlock   = 0o060000
	TypeRegular = 0o100000
	TypeSymlink = 0o120000
	TypeSocket  = 0o140000
)

// maxPath is the longest name, and target of a symbolic link, that the kernel takes, with its closing zero.
const maxPath = 4096

// Entry is one file of an archive.
type Entry struct {
	Name         string // relative to the root, without ./
	Mode         uint32 // type and permissions, as in stat(2)
	UID, GID     uint32
	Major, Minor uint32 // of a device

	// Data is the content of a file or the target of a symbolic link. When it is nil, Load gives it, so that a large tree need not be in
	// memory at once; Load may be nil, too, for nothing.
	Data []byte
	Load func() ([]byte, error)
}

// Type gives the part of the mode that says what the entry is.
func (e *Entry) Type() uint32 { return e.Mode & TypeMask }

func (e *Entry) content() ([]byte, error) {
	if e.Data != nil || e.Load == nil {
		return e.Data, nil
	}
	return e.Load()
}

// FileMode gives the mode as the standard library has it.
func (e *Entry) FileMode() fs.FileMode {
	m := fs.FileMode(e.Mode & 0o777)
	for bit, to := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if e.Mode&bit != 0 {
			m |= to
		}
	}
	return m | map[uint32]fs.FileMode{
		TypeFIFO: fs.ModeNamedPipe, TypeChar: fs.ModeDevice | fs.ModeCharDevice, TypeDir: fs.ModeDir, TypeBlock: fs.ModeDevice,
		TypeSymlink: fs.ModeSymlink, TypeSocket: fs.ModeSocket,
	}[e.Type()]
}

// check refuses an entry that the kernel would not unpack as it is meant.
func (e *Entry) check() error {
	switch {
	case !fs.ValidPath(e.Name) || path.Clean(e.Name) != e.Name || e.Name == "." || strings.ContainsRune(e.Name, 0):
		return fault.New(fault.Invalid, "%q is no name for a file of an initramfs: it must be relative to the root, without . and ..", e.Name)
	case len(e.Name) >= maxPath:
		return fault.New(fault.Invalid, "%.60q…: a name of %d bytes is too long: the kernel takes %d", e.Name, len(e.Name), maxPath-1)
	case e.Name == trailer:
		return fault.New(fault.Invalid, "%q is the mark of the archive's end, so no file can have the name", e.Name)
	case e.Type() == TypeSymlink && len(e.Data) >= maxPath:
		return fault.New(fault.Invalid, "%s: a target of %d bytes is too long: the kernel takes %d", e.Name, len(e.Data), maxPath-1)
	case e.Type() == TypeSymlink && (len(e.Data) == 0 || strings.ContainsRune(string(e.Data), 0)):
		return fault.New(fault.Invalid, "%s: a symbolic link must lead somewhere", e.Name)
	}
	switch e.Type() {
	case TypeFIFO, TypeChar, TypeDir, TypeBlock, TypeRegular, TypeSymlink, TypeSocket:
		return nil
	}
	return fault.New(fault.Invalid, "%s: mode %o is of no type that there is", e.Name, e.Mode)
}
