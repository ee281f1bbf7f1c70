package crashtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/mountinfo"
	"github.com/windlass-hpc/windlass/internal/namespace"
)

// namespaceVar marks a process that runs in a mount namespace of its own.
const namespaceVar = "WINDLASS_CRASHTEST_NAMESPACE"

// Main is the body of TestMain: it runs the tests, or carries out what one of them has ordered of this process. Both run in a mount
// namespace of their own.
func Main[Order any](m *testing.M, carryOut func(context.Context, Order) error) {
	// Without one, whoever else makes a namespace on this machine would copy the mounts of the tests and keep what lies below them busy.
	if inside, code := namespace.Again(namespaceVar, unix.CLONE_NEWNS); !inside {
		os.Exit(code)
	}
	obey(carryOut) // a child is in the namespace of its tests, and must leave their mounts alone
	if err := forgetOthers(); err != nil {
		fmt.Fprintln(os.Stderr, "crashtest:", err)
		os.Exit(2)
	}
	os.Exit(m.Run())
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
