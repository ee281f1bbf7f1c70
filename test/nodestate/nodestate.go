// Package nodestate takes down what one daemon instance has on a node: its mounts, block devices, sessions, cgroups, processes, sockets
// and files.
// A test takes it before and after and compares: what is there afterwards and was not before has leaked.
//
// The package asks the kernel and nobody else. It changes nothing, and it sees one instance only, so tests can run side by side.
package nodestate

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/internal/rundir"
)

// Options say whose things are taken down.
type Options struct {
	// RunDir is the instance's run directory; what lies below it or carries the instance's name is the instance's.
	RunDir string
	// Under are further directories of the test: loop devices on files below them and mounts in them count too.
	Under []string
	// PID adds the open descriptors of one process, such as the daemon. 0 adds none.
	PID int
}

// Class is one sort of thing.
type Class string

// The classes.
const (
	Mount      Class = "mount"
	Loop       Class = "loop device"
	RBD        Class = "rbd device"
	ISCSI      Class = "iscsi session"
	SCSI       Class = "scsi device"
	Cgroup     Class = "cgroup"
	Process    Class = "process"
	Socket     Class = "socket"
	File       Class = "file"
	Descriptor Class = "descriptor"
)

// Item is one thing. Two snapshots are compared by Class and Key; Detail is for the reader.
type Item struct {
	Class  Class  `json:"class"`
	Key    string `json:"key"`
	Detail string `json:"detail,omitempty"`
	PID    int    `json:"pid,omitempty"` // of a process
}

// String is how a difference shows the item.
func (i Item) String() string {
	if i.Detail == "" {
		return fmt.Sprintf("%s %s", i.Class, i.Key)
	}
	return fmt.Sprintf("%s %s (%s)", i.Class, i.Key, i.Detail)
}

// State is a snapshot. Items with the same key may come more than once.
type State struct {
	Items []Item `json:"items"`
}

// Take makes a snapshot. Things that vanish while it looks are left out.
func Take(o Options) (State, error) {
	f, err := newFilter(o)
	if err != nil {
		return State{}, err
	}
	var s State
	for _, take := range []func(filter) ([]Item, error){mounts, loops, rbds, sessions, cgroups, processes, sockets, files} {
		items, err := take(f)
		if err != nil {
			return State{}, err
		}
		s.Items = append(s.Items, items...)
	}
	if o.PID != 0 {
		items, err := descriptors(o.PID)
		if err != nil {
			return State{}, err
		}
		s.Items = append(s.Items, items...)
	}
	return s, nil
}

// Of gives the items of one class.
func (s State) Of(c Class) []Item {
	return slices.DeleteFunc(slices.Clone(s.Items), func(i Item) bool { return i.Class != c })
}

// Diff says how later differs from s, a line a difference: `+` came, `-` went. Empty means that nothing did.
func (s State) Diff(later State) []string {
	count, show := map[Item]int{}, map[Item]Item{}
	tally := func(items []Item, n int) {
		for _, i := range items {
			k := Item{Class: i.Class, Key: i.Key}
			count[k] += n
			if n > 0 || show[k] == (Item{}) {
				show[k] = i
			}
		}
	}
	tally(s.Items, -1)
	tally(later.Items, 1)
	var lines []string
	for k, n := range count {
		sign := "+"
		if n < 0 {
			sign, n = "-", -n
		}
		for range n {
			lines = append(lines, sign+" "+show[k].String())
		}
	}
	sort.Strings(lines)
	return lines
}

// Settle takes snapshots until one equals want, and returns nil then; when ctx ends first, the difference that remained. What goes
// "soon after the answer" is waited for with it.
func Settle(ctx context.Context, o Options, want State) ([]string, error) {
	for {
		now, err := Take(o)
		if err != nil {
			return nil, err
		}
		diff := want.Diff(now)
		if len(diff) == 0 {
			return nil, nil
		}
		select {
		case <-ctx.Done():
			return diff, nil
		case <-time.After(20 * time.Millisecond): // the kernel tells no single event for all of this
		}
	}
}

// filter decides whether something belongs to the instance.
type filter struct {
	runDir   string
	sys      string // where sysfs is, or what a test takes for it
	instance string
	dirs     []string // RunDir and Under
}

func newFilter(o Options) (filter, error) {
	if !filepath.IsAbs(o.RunDir) {
		return filter{}, errors.New("nodestate: RunDir must be an absolute path")
	}
	f := filter{runDir: filepath.Clean(o.RunDir), sys: "/sys", instance: rundir.Dir(o.RunDir).Instance()}
	f.dirs = []string{f.runDir}
	for _, d := range o.Under {
		if !filepath.IsAbs(d) {
			return filter{}, fmt.Errorf("nodestate: %q in Under must be an absolute path", d)
		}
		f.dirs = append(f.dirs, filepath.Clean(d))
	}
	return f, nil
}

// below says whether path is one of the filter's directories or lies in one.
func (f filter) below(path string) bool {
	for _, d := range f.dirs {
		if path == d || strings.HasPrefix(path, strings.TrimSuffix(d, "/")+"/") {
			return true
		}
	}
	return false
}

// named says whether name is the instance's: its name alone or followed by a separator and more. The name of another instance, which
// goes on with `-` and digits, is not its.
func (f filter) named(name string) bool {
	rest, ok := strings.CutPrefix(name, f.instance)
	return ok && (rest == "" || strings.ContainsRune("/.:@#_", rune(rest[0])))
}
