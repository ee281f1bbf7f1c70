//go:build guest

package netboot

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/test/lab/netns"
	"github.com/windlass-hpc/windlass/test/vm"
)

// patience is for a machine on which much else runs.
const patience = 4 * time.Minute

// dir holds all that the tests make: a file system in memory, which goes with the namespaces, however the tests end.
const dir = "/mnt"

// warmVar says that the go command has all that it needs, so that it can build without a network.
const warmVar = "WINDLASS_NETBOOT_WARM"

func TestMain(m *testing.M) { os.Exit(main(m)) }

func main(m *testing.M) int {
	if os.Getenv(warmVar) == "" {
		for _, args := range [][]string{{"../kernel.sh"}, {"go", "build", "../../cmd/windlass", "../../cmd/windlass-shim"}} {
			if err := order(args...); err != nil {
				return failed(err)
			}
		}
		if err := os.Setenv(warmVar, "yes"); err != nil {
			return failed(err)
		}
	}
	return netns.Run(func() int {
		if err := prepare(); err != nil {
			return failed(err)
		}
		return m.Run()
	})
}

func failed(err error) int {
	fmt.Fprintln(os.Stderr, "netboot:", err)
	return 2
}

// order runs a program that links statically when it is the go command.
func order(args ...string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// prepare makes the wire, and what the boot server gives away: kernel, initramfs and image.
func prepare() error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mount a tmpfs on %s: %w", dir, err)
	}
	if err := os.Setenv("TMPDIR", dir); err != nil {
		return err
	}
	kernel := filepath.Join(vm.Cache(), "kernel")
	var orders []string
	for n := range wires {
		orders = append(orders, wire(n).orders()...)
	}
	orders = append(orders,
		"mkdir "+dir+"/bin "+dir+"/files "+dir+"/images",
		"go build -trimpath -ldflags=-s -o "+dir+"/bin/ ../../cmd/windlass ../../cmd/windlass-shim",
		windlass+" initramfs build --preset minimal --kernel "+kernel+"/vmlinuz --modules "+kernel+" --file /bin/busybox:/bin/busybox -o "+dir+"/files/initramfs.img",
		"cp "+kernel+"/vmlinuz "+dir+"/files/vmlinuz",
		"cp "+filepath.Join(vm.Cache(), "debian.squashfs")+" "+dir+"/images/debian.squashfs",
	)
	for _, o := range orders {
		if err := order(strings.Fields(o)...); err != nil {
			return err
		}
	}
	if err := small(); err != nil {
		return err
	}
	for n := range wires {
		w := wire(n)
		for name, text := range map[string]string{"debian": debian(w.url() + "/images/debian.squashfs"), "small": definition("small", "", w.url()+"/images/small.squashfs")} {
			if err := os.WriteFile(fmt.Sprintf("%s/images/%s%d.json", dir, name, n), []byte(text), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// small makes an image with busybox alone, which is up at once.
func small() error {
	tree := dir + "/small"
	if err := order(strings.Fields("mkdir -p " + tree + "/bin " + tree + "/sbin " + tree + "/proc " + tree + "/sys " + tree + "/dev " + tree + "/run " + tree + "/tmp")...); err != nil {
		return err
	}
	if err := os.WriteFile(tree+"/sbin/init", []byte("#!/bin/busybox sh\nexec /bin/busybox sleep 10000\n"), 0o755); err != nil {
		return err
	}
	if err := order("cp", "/bin/busybox", tree+"/bin/busybox"); err != nil {
		return err
	}
	return order("mksquashfs", tree, dir+"/images/small.squashfs", "-comp", "zstd", "-noappend", "-no-progress", "-quiet")
}

// windlass is the program that everything here does.
const windlass = dir + "/bin/windlass"

// debian is the definition of a container of Debian with systemd, in an image from the web.
func debian(url string) string { return definition("debian", `"systemd":true,`, url) }

// definition is that of a container; more are further keys.
func definition(name, more, url string) string {
	return fmt.Sprintf(`{"name":%q,"command":"/sbin/init",%s"mount":{"kind":"overlay","overlay":{`+
		`"lower":[{"kind":"uri","uri":{"uri":%q}}],"upper":{"size":134217728}}}}`, name, more, url)
}
