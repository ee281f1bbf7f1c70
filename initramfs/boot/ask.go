package boot

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Ways for a node to end.
const (
	Poweroff = "poweroff"
	Reboot   = "reboot"
	Halt     = "halt"
)

// The signals that end the node at once, as systemd has them: SIGRTMIN+13 and further.
const (
	haltNow     = unix.Signal(47)
	poweroffNow = unix.Signal(48)
	rebootNow   = unix.Signal(49)
)

// Ask asks the first process of this node, when it is windlass, to end the node, and does not wait for it. What runs is taken down before; by
// force it is not. Errors: Unsupported where the first process is another program, Forbidden for who is not root.
func Ask(how string, force bool) error {
	signals := map[string][2]unix.Signal{Poweroff: {unix.SIGUSR2, poweroffNow}, Reboot: {unix.SIGTERM, rebootNow}, Halt: {unix.SIGUSR1, haltNow}}
	pair, known := signals[how]
	if !known {
		return fault.New(fault.Invalid, "a node does not end by %q, but by poweroff, reboot or halt", how)
	}
	if err := firstIsInit("/proc/1"); err != nil {
		return err
	}
	signal := pair[0]
	if force {
		signal = pair[1]
	}
	if err := unix.Kill(1, signal); err != nil {
		return fault.New(fault.Forbidden, "ask the first process of the node to end it: %w", err)
	}
	return nil
}

// firstIsInit looks whether the first process, whose directory in /proc this is, is windlass as init. In a container it is the container's, and
// where windlass was only installed it is systemd or the like.
func firstIsInit(dir string) error {
	exe, err := os.Readlink(dir + "/exe")
	if errors.Is(err, os.ErrPermission) && os.Geteuid() != 0 {
		return fault.Hintf(fault.New(fault.Forbidden, "only root can end the node"), "become root")
	}
	line, _ := os.ReadFile(dir + "/cmdline")
	arg0, _, _ := strings.Cut(string(line), "\x00")
	program := strings.TrimSuffix(filepath.Base(exe), " (deleted)")
	if err == nil && program == filepath.Base(windlassProgram) && Program(arg0) == "init" {
		return nil
	}
	if err != nil { // root in a container may not look; windlass's init is not in one
		name, _ := os.ReadFile(dir + "/comm")
		program = cmp.Or(strings.TrimSpace(string(name)), "another program")
	}
	return fault.Hintf(fault.New(fault.Unsupported, "the first process here is %s, not windlass's init, and is not asked", program),
		"use what belongs to it, such as `systemctl poweroff`; in a container, ask from outside of it")
}

// windlassProgram is where the builder puts windlass.
const windlassProgram = "/bin/windlass"

// ask is what the programs poweroff, reboot and halt do.
func ask(program string, args []string) error {
	return Ask(program, slices.ContainsFunc(args, func(a string) bool { return a == "-f" || a == "-ff" || a == "--force" }))
}
