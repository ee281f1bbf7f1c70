// Package netns runs a test program in namespaces of its own: network, mounts and processes.
//
// Servers in it listen on addresses and ports that nobody else has, and all that was started dies with it, however the program ends. The
// tree of files is the machine's, but for /proc and an empty /run. It needs root and changes nothing outside.
package netns

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/mountinfo"
	"github.com/windlass-hpc/windlass/internal/namespace"
)

// insideVar marks the process that runs in the namespaces.
const insideVar = "WINDLASS_NETNS_INSIDE"

// The addresses that Main gives to the loopback device.
const (
	IPv4 = "10.99.0.1"
	IPv6 = "fd99::1"
)

// Main is the body of TestMain: it runs the tests in namespaces of their own, with IPv4 and IPv6 on the loopback device.
func Main(m *testing.M) { os.Exit(Run(m.Run, IPv4+"/32", IPv6+"/128")) }

// Run runs this program again, in namespaces of its own, and gives its exit status; there, it runs inside, once the loopback device is up
// and has the addresses, such as 10.99.0.1/32.
func Run(inside func() int, addresses ...string) int {
	if inside, code := namespace.Again(insideVar, unix.CLONE_NEWNET|unix.CLONE_NEWNS|unix.CLONE_NEWPID); !inside {
		return code
	}
	if err := prepare(addresses); err != nil {
		fmt.Fprintln(os.Stderr, "netns:", err)
		return 2
	}
	return inside()
}

// prepare makes the namespaces usable. Programs that this one starts are not marked: a test program among them gets namespaces of its own.
func prepare(addresses []string) error {
	if err := os.Unsetenv(insideVar); err != nil {
		return err
	}
	if err := letGo("/run", os.TempDir()); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	// Some servers know one place for their socket and lock only, such as rpcbind.
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	if err := ip("link", "set", "lo", "up"); err != nil {
		return err
	}
	for _, a := range addresses {
		args := []string{"address", "add", a, "dev", "lo"}
		if strings.Contains(a, ":") {
			args = append(args, "nodad") // it can be bound at once
		}
		if err := ip(args...); err != nil {
			return err
		}
	}
	return nil
}

// letGo unmounts what is mounted below directories: as long as it is mounted in here too, other tests, to whom it belongs, find it in use.
func letGo(dirs ...string) error {
	for _, dir := range dirs {
		mounted, err := mountinfo.Below(dir)
		if err != nil {
			return fmt.Errorf("look for what is mounted below %s: %w", dir, err)
		}
		for _, m := range slices.Backward(mounted) {
			if m.Mountpoint == dir {
				continue
			}
			// One that a mount above it took along is none any more.
			if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH); err != nil && err != unix.EINVAL && err != unix.ENOENT {
				return fmt.Errorf("unmount %s, which others have mounted: %w", m.Mountpoint, err)
			}
		}
	}
	return nil
}

func ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
