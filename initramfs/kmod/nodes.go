package kmod

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Node is a device whose driver the kernel asks for when somebody opens it.
type Node struct {
	Name         string // below /dev, such as net/tun
	Block        bool   // else it is one of characters
	Major, Minor uint32
}

// Nodes gives those that modules of the index tell of, by an alias devname:NAME beside one of char-major-MAJOR-MINOR or block-major-MAJOR-MINOR,
// sorted by name. depmod lists the same in modules.devname, for kmod and systemd-tmpfiles.
func (l *Loader) Nodes() []Node {
	var list []Node
	for _, m := range l.index.Modules {
		if n, ok := nodeOf(m.Aliases); ok {
			list = append(list, n)
		}
	}
	slices.SortFunc(list, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	return slices.CompactFunc(list, func(a, b Node) bool { return a.Name == b.Name })
}

// nodeOf takes the first name and the first whole number: a driver of many devices has char-major-4-* in place of one.
func nodeOf(aliases []string) (n Node, ok bool) {
	numbered := false
	for _, a := range aliases {
		if name, is := strings.CutPrefix(a, "devname:"); is && n.Name == "" && filepath.IsLocal(name) {
			n.Name = filepath.Clean(name)
		}
		if numbered {
			continue
		}
		if major, minor, is := numbers(a, "char-major-"); is {
			n.Major, n.Minor, numbered = major, minor, true
		} else if major, minor, is := numbers(a, "block-major-"); is {
			n.Block, n.Major, n.Minor, numbered = true, major, minor, true
		}
	}
	return n, numbered && n.Name != "" && n.Name != "."
}

func numbers(alias, prefix string) (major, minor uint32, ok bool) {
	rest, ok := strings.CutPrefix(alias, prefix)
	if !ok {
		return 0, 0, false
	}
	var more string
	n, _ := fmt.Sscanf(rest+" .", "%d-%d %s", &major, &minor, &more)
	return major, minor, n == 3 && more == "."
}
