package kmod

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// locate finds the directory of one kernel's modules.
func locate(path, version string) (string, error) {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fault.New(fault.NotFound, "the directory of the modules: %w", err)
	}
	if holdsModules(path) {
		return path, nil
	}
	var found []string
	for _, parent := range []string{path, filepath.Join(path, "lib/modules"), filepath.Join(path, "usr/lib/modules")} {
		if version != "" && holdsModules(filepath.Join(parent, version)) {
			return filepath.EvalSymlinks(filepath.Join(parent, version))
		}
		list, _ := os.ReadDir(parent) // one that is not there holds nothing
		for _, e := range list {
			if dir := filepath.Join(parent, e.Name()); e.IsDir() && holdsModules(dir) && !slices.Contains(found, dir) {
				found = append(found, dir)
			}
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return "", fault.Hintf(fault.New(fault.Invalid, "%s holds the modules of several kernels: %s", path, strings.Join(found, ", ")),
			"name the one, or the kernel with --kernel")
	}
	return path, nil // Open says that there is nothing
}

func holdsModules(dir string) bool {
	for _, name := range []string{"kernel", "modules.order", "modules.builtin", "modules.dep"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}
