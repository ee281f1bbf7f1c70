package initramfs

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// program reads a program that must run without any library. machine is that of the kernel, EM_NONE when it is not known.
func program(name, file string, machine elf.Machine) ([]byte, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, unreadable(name, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return nil, fault.Hintf(fault.New(fault.Invalid, "%s (%s) needs libraries, which an initramfs has not", name, file),
				"build it with CGO_ENABLED=0, as `make build` does, and name it: --%s FILE", flagOf(name))
		}
	}
	if machine != elf.EM_NONE && f.Machine != machine {
		return nil, fault.Hintf(fault.New(fault.Invalid, "%s (%s) is for %v, the kernel for %v", name, file, f.Machine, machine),
			"build it with GOARCH for that machine and name it: --%s FILE", flagOf(name))
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return data, nil
}

// unreadable gives the error of a file that was named its kind.
func unreadable(what string, err error) error {
	kind := fault.Invalid
	switch {
	case errors.Is(err, fs.ErrNotExist):
		kind = fault.NotFound
	case errors.Is(err, fs.ErrPermission):
		kind = fault.Forbidden
	}
	return fault.New(kind, "%s: %w", what, err)
}

func flagOf(name string) string {
	if name == "windlass-shim" {
		return "shim"
	}
	return name
}
