package kmod

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// readOrder reads the order in which the modules were linked, which says who comes first when several take one device.
func (d *Dir) readOrder() error {
	lines, err := d.lines("modules.order", "\n")
	for i, line := range lines {
		d.rank[moduleName(line)] = i + 1
	}
	return err
}

// readBuiltIn reads what the kernel has without modules, and the aliases of that.
func (d *Dir) readBuiltIn() error {
	lines, err := d.lines("modules.builtin", "\n")
	for _, line := range lines {
		d.builtIn[moduleName(line)] = true
	}
	infos, err2 := d.lines("modules.builtin.modinfo", "\x00")
	for _, line := range infos {
		if _, alias, ok := strings.Cut(line, ".alias="); ok && printable(alias) && !strings.Contains(alias, " ") {
			d.aliases = append(d.aliases, alias)
		}
	}
	return errors.Join(err, err2)
}

// lines reads one of the lists beside the modules; one that is not there is empty.
func (d *Dir) lines(name, separator string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(d.path, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return strings.Split(strings.TrimRight(string(text), separator), separator), err
}
