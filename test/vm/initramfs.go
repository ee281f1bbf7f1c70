package vm

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

//go:embed init.sh
var initScript []byte

//go:embed run.sh
var runScript []byte

// must runs a command and gives its output.
func must(t testing.TB, env []string, name string, args ...string) string {
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
func initramfs(t testing.TB, c Config) string {
	t.Helper()
	dir, a := t.TempDir(), &archive{}
	for _, d := range []string{"proc", "sys", "dev", "newroot", "root", "tmp"} {
		a.dir(d)
	}
	a.file("init", initScript)
	a.file("guest/run.sh", runScript)
	a.file("guest/config", c.script())
	add := func(name, from string) {
		t.Helper()
		if err := a.copy(name, from); err != nil {
			t.Fatal(err)
		}
	}
	add("bin/busybox", "/bin/busybox")
	for name, file := range programs(t, dir, c) {
		add("guest/"+name, file)
	}
	tools := c.Tools
	var list strings.Builder
	for _, one := range c.Cases {
		tools = append(tools, one.Tools...)
		fmt.Fprintf(&list, "%s %s\n", one.Name, one.args())
	}
	a.file("guest/cases", []byte(list.String()))
	for _, tool := range tools {
		for _, file := range withLibraries(t, tool) {
			add("root"+file, file)
		}
	}
	for there, here := range c.Files {
		add(path.Join("root", there), here)
	}
	addModules(t, c, a)
	image := filepath.Join(dir, "initramfs")
	if err := os.WriteFile(image, a.end(), 0o600); err != nil {
		t.Fatal(err)
	}
	return image
}

// addModules adds the modules and the list of them, in which those that others need come first.
func addModules(t testing.TB, c Config, a *archive) {
	t.Helper()
	always := baseModules()
	if c.Net != nil {
		always = append(always, "virtio_net")
	}
	var order strings.Builder
	root, files, err := moduleOrder(append(always, c.Modules...))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		name := "modules/" + path.Base(f)
		if err := a.copy(name, filepath.Join(root, f)); err != nil {
			t.Fatal(err)
		}
		order.WriteString("/" + name + "\n")
	}
	a.file("modules/order", []byte(order.String()))
}
