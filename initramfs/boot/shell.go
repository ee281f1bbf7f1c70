package boot

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/initramfs/boot/supervise"
)

// shells are looked for in this order.
func shells() []string { return []string{"/bin/sh", "/bbin/gosh", "/bin/bash", "/bin/busybox"} }

func findShell() string {
	for _, s := range shells() {
		if real, err := filepath.EvalSymlinks(s); err == nil {
			if st, err := os.Stat(real); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
				return s
			}
		}
	}
	return ""
}

// openTerminal opens the terminal for a shell. A serial line does not know its size, and 0 lines of 0 columns is nothing to edit a line in.
func openTerminal(device string) (*os.File, error) {
	tty, err := os.OpenFile(device, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	size, err := unix.IoctlGetWinsize(int(tty.Fd()), unix.TIOCGWINSZ)
	if err == nil && (size.Row == 0 || size.Col == 0) {
		_ = unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}) // then lines are not edited
	}
	return tty, nil
}

// startShell shows the text and starts a shell that has the terminal as its own, so that ctrl-C works; one that cannot be had does without. The
// terminal is opened for each: the end of a shell hangs up what others have open.
func (n *node) startShell(shell, text string) (p *supervise.Process, err error) {
	tty, err := openTerminal(n.terminal)
	if err != nil {
		return nil, err
	}
	defer tty.Close()
	_, _ = tty.WriteString(text)
	args := []string{shell} // the whole path: u-root's commands follow the link to find which of them is meant
	if filepath.Base(shell) == "busybox" {
		args = []string{"sh"}
	}
	attr := os.ProcAttr{Dir: "/", Env: append(environment(), "TERM="+termOf()), Files: []*os.File{tty, tty, tty}}
	for _, sys := range []*syscall.SysProcAttr{{Setsid: true, Setctty: true}, {Setsid: true}} {
		attr.Sys = sys
		if p, err = n.reaper.Start(shell, args, &attr); err == nil {
			_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", p.PID), []byte(notSpared), 0o600) // what a person starts is not spared
			return p, nil
		}
	}
	return nil, err
}

// termOf is the kind of the console, for programs that move its cursor: the screen of the machine, or what hangs on a line.
func termOf() string {
	active, _ := os.ReadFile("/sys/class/tty/console/active") // the last one is /dev/console
	names := strings.Fields(string(active))
	if len(names) == 0 {
		return "linux"
	}
	if _, err := fmt.Sscanf(names[len(names)-1], "tty%d", new(int)); err == nil {
		return "linux"
	}
	return "vt220"
}
