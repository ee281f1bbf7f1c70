package vm

import (
	"bytes"
	"fmt"
	"os"
	"path"
)

// archive is an initial file system as the kernel unpacks it: cpio of the kind "newc", see Documentation/driver-api/early-userspace/buffer-format.rst.
type archive struct {
	data bytes.Buffer
	dirs map[string]bool
	have map[string]bool // copies
}

// dir adds a directory and those above it.
func (a *archive) dir(name string) {
	if name == "." || a.dirs[name] {
		return
	}
	if a.dirs == nil {
		a.dirs = map[string]bool{}
	}
	a.dir(path.Dir(name))
	a.dirs[name] = true
	a.entry(name, 0o040755, nil)
}

// file adds a file, which everybody may execute.
func (a *archive) file(name string, data []byte) {
	a.dir(path.Dir(name))
	a.entry(name, 0o100755, data)
}

// copy adds a file of this machine, once.
func (a *archive) copy(name, from string) error {
	if a.have[name] {
		return nil
	}
	if a.have == nil {
		a.have = map[string]bool{}
	}
	a.have[name] = true
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	a.file(name, data)
	return nil
}

// end gives the archive's bytes.
func (a *archive) end() []byte {
	a.entry("TRAILER!!!", 0, nil)
	return a.data.Bytes()
}

func (a *archive) entry(name string, mode int, data []byte) {
	const inode, uid, gid, links, mtime, major, minor, rmajor, rminor, sum = 0, 0, 0, 1, 0, 0, 0, 0, 0, 0
	fmt.Fprintf(&a.data, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		inode, mode, uid, gid, links, mtime, len(data), major, minor, rmajor, rminor, len(name)+1, sum, name)
	a.align()
	a.data.Write(data)
	a.align()
}

func (a *archive) align() {
	for a.data.Len()%4 != 0 {
		a.data.WriteByte(0)
	}
}
