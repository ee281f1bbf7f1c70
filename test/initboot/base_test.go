//go:build guest

package initboot

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/initramfs/cpio"
	"github.com/windlass-hpc/windlass/test/vm"
)

// The modules that the base is built of: u-root as the rescue layer pins it, and Kraken's programs.
const (
	urootModule  = "../../initramfs/rescue"
	krakenModule = "layer0"
)

// urootCommands are those of u-root that Kraken's script calls, its init, and a shell.
func urootCommands() []string {
	var list []string
	for _, c := range []string{"core/init", "core/gosh", "core/hostname", "core/sleep", "core/ip", "core/wget", "core/cat", "exp/modprobe"} {
		list = append(list, "github.com/u-root/u-root/cmds/"+c)
	}
	return list
}

// layer0Base gives the base that Kraken's build-layer0-base.sh makes, as far as it concerns images: u-root with its own init, uinit, modscan, the
// forerunner, and what stands for layercake. It is built when one of them has changed.
func layer0Base(t *testing.T) string {
	t.Helper()
	file := filepath.Join(vm.Cache(), "layer0-"+baseKey(t)+".cpio")
	if _, err := os.Stat(file); err == nil {
		return file
	}
	dir := t.TempDir()
	run(t, krakenModule, "go", "build", "-trimpath", "-o", dir+"/", "github.com/kraken-hpc/uinit/cmds/uinit",
		"github.com/kraken-hpc/imageapi/cmd/imageapi-server", "./kraken-layercake")
	tree := uroot(t)
	for from, to := range map[string]string{"uinit": "uinit", "imageapi-server": "forerunner", "kraken-layercake": "kraken-layercake"} {
		data, err := os.ReadFile(filepath.Join(dir, from))
		if err = errors.Join(err, tree.File("bbin/"+to, 0o755, data)); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	err := tree.Link("bbin/imageapi-server", "forerunner") // a link, as all commands of a u-root are
	if _, err1 := tree.Write(&out, 0); err != nil || err1 != nil {
		t.Fatal(err, err1)
	}
	if err := errors.Join(os.WriteFile(file+".new", out.Bytes(), 0o644), os.Rename(file+".new", file)); err != nil {
		t.Fatal(err)
	}
	return file
}

// baseKey is a digest of what the base is made of.
func baseKey(t *testing.T) string {
	t.Helper()
	h := sha256.New()
	fmt.Fprintln(h, run(t, ".", "go", "version"), urootCommands())
	for _, root := range []string{krakenModule, urootModule + "/rescue.mod"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(path, ".script") {
				return err
			}
			data, err := os.ReadFile(path)
			fmt.Fprintf(h, "%s %d\n%s", path, len(data), data)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:16])
}

// uroot has u-root build its archive.
func uroot(t *testing.T) *cpio.Tree {
	t.Helper()
	dir := t.TempDir()
	for from, to := range map[string]string{urootModule + "/rescue.mod": "go.mod", urootModule + "/rescue.sum": "go.sum", krakenModule + "/testdata/modscan": "modscan"} {
		run(t, ".", "cp", "-r", from, filepath.Join(dir, to))
	}
	run(t, dir, "go", "build", "-o", "u-root", "github.com/u-root/u-root")
	args := []string{"-base=/dev/null", "-initcmd=init", "-uinitcmd=", "-defaultsh=gosh", "-o", "base.cpio", "./modscan"}
	run(t, dir, "./u-root", append(args, urootCommands()...)...)
	f, err := os.Open(filepath.Join(dir, "base.cpio"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tree, in := &cpio.Tree{}, cpio.NewReader(f)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return tree
		}
		if err != nil {
			t.Fatal(err)
		}
		e := h.Entry
		if e.Type() == cpio.TypeRegular {
			e.Data, err = io.ReadAll(in)
		}
		if err = errors.Join(err, tree.Add(e)); err != nil {
			t.Fatal(err)
		}
	}
}

// run runs a program in a directory and gives what it says.
func run(t *testing.T, dir, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=readonly")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}
