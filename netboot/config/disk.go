package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// CheckFiles says which of the files that the configuration names are not there: for this machine's own configuration.
func (c *Config) CheckFiles() []error {
	var errs []error
	file := func(what, path string) {
		if st, err := os.Stat(path); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		} else if !st.Mode().IsRegular() {
			errs = append(errs, fmt.Errorf("%s: %s is no file", what, path))
		}
	}
	for _, dir := range []string{c.Files, c.Images} {
		if st, err := os.Stat(dir); dir != "" && err != nil {
			errs = append(errs, fmt.Errorf("what is published: %w", err))
		} else if dir != "" && !st.IsDir() {
			errs = append(errs, fmt.Errorf("what is published: %s is no directory", dir))
		}
	}
	for _, name := range sorted(c.Groups) {
		g := c.Groups[name]
		for _, p := range slices.Concat([]string{g.Kernel}, g.Initramfs) {
			if p != "" {
				file("groups."+name, filepath.Join(c.Files, p))
			}
		}
	}
	for _, p := range Platforms() {
		if name := c.IPXE.Programs[p]; name != "" {
			file("ipxe."+string(p), filepath.Join(c.IPXE.Dir, name))
		}
	}
	if len(c.BootPrograms()) == 0 {
		errs = append(errs, fmt.Errorf("ipxe.dir: no boot program is in %s: only nodes that have iPXE already can boot (Debian's package is called ipxe)", c.IPXE.Dir))
	}
	return errs
}

// usualPrograms are the names that packages give to iPXE, the best first.
func usualPrograms(p Platform) []string {
	switch p {
	case BIOS:
		return []string{"undionly.kpxe"}
	case EFI64:
		return []string{"ipxe.efi", "snponly.efi", "ipxe-x86_64.efi", "snponly-x86_64.efi"}
	case EFI32:
		return []string{"ipxe-i386.efi", "ipxe32.efi", "i386-efi/ipxe.efi"}
	case ARM64:
		return []string{"ipxe-arm64.efi", "snponly-arm64.efi", "arm64-efi/ipxe.efi", "arm64-efi/snponly.efi"}
	}
	return nil
}

// BootPrograms gives the path below the directory of iPXE of the boot program for each platform that has one. They are looked for
// each time, so that a package can be installed meanwhile.
func (c *Config) BootPrograms() map[Platform]string {
	found := map[Platform]string{}
	for _, p := range Platforms() {
		candidates := usualPrograms(p)
		if name := c.IPXE.Programs[p]; name != "" {
			candidates = []string{name}
		}
		for _, name := range candidates {
			// a link is followed: Debian's ipxe.efi is one to /boot
			if st, err := os.Stat(filepath.Join(c.IPXE.Dir, name)); err == nil && st.Mode().IsRegular() {
				found[p] = name
				break
			}
		}
	}
	return found
}
