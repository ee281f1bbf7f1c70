package sametree

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxXattr is the most that Linux gives of names, and of a value.
const maxXattr = 64 << 10

func (d *differ) xattrs(want, got *side, path string) {
	w, g := d.attributes(want, path), d.attributes(got, path)
	names := maps.Clone(w)
	maps.Copy(names, g)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if shown(w, name) != shown(g, name) {
			d.say(path, "has for %s %s, want %s", name, shown(g, name), shown(w, name))
		}
	}
}

func shown(list map[string]string, name string) string {
	value, ok := list[name]
	switch {
	case !ok:
		return "nothing"
	case len(value) > 100:
		return fmt.Sprintf("%q… of %d bytes", value, len(value))
	}
	return fmt.Sprintf("%q", value)
}

func (d *differ) attributes(s *side, path string) map[string]string {
	list, err := readXattrs(s.at(path), d.o.Xattr)
	if err != nil {
		d.say(path, "read its extended attributes in %s: %v", s.root, err)
	}
	return list
}

func readXattrs(path string, wanted func(string) bool) (map[string]string, error) {
	list := map[string]string{}
	n, err := unix.Llistxattr(path, nil)
	if errors.Is(err, unix.EOPNOTSUPP) || err == nil && n == 0 {
		return list, nil
	}
	names := make([]byte, maxXattr)
	if n, err = unix.Llistxattr(path, names); err != nil {
		return list, err
	}
	for name := range strings.SplitSeq(string(names[:n]), "\x00") {
		if name == "" || wanted != nil && !wanted(name) {
			continue
		}
		value := make([]byte, maxXattr)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return list, fmt.Errorf("%s: %w", name, err)
		}
		list[name] = string(value[:n])
	}
	return list, nil
}
