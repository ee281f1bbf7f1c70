package vm

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// baseModules are what every guest loads, in this order: what it boots with. crc32c_generic is asked for by name when others begin.
func baseModules() []string {
	return []string{"virtio_pci", "virtio_blk", "crc32c_generic", "ext4", "squashfs"}
}

// modules knows the modules of one kernel.
type modules struct {
	root   string              // the directory with modules.dep
	needs  map[string][]string // file: files
	byName map[string]string   // name, with underscores: file
	order  []string            // files asked for so far, what others need first
}

// moduleOrder gives the files of the modules, what others need first, and the directory that they are in.
func moduleOrder(names []string) (root string, files []string, err error) {
	m, err := readModules()
	if err != nil {
		return "", nil, err
	}
	for _, name := range names {
		file := m.byName[plain(name)]
		if file == "" {
			return "", nil, fmt.Errorf("the kernel in %s has no module %s", m.root, name)
		}
		if err := m.add(file); err != nil {
			return "", nil, err
		}
	}
	return m.root, m.order, nil
}

// plain is a module's name as the kernel has it: a file may have dashes for underscores.
func plain(name string) string { return strings.ReplaceAll(name, "-", "_") }

func readModules() (*modules, error) {
	found, err := filepath.Glob(filepath.Join(Cache(), "kernel/lib/modules/*/modules.dep"))
	if err != nil || len(found) != 1 {
		return nil, fmt.Errorf("modules of one kernel are needed in %s, there are %v (%v); test/kernel.sh fetches it", Cache(), found, err)
	}
	data, err := os.ReadFile(found[0])
	if err != nil {
		return nil, err
	}
	m := &modules{root: filepath.Dir(found[0]), needs: map[string][]string{}, byName: map[string]string{}}
	for line := range strings.Lines(string(data)) {
		file, rest, _ := strings.Cut(line, ":")
		m.needs[file] = strings.Fields(rest)
		m.byName[plain(strings.TrimSuffix(path.Base(file), ".ko"))] = file
	}
	return m, nil
}

// add appends a module's file after those that it needs and those that it would rather have.
func (m *modules) add(file string) error {
	if slices.Contains(m.order, file) {
		return nil
	}
	softly, err := m.before(file)
	if err != nil {
		return err
	}
	for _, n := range append(softly, m.needs[file]...) {
		if err := m.add(n); err != nil {
			return err
		}
	}
	m.order = append(m.order, file)
	return nil
}

// before gives what a module itself says should be loaded before it ("softdep=pre: …"), which modules.dep does not know. What is no module is
// built in, or an alias that names an algorithm; crc32c has many drivers, of which every guest loads one.
func (m *modules) before(file string) (files []string, err error) {
	data, err := os.ReadFile(filepath.Join(m.root, file))
	if err != nil {
		return nil, err
	}
	for _, field := range bytes.Split(data, []byte{0}) {
		soft, ok := bytes.CutPrefix(field, []byte("softdep=pre: "))
		if !ok {
			continue
		}
		for _, name := range strings.Fields(string(soft)) {
			if name == "post:" {
				break
			}
			if f := m.byName[plain(name)]; f != "" {
				files = append(files, f)
			}
		}
	}
	return files, nil
}
