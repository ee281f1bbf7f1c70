package kmod

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// IndexName is the file, beside the modules, that Loader works by.
const IndexName = "windlass.modules"

// The index is text. After the line that says what it is come lines of a word and what it is about; those that are indented by a tab belong
// to the module above them:
//
//	windlass modules 1
//	kernel 6.1.0-18-amd64
//	load loop
//	built-in ext4
//	answers fs-ext4
//	module erofs kernel/fs/erofs/erofs.ko.zst
//		needs libcrc32c
//		before crc32c
//		alias fs-erofs
//
// "built-in" names what the kernel has in itself, "answers" the aliases of that. Modules stand in the order in which they are tried when
// several answer to an alias.
const indexHead = "windlass modules 1"

// Bounds of an index: all modules of a distribution's kernel make a tenth of them.
const (
	maxIndex   = 64 << 20
	maxModules = 1 << 17
)

// Packed is a module of an index.
type Packed struct {
	Name                 string
	Path                 string // relative to the directory of the index; .xz, .zst, .gz: it is compressed
	Needs, Before, After []string
	Aliases              []string
}

// Index says what modules there are and what they need.
type Index struct {
	Release string // of the kernel
	Load    []string
	Modules []*Packed

	byName  map[string]*Packed
	builtIn map[string]bool
	answers []string
}

// Index describes the set. load is what is to be loaded when the node starts.
func (d *Dir) Index(s *Set, release string, load []string) *Index {
	x := &Index{Release: release, Load: load, byName: map[string]*Packed{}, builtIn: d.builtIn, answers: d.aliases}
	modules := slices.SortedFunc(slices.Values(s.Modules), d.compare)
	for _, m := range modules {
		x.add(&Packed{Name: m.Name, Path: m.Plain(), Needs: m.Needs, Before: m.Before, After: m.After, Aliases: m.Aliases})
	}
	return x
}

// Compressed says that all modules' files have the ending, such as .zst, and are compressed so.
func (x *Index) Compressed(ending string) {
	for _, m := range x.Modules {
		m.Path += ending
	}
}

func (x *Index) add(p *Packed) {
	x.Modules = append(x.Modules, p)
	x.byName[p.Name] = p
}

// Text writes the index.
func (x *Index) Text() []byte {
	var b []byte
	line := func(word string, args ...string) {
		if len(args) > 0 {
			b = fmt.Appendf(b, "%s %s\n", word, strings.Join(args, " "))
		}
	}
	b = append(b, indexHead+"\n"...)
	line("kernel", x.Release)
	for _, l := range x.Load {
		line("load", l)
	}
	for _, name := range slices.Sorted(maps.Keys(x.builtIn)) {
		line("built-in", name)
	}
	for _, a := range sorted(x.answers) {
		line("answers", a)
	}
	for _, m := range x.Modules {
		line("module", m.Name, m.Path)
		line("\tneeds", m.Needs...)
		line("\tbefore", m.Before...)
		line("\tafter", m.After...)
		for _, a := range m.Aliases {
			line("\talias", a)
		}
	}
	return b
}

// ParseIndex reads an index. Errors are of kind Corrupt and name the line.
func ParseIndex(text []byte) (*Index, error) {
	if len(text) > maxIndex {
		return nil, fault.New(fault.Corrupt, "an index of modules of %d bytes is too large", len(text))
	}
	head, rest, _ := strings.Cut(string(text), "\n")
	if head != indexHead {
		return nil, fault.New(fault.Corrupt, "this is no index of modules that this windlass reads: it begins with %.40q", head)
	}
	x := &Index{byName: map[string]*Packed{}, builtIn: map[string]bool{}}
	n := 1
	for line := range strings.Lines(rest) {
		n++
		if err := x.line(strings.TrimSuffix(line, "\n")); err != nil {
			return nil, fault.New(fault.Corrupt, "line %d of the index of modules: %w", n, err)
		}
	}
	return x, nil
}

func (x *Index) line(line string) error {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "kernel":
		x.Release = rest
	case "load":
		x.Load = append(x.Load, rest)
	case "built-in":
		x.builtIn[rest] = true
	case "answers":
		x.answers = append(x.answers, rest)
	case "module":
		return x.module(rest)
	case "\tneeds", "\tbefore", "\tafter", "\talias":
		return x.detail(word, rest)
	default:
		return fmt.Errorf("nobody knows the word %.20q", word)
	}
	return nil
}

func (x *Index) module(rest string) error {
	name, file, _ := strings.Cut(rest, " ")
	switch {
	case name == "" || name != Plain(name) || strings.Contains(name, "/"):
		return fmt.Errorf("%.40q is no name of a module", name)
	case !path.IsAbs("/"+file) || path.Clean("/"+file) != "/"+file || moduleName(file) != name:
		return fmt.Errorf("%.40q is no file of module %s", file, name)
	case x.byName[name] != nil:
		return fmt.Errorf("module %s is there twice", name)
	case len(x.Modules) == maxModules:
		return fmt.Errorf("more than %d modules", maxModules)
	}
	x.add(&Packed{Name: name, Path: file})
	return nil
}

func (x *Index) detail(word, rest string) error {
	if len(x.Modules) == 0 {
		return fmt.Errorf("%s without a module above it", word[1:])
	}
	m := x.Modules[len(x.Modules)-1]
	switch word {
	case "\talias":
		m.Aliases = append(m.Aliases, rest)
	case "\tneeds":
		m.Needs = strings.Fields(rest)
	case "\tbefore":
		m.Before = strings.Fields(rest)
	case "\tafter":
		m.After = strings.Fields(rest)
	}
	return nil
}

// answering gives the modules that answer to the alias, and whether the kernel itself does.
func (x *Index) answering(alias string) (found []*Packed, builtIn bool) {
	for _, m := range x.Modules {
		for _, a := range m.Aliases {
			if match(a, alias) {
				found = append(found, m)
				break
			}
		}
	}
	return found, slices.ContainsFunc(x.answers, func(a string) bool { return match(a, alias) })
}
