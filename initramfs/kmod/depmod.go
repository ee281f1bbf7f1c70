package kmod

import (
	"fmt"
	"slices"
)

// The files of depmod that other loaders work by: u-root's modprobe and modscan, busybox, kmod. Their formats are those of modules.dep(5).
const (
	DepName     = "modules.dep"
	AliasesName = "modules.alias"
)

// Depmod writes them. modules.dep has what each module cannot do without, directly or not, in the order in which it is to be removed; what is
// only wanted is left to the kernel, which asks /sbin/modprobe for it.
func (x *Index) Depmod() (dep, aliases []byte) {
	for _, m := range x.Modules {
		dep = append(dep, m.Path+":"...)
		for _, n := range slices.Backward(x.needed(m, nil)) {
			dep = append(dep, " "+n.Path...)
		}
		dep = append(dep, '\n')
		for _, a := range m.Aliases {
			aliases = fmt.Appendf(aliases, "alias %s %s\n", a, m.Name)
		}
	}
	return dep, aliases
}

// needed appends what the module needs to the list, in the order of loading, without the module itself.
func (x *Index) needed(m *Packed, list []*Packed) []*Packed {
	for _, name := range m.Needs {
		n := x.byName[name]
		if n == nil || slices.Contains(list, n) { // the kernel has it in itself
			continue
		}
		list = append(x.needed(n, list), n)
	}
	return list
}
