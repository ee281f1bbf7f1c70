package crashtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/mountinfo"
)

// namespaceVar marks a process that runs in a mount namespace of its own.
const namespaceVar = "WINDLASS_CRASHTEST_NAMESPACE"

// Main is the body of TestMain: it runs the tests, or carries out what one of them has ordered of this process. Both run in a mount
// namespace of their own.
func Main[Order any](m *testing.M, carryOut func(context.Context, Order) error) {
	if os.Getenv(namespaceVar) == "" {
		os.Exit(inNamespace())
	}
	obey(carryOut) // a child is in the namespace of its tests, and must leave their mounts alone
	if err := forgetOthers(); err != nil {
		fmt.Fprintln(os.Stderr, "crashtest:", err)
		os.Exit(2)
	}
	os.Exit(m.Run())
}

// inNamespace runs this program again in a mount namespace of its own and gives its exit status. Without one, whoever else makes a
// namespace on this machine would copy the mounts of the tests and keep what lies below them busy. It also takes the mounts with it
// when a test ends badly.
func inNamespace() int {
	runtime.LockOSThread() // Pdeathsig looks at the thread
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), namespaceVar+"=yes")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(exit.ExitCode(), 1)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "crashtest: cannot run in a mount namespace of its own:", err)
		return 2
	}
	return 0
}

// forgetOthers gives up the copies of mounts that are nobody's business here, so that this namespace keeps nothing of others busy.
func forgetOthers() error {
	infos, err := mountinfo.Below("/")
	if err != nil {
		return err
	}
	for _, i := range slices.Backward(infos) {
		if i.Mountpoint == "/" || slices.Contains([]string{"proc", "sys", "dev"}, strings.Split(i.Mountpoint, "/")[1]) {
			continue
		}
		if err := unix.Unmount(i.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount %s in the namespace of the tests: %w", i.Mountpoint, err)
		}
	}
	return nil
}
