//go:build guest

package guest

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

//go:embed init.sh
var initScript []byte

//go:embed run.sh
var runScript []byte

// modules are what the guest loads, with what they need, in this order. crc32c_generic is asked for by name when others begin.
var modules = []string{"virtio_pci", "virtio_blk", "crc32c_generic", "ext4", "squashfs", "overlay", "loop", "erofs", "fuse", "xfs", "btrfs"}

// cacheDir is where kernel and Debian are kept.
func cacheDir() string {
	if dir := os.Getenv("WINDLASS_CACHE"); dir != "" {
		return dir
	}
	return "/var/cache/windlass-test"
}

// must runs a command and gives its output.
func must(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// initramfs writes the initial file system with the programs under test and gives its path.
func initramfs(t *testing.T, cases []testCase) string {
	t.Helper()
	dir, a := t.TempDir(), &archive{}
	for _, d := range []string{"proc", "sys", "dev", "newroot", "root", "tmp"} {
		a.dir(d)
	}
	a.file("init", initScript)
	a.file("guest/run.sh", runScript)
	add := func(name, from string) {
		t.Helper()
		if err := a.copy(name, from); err != nil {
			t.Fatal(err)
		}
	}
	add("bin/busybox", "/bin/busybox")
	static := []string{"CGO_ENABLED=0"}
	for _, program := range []string{"windlass-shim", "windlass"} {
		must(t, static, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, program), module+"/cmd/"+program)
		add("guest/"+program, filepath.Join(dir, program))
	}
	var list strings.Builder
	for _, c := range cases {
		program := filepath.Join(dir, c.name+".test")
		must(t, static, "go", "test", "-c", "-tags", "guest", "-trimpath", "-ldflags", "-s -w", "-o", program, module+"/"+c.pkg)
		add("guest/"+c.name+".test", program)
		for _, tool := range c.tools {
			for _, file := range withLibraries(t, tool) {
				add("root"+file, file)
			}
		}
		fmt.Fprintf(&list, "%s %s\n", c.name, c.args())
	}
	a.file("guest/cases", []byte(list.String()))
	var order strings.Builder
	root, files := moduleOrder(t)
	for _, f := range files {
		name := "modules/" + path.Base(f)
		add(name, filepath.Join(root, f))
		order.WriteString("/" + name + "\n")
	}
	a.file("modules/order", []byte(order.String()))
	image := filepath.Join(dir, "initramfs")
	if err := os.WriteFile(image, a.end(), 0o600); err != nil {
		t.Fatal(err)
	}
	return image
}

// moduleOrder gives the files of the modules, what others need first, and the directory that they are in.
func moduleOrder(t *testing.T) (root string, files []string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(cacheDir(), "kernel/lib/modules/*/modules.dep"))
	if err != nil || len(found) != 1 {
		t.Fatalf("modules of one kernel are needed in %s, there are %v (%v)", cacheDir(), found, err)
	}
	data, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	needs, byName := map[string][]string{}, map[string]string{}
	for _, line := range strings.Split(string(data), "\n") {
		file, rest, _ := strings.Cut(line, ":")
		needs[file] = strings.Fields(rest)
		byName[strings.TrimSuffix(path.Base(file), ".ko")] = file
	}
	var add func(file string)
	add = func(file string) {
		for _, n := range needs[file] {
			add(n)
		}
		if !slices.Contains(files, file) {
			files = append(files, file)
		}
	}
	for _, m := range modules {
		if byName[m] == "" {
			t.Fatalf("the kernel has no module %s", m)
		}
		add(byName[m])
	}
	return filepath.Dir(found[0]), files
}

// withLibraries gives the files of a program of this machine and of the libraries that the guest's system lacks. Both are the same Debian.
func withLibraries(t *testing.T, name string) (files []string) {
	t.Helper()
	program, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: install what test/install.sh does", err)
	}
	paths := []string{program}
	for _, word := range strings.Fields(must(t, nil, "ldd", program)) {
		if strings.HasPrefix(word, "/") {
			paths = append(paths, word)
		}
	}
	for _, p := range paths {
		dir, err := filepath.EvalSymlinks(filepath.Dir(p)) // /lib is a link in both
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, filepath.Base(p))
		if _, err := os.Stat(filepath.Join(cacheDir(), "debian-rootfs", file)); err != nil {
			files = append(files, file)
		}
	}
	return files
}
