package kmod

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Module is one of a directory's modules.
type Module struct {
	Name string // plain
	Path string // relative to the directory, as it is there
	Info
	file string
}

// Plain is where the module lies unpacked, relative to the directory.
func (m *Module) Plain() string { return plainFile(m.Path) }

func plainFile(path string) string {
	if i := strings.LastIndex(path, ".ko."); i >= 0 {
		return path[:i+3]
	}
	return path
}

// Read gives the module, unpacked.
func (m *Module) Read() ([]byte, error) { return ReadPlain(m.file) }

// Dir knows the modules of one kernel. It is for one user at a time.
type Dir struct {
	path    string
	files   map[string]string // plain name: path
	rank    map[string]int    // plain name: its place in modules.order
	builtIn map[string]bool   // plain names
	aliases []string          // of what is built in

	mu    sync.Mutex
	known map[string]*Module
	all   bool // known is of all files
}

// Path is the directory that was found.
func (d *Dir) Path() string { return d.path }

// Open reads which modules there are. path is the directory of one kernel's modules, such as /lib/modules/6.1.0-18-amd64, or one that holds it:
// /lib/modules, or a root. Where there are several kernels it takes that of the version; version may be "".
func Open(path, version string) (*Dir, error) {
	found, err := locate(path, version)
	if err != nil {
		return nil, err
	}
	d := &Dir{path: found, files: map[string]string{}, rank: map[string]int{}, builtIn: map[string]bool{}, known: map[string]*Module{}}
	if err := d.walk(); err != nil {
		return nil, fmt.Errorf("look for modules: %w", err)
	}
	if len(d.files) == 0 {
		return nil, fault.Hintf(fault.New(fault.NotFound, "there is no kernel module in %s", found),
			"name the directory of the kernel's modules, such as /lib/modules/VERSION")
	}
	return d, errors.Join(d.readOrder(), d.readBuiltIn())
}

func (d *Dir) walk() error {
	return filepath.WalkDir(d.path, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name := moduleName(p)
		if name == "" {
			return nil
		}
		rel, err := filepath.Rel(d.path, p)
		if err != nil {
			return err
		}
		if old := d.files[name]; old == "" || preferred(rel, old) {
			d.files[name] = rel
		}
		return nil
	})
}

// preferred says which of two files of one module counts: as depmod has it, updates before the kernel's own, and what was made for
// another kernel last.
func preferred(a, b string) bool {
	rank := func(p string) int {
		first, _, _ := strings.Cut(p, "/")
		return map[string]int{"updates": -2, "extra": -1, "weak-updates": 2, "kernel": 0}[first]
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b)) < 0
}
