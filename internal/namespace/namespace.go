// Package namespace runs a program again in namespaces of its own, as tests do that change mounts or the network: all that they have made goes with
// them, however they end. It needs root, and changes nothing outside.
package namespace

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Again runs this program again, with the same arguments and the same name, in new namespaces of the kinds in flags (CLONE_NEWNS and others), and
// waits for its end; inside is false then, and code its exit status. In the program that runs there inside is true at once. mark is the
// environment variable by which it knows; its own children inherit that and count as inside, too, unless it is unset.
//
// Mounts are private there: what is mounted inside is not seen outside. The program inside dies with the one outside.
func Again(mark string, flags uintptr) (inside bool, code int) {
	if os.Getenv(mark) != "" {
		return true, 0
	}
	runtime.LockOSThread() // Pdeathsig looks at the thread
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), mark+"=yes")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{ // who unshares processes does not go along, hence the other flag
		Unshareflags: flags &^ unix.CLONE_NEWPID, Cloneflags: flags & unix.CLONE_NEWPID, Pdeathsig: unix.SIGKILL,
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return false, max(exit.ExitCode(), 1)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "this program cannot run in namespaces of its own, for which it needs root:", err)
		return false, 2
	}
	return false, 0
}
