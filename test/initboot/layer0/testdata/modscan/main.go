// modscan loads what the devices ask for, as the program of that name in Kraken's layer0 does: their aliases are looked up in modules.alias, and
// u-root's loader loads what is found. It is built within u-root's module, which is pinned in initramfs/rescue.
package main

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/u-root/u-root/pkg/kmodule"
)

func main() {
	aliases, err := read()
	if err != nil {
		fmt.Fprintln(os.Stderr, "modscan:", err)
		os.Exit(1)
	}
	_ = filepath.WalkDir("/sys/devices", func(file string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Base(file) != "modalias" {
			return nil
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return nil
		}
		for pattern, module := range aliases {
			if ok, err := path.Match(pattern, strings.TrimSpace(string(data))); err != nil || !ok {
				continue
			}
			if err := kmodule.Probe(module, ""); err != nil {
				fmt.Fprintf(os.Stderr, "modscan: %s: %v\n", module, err)
			}
		}
		return nil
	})
}

// read gives the modules by the patterns that they answer to.
func read() (map[string]string, error) {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join("/lib/modules", strings.TrimSpace(string(release)), "modules.alias"))
	if err != nil {
		return nil, err
	}
	aliases := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "alias" {
			aliases[f[1]] = f[2]
		}
	}
	return aliases, nil
}
