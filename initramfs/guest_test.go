//go:build guest

package initramfs

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/initramfs/kmod"
	"github.com/windlass-hpc/windlass/test/vm"
)

// guestInit takes the place of windlass as init: it asks the kernel for a file system, which has it call /sbin/modprobe, then loads all that
// was packed.
const guestInit = `#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc; $b mount -t sysfs sys /sys; $b mount -t devtmpfs dev /dev
exec >/dev/ttyS0 2>&1
echo "test: up $($b uname -r)"
$b mount -t erofs /dev/null /mnt
$b grep -q erofs /proc/filesystems && echo "test: the kernel has called modprobe"
$b [ -c /dev/fuse ] || $b mknod /dev/fuse c 10 229
$b grep -q "^fuse " /proc/modules || { $b cat /dev/fuse; $b grep -q "^fuse " /proc/modules && echo "test: to open /dev/fuse loads its driver"; }
$b grep -q crc32c_generic /proc/modules && echo "test: soft dependencies are there"
/sbin/modprobe -a $($b cat /modules) && echo "test: all modules are loaded"
echo "test: $($b wc -l </proc/modules) modules"
echo "test: done"
$b poweroff -f
`

// bootPatience is for a machine on which much else runs.
const bootPatience = 4 * time.Minute

// TestAKernelUnpacksIt by each compression, and loads what is packed: with zstd all modules of the preset hpc.
func TestAKernelUnpacksIt(t *testing.T) {
	vm.Slot(t, vm.Config{})
	bin := t.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin+"/", "../cmd/windlass", "../cmd/windlass-shim")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, c := range Compressions() {
		t.Run(string(c), func(t *testing.T) {
			o := Options{Windlass: bin + "/windlass", Shim: bin + "/windlass-shim", Kernel: kernelDir(t) + "/vmlinuz", Modules: kernelDir(t), Compress: c}
			if o.Module = []string{"erofs", "rbd", "iscsi_tcp", "fuse"}; c == Zstd {
				o.Preset = kmod.HPC
			}
			console := boot(t, o)
			for _, want := range []string{"up 6.1", "the kernel has called modprobe", "to open /dev/fuse loads its driver", "soft dependencies are there", "done"} {
				if !strings.Contains(console, "test: "+want) {
					t.Errorf("%q is missing", want)
				}
			}
			if c != Zstd && !strings.Contains(console, "test: all modules are loaded") {
				t.Error("not all modules could be loaded")
			}
			onlyHardwareIsMissing(t, console)
			if t.Failed() {
				t.Log(console)
			}
		})
	}
}

// onlyHardwareIsMissing accepts of modules that could not be loaded those whose hardware the guest has not.
func onlyHardwareIsMissing(t *testing.T, console string) {
	t.Helper()
	missing := 0
	for line := range strings.Lines(console) {
		if !strings.Contains(line, "modprobe: ") {
			continue
		}
		if missing++; !strings.Contains(line, "no such device") && !strings.Contains(line, "operation not supported") {
			t.Error(strings.TrimSpace(line))
		}
	}
	t.Logf("%d modules are for hardware that is not there", missing)
}

// boot builds, boots and gives what the console showed.
func boot(t *testing.T, o Options) string {
	t.Helper()
	site := write(t, t.TempDir(), map[string]string{"init": guestInit, "modules": strings.Join(packedModules(t, o), " ")})
	o.Files = []File{{From: site + "/init", To: "init", Mode: 0o755}, {From: site + "/modules", To: "modules"}, {From: "/bin/busybox", To: "bin/busybox"}}
	file := built(t, o)
	ctx, end := context.WithTimeout(context.Background(), bootPatience)
	defer end()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-M", "pc", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1024", "-nodefaults", "-no-reboot",
		"-display", "none", "-serial", "stdio", "-kernel", filepath.Join(kernelDir(t), "vmlinux"), "-initrd", file,
		"-append", "console=ttyS0 quiet loglevel=1 panic=-1 no_timer_check cryptomgr.notests mitigations=off")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var console bytes.Buffer
	cmd.Stdout, cmd.Stderr = &console, &console
	began := time.Now()
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", errors.Join(err, ctx.Err()), console.String())
	}
	t.Logf("the guest ran for %.1f s", time.Since(began).Seconds())
	return console.String()
}

// packedModules gives the names of all modules that will be packed.
func packedModules(t *testing.T, o Options) (list []string) {
	t.Helper()
	d, err := kmod.Open(o.Modules, "")
	if err != nil {
		t.Fatal(err)
	}
	req := o.Preset.Request()
	req.Names = o.Module
	s, err := d.Resolve(req)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range s.Modules {
		list = append(list, m.Name)
	}
	return list
}
