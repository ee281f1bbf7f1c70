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

// The wire: a bridge with the address of the servers, and an interface for each of two machines.
const (
	wire       = "br0"
	serverAddr = "10.77.0.1"
	webURL     = "http://" + serverAddr + ":8080"
)

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
	// Nobody asks for fuse before chunkfs opens /dev/fuse, which is there only when the module is.
	orders := []string{
		"ip link add " + wire + " type bridge forward_delay 0 stp_state 0",
		"ip address add " + serverAddr + "/24 dev " + wire,
		"ip link set " + wire + " up",
		"ip tuntap add tap0 mode tap", "ip link set tap0 master " + wire + " up",
		"ip tuntap add tap1 mode tap", "ip link set tap1 master " + wire + " up",
		"mkdir " + dir + "/bin " + dir + "/files " + dir + "/images",
		"go build -trimpath -ldflags=-s -o " + dir + "/bin/ ../../cmd/windlass ../../cmd/windlass-shim",
		windlass + " initramfs build --preset minimal --load fuse --kernel " + kernel + "/vmlinuz --modules " + kernel + " --file /bin/busybox:/bin/busybox -o " + dir + "/files/initramfs.img",
		"cp " + kernel + "/vmlinuz " + dir + "/files/vmlinuz",
		"cp " + filepath.Join(vm.Cache(), "debian.squashfs") + " " + dir + "/images/debian.squashfs",
	}
	for _, o := range orders {
		if err := order(strings.Fields(o)...); err != nil {
			return err
		}
	}
	return os.WriteFile(dir+"/images/debian.json", []byte(definition(webURL+"/images/debian.squashfs")), 0o644)
}

// windlass is the program that everything here does.
const windlass = dir + "/bin/windlass"

// definition is that of a container of Debian with systemd, in an image from the web.
func definition(url string) string {
	return fmt.Sprintf(`{"name":"debian","command":"/sbin/init","systemd":true,"mount":{"kind":"overlay","overlay":{`+
		`"lower":[{"kind":"uri","uri":{"uri":%q}}],"upper":{"size":134217728}}}}`, url)
}
