//go:build guest

package netboot

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/test/vm"
)

// The number of wires, and of machines that each has an interface for.
const wires, machines = 2, 2

// wire is a bridge with servers, and an interface for each machine. Nothing goes from one to the other.
type wire int

// device is the bridge.
func (w wire) device() string { return fmt.Sprintf("br%d", int(w)) }

// addr is the address of the servers.
func (w wire) addr() string { return fmt.Sprintf("10.77.%d.1", int(w)) }

// base is the first address, and subnet all of them.
func (w wire) base() string   { return fmt.Sprintf("10.77.%d.0", int(w)) }
func (w wire) subnet() string { return w.base() + "/24" }

// url is the boot server's, originURL that of a web server beside it.
func (w wire) url() string       { return "http://" + w.addr() + ":8080" }
func (w wire) originURL() string { return "http://" + w.addr() + ":8081" }

// container is the word for a definition that the boot server has: debian, with systemd, or small, with nothing but busybox.
func (w wire) container(name string) string {
	return fmt.Sprintf("windlass.container=%s/images/%s%d.json", w.url(), name, int(w))
}

// tap, mac and ip are those of a machine.
func (w wire) tap(number int) string { return fmt.Sprintf("tap%d%d", int(w), number) }
func (w wire) mac(number int) string { return fmt.Sprintf("52:54:00:77:%02d:%02d", int(w), number) }
func (w wire) ip(number int) string  { return fmt.Sprintf("10.77.%d.1%d", int(w), number) }

// orders make it.
func (w wire) orders() []string {
	list := []string{
		"ip link add " + w.device() + " type bridge forward_delay 0 stp_state 0",
		"ip address add " + w.addr() + "/24 dev " + w.device(),
		"ip link set " + w.device() + " up",
	}
	for n := range machines {
		list = append(list, "ip tuntap add "+w.tap(n)+" mode tap", "ip link set "+w.tap(n)+" master "+w.device()+" up")
	}
	return list
}

// free gives a wire that no other test has, and the place for one machine, for as long as the test lasts.
func free(t *testing.T) wire {
	t.Helper()
	vm.Slot(t, vm.Config{})
	for n := range wires { // there are as many as places
		f := lock(t, fmt.Sprintf("%s/wire%d.lock", dir, n))
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			return wire(n)
		}
	}
	t.Fatalf("each of the %d wires has a test", wires)
	return 0
}

// alone waits until no other test on this computer wants more than one machine, until the test ends: whoever wants both places, and has one,
// waits for the other.
func alone(t *testing.T) {
	t.Helper()
	if err := unix.Flock(int(lock(t, filepath.Join(vm.Cache(), "guest.both.lock")).Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
}

// lock opens a file to be locked until the test ends.
func lock(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
