package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/test/lab/netns"
	"github.com/windlass-hpc/windlass/test/vm"
)

// stageVar tells the processes of this program from each other: the one outside, the "first" of the namespaces, and that with the "tests".
const stageVar = "WINDLASS_LAB_STAGE"

// dir is the lab's directory, of which every run has one of its own: a file system in memory that goes with the namespaces. Its name is short:
// there are sockets in it.
func dir() string { return vm.Cache() + "/lab" }

// Inside runs tests in namespaces of their own and gives the exit status. Before that, outside, prepare is called, which may use the network.
// The first process of the namespaces does nothing but to start the second, which runs the tests, and to reap what others leave behind.
func Inside(prepare, tests func() int) int {
	switch os.Getenv(stageVar) {
	case "tests":
		if err := os.Unsetenv(stageVar); err != nil {
			return failed(err)
		}
		return tests()
	case "":
		if code := prepare(); code != 0 {
			return code
		}
		if err := os.Setenv(stageVar, "first"); err != nil {
			return failed(err)
		}
	}
	return netns.Run(first)
}

func failed(err error) int {
	fmt.Fprintln(os.Stderr, "lab:", err)
	return 2
}

// first is the life of the first process.
func first() int {
	if err := mountDir(); err != nil {
		return failed(err)
	}
	if err := network(); err != nil {
		return failed(err)
	}
	if err := errors.Join(os.Setenv(stageVar, "tests"), os.Setenv("TMPDIR", dir())); err != nil {
		return failed(err)
	}
	runtime.LockOSThread() // Pdeathsig looks at the thread
	pid, err := syscall.ForkExec("/proc/self/exe", os.Args, &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{0, 1, 2},
		Sys:   &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL},
	})
	if err != nil {
		return failed(err)
	}
	return reap(pid)
}

// reap waits for all children, whose parents may have been others, until the one with the tests has ended, and gives its exit status.
func reap(tests int) int {
	for {
		var status unix.WaitStatus
		switch pid, err := unix.Wait4(-1, &status, 0, nil); {
		case err == unix.EINTR:
		case err != nil:
			return failed(err)
		case pid == tests && status.Exited():
			return status.ExitStatus()
		case pid == tests:
			return failed(fmt.Errorf("the tests were ended by %v", status.Signal()))
		}
	}
}

func mountDir() error {
	if err := os.MkdirAll(dir(), 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir(), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mount a tmpfs on %s: %w", dir(), err)
	}
	return nil
}

// Tap is the interface of the first guest.
const Tap = "tap0"

// network makes a bridge with the servers' addresses and the first guest's interface in it. Others may join it.
func network() error {
	for _, order := range []string{
		"link add br0 type bridge forward_delay 0 stp_state 0",
		"link set br0 up",
		"address add " + netns.IPv4 + "/24 dev br0",
		"address add " + netns.IPv6 + "/64 dev br0 nodad",
		"address add " + threeAddr + "/24 dev br0",
		"tuntap add " + Tap + " mode tap",
		"link set " + Tap + " master br0 up",
	} {
		if out, err := exec.Command("ip", strings.Fields(order)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", order, err, out)
		}
	}
	return nil
}
