package kmod

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/step"
)

// Loaded says how the loading of one module went.
type Loaded struct {
	Name string
	Took time.Duration
	Err  error // nil, too, when it was there already: Took is 0 then
	May  bool  // go wrong: it was only wanted
}

// Loader loads modules by the index that lies beside them. It is safe for concurrent use: modules that do not need each other are loaded at
// the same time, each of them once. Several processes do not harm each other.
type Loader struct {
	// Told is called for each module that was given to the kernel, from any goroutine; it may be nil.
	Told func(Loaded)

	dir   string
	index *Index
	opts  Options
	sys   kernel

	mu    sync.Mutex
	locks map[string]*sync.Mutex // plain name of a module: held while it is given to the kernel
}

// kernel is what a Loader asks of the kernel.
type kernel interface {
	// live says whether the module is there and has finished its start.
	live(name string) bool
	// load gives the module in the file to the kernel. The error is that of finit_module(2), or of what could not be read.
	load(file, params string) error
}

// OpenLoader opens the modules of the running kernel, which lie in root/lib/modules.
func OpenLoader(root string, opts Options) (*Loader, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, fmt.Errorf("ask for the version of the kernel: %w", err)
	}
	release := unix.ByteSliceToString(u.Release[:])
	modules := filepath.Join(root, "lib/modules")
	l, err := openLoader(filepath.Join(modules, release), opts, linux{})
	if !errors.Is(err, fs.ErrNotExist) {
		return l, err
	}
	hint := "pack modules with `windlass initramfs build --modules DIR`"
	if others, _ := filepath.Glob(filepath.Join(modules, "*", IndexName)); len(others) > 0 {
		hint = fmt.Sprintf("the initramfs was built for kernel %s: boot that, or build it anew", filepath.Base(filepath.Dir(others[0])))
	}
	return nil, fault.Hintf(fault.New(fault.NotFound, "there are no modules for the running kernel, %s: %w", release, err), "%s", hint)
}

func openLoader(dir string, opts Options, sys kernel) (*Loader, error) {
	text, err := os.ReadFile(filepath.Join(dir, IndexName))
	if err != nil {
		return nil, err
	}
	x, err := ParseIndex(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, IndexName), err)
	}
	return &Loader{dir: dir, index: x, opts: opts, sys: sys, locks: map[string]*sync.Mutex{}}, nil
}

// Start gives the modules that are to be loaded when the node starts.
func (l *Loader) Start() []string { return l.index.Load }

// Has says whether something answers to the name or alias, the kernel itself included.
func (l *Loader) Has(name string) bool {
	_, _, err := l.index.find(name)
	return err == nil
}

// Plan gives the files that Load would give to the kernel, in order, those that are loaded already included.
func (l *Loader) Plan(name string) ([]string, error) {
	list, _, err := l.index.find(name)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, m := range list {
		order, err := l.index.order(m)
		if err != nil {
			return nil, err
		}
		for _, o := range order {
			if file := filepath.Join(l.dir, o.Path); !slices.Contains(files, file) {
				files = append(files, file)
			}
		}
	}
	return files, nil
}

// Load loads the module of the name, or those that answer to the alias, after what they need, softly or not, each with the parameters of the
// options. What is loaded already or built in is done. params are for the module itself. Where several answer to an alias it is enough that
// one of them can be loaded. An error is of kind NotFound when nothing answers, and else has the errno of the kernel: ENODEV of a module
// whose hardware this node has not.
func (l *Loader) Load(ctx context.Context, name string, params ...string) error {
	list, byAlias, err := l.index.find(name)
	if err != nil || len(list) == 0 {
		return err
	}
	var errs []error
	for _, m := range list {
		if byAlias && l.opts.Block[m.Name] {
			continue
		}
		if err := l.with(ctx, m, params); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) < len(list) {
		return nil
	}
	return errors.Join(errs...)
}

// with loads a module and what it needs.
func (l *Loader) with(ctx context.Context, m *Packed, params []string) error {
	order, err := l.index.order(m)
	if err != nil {
		return err
	}
	for _, o := range order {
		var more []string
		if o.Packed == m {
			more = params
		}
		if err := l.one(ctx, o, more); err != nil && !o.may {
			return err
		}
	}
	return nil
}

// one gives one module to the kernel, unless it is there.
func (l *Loader) one(ctx context.Context, o *planned, params []string) error {
	lock := l.lock(o.Name)
	lock.Lock()
	defer lock.Unlock()
	if l.sys.live(o.Name) {
		return nil
	}
	began := time.Now()
	text := strings.Join(append(slices.Clip(l.opts.Params[o.Name]), params...), " ")
	err := step.Do(ctx, "module.load", func(context.Context) error { return l.sys.load(filepath.Join(l.dir, o.Path), text) })
	if err != nil {
		err = explain(o.Name, err)
	}
	if l.Told != nil {
		l.Told(Loaded{Name: o.Name, Took: time.Since(began), Err: err, May: o.may})
	}
	return err
}

func (l *Loader) lock(name string) *sync.Mutex {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.locks[name] == nil {
		l.locks[name] = &sync.Mutex{}
	}
	return l.locks[name]
}

// explain says what the kernel means.
func explain(name string, err error) error {
	kind, text := fault.Internal, fmt.Errorf("load module %s: %w", name, err)
	hint := "the kernel says more: dmesg"
	switch {
	case errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO):
		kind, hint = fault.Unsupported, "this node has not the hardware that it is for"
	case errors.Is(err, unix.ENOEXEC):
		kind, hint = fault.Invalid, "it was built for another kernel: build the initramfs with the modules of the kernel that it is booted with"
	case errors.Is(err, unix.EPERM):
		kind, hint = fault.Forbidden, "modules are loaded by root, outside of containers, while the kernel allows it (kernel.modules_disabled)"
	case errors.Is(err, unix.EKEYREJECTED):
		kind, hint = fault.Forbidden, "the kernel takes signed modules alone: build the initramfs with those of its own package"
	case errors.Is(err, unix.ENOENT):
		kind, hint = fault.Corrupt, "the file, or what it needs of another module, is not there: dmesg names the symbol"
	}
	return fault.Hintf(fault.New(kind, "%w", text), "%s", hint)
}
