//go:build guest

package initboot

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/windlass-hpc/windlass/initramfs"
	"github.com/windlass-hpc/windlass/initramfs/kmod"
	"github.com/windlass-hpc/windlass/test/vm"
)

// programs builds windlass and its shim and gives their directory.
func programs(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin+"/", "../../cmd/windlass", "../../cmd/windlass-shim")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return bin
}

// image builds the initramfs that most tests boot, with busybox as the shell.
func image(t *testing.T, bin string, more ...func(*initramfs.Options)) string {
	t.Helper()
	kernel := filepath.Join(vm.Cache(), "kernel")
	o := initramfs.Options{Windlass: bin + "/windlass", Shim: bin + "/windlass-shim", Kernel: kernel + "/vmlinuz",
		Modules: kernel, Preset: kmod.Minimal, Module: []string{"bonding", "8021q"}, Compress: initramfs.None,
		Files: []initramfs.File{{From: "/bin/busybox", To: "bin/busybox"}}}
	for _, m := range more {
		m(&o)
	}
	p, err := initramfs.Prepare(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "initramfs.img")
	if _, err := p.Write(t.Context(), file, nil); err != nil {
		t.Fatal(err)
	}
	return file
}

// squashfs makes an image of a directory.
func squashfs(t *testing.T, dir string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.squashfs")
	if out, err := exec.Command("mksquashfs", dir, file, "-quiet", "-no-progress").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return file
}
