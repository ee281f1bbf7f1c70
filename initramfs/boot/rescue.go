package boot

import (
	"context"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/initramfs/boot/supervise"
	"github.com/windlass-hpc/windlass/internal/bootstage"
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

// rescue opens a shell on the console and waits for its end. There is one at a time.
func (n *node) rescue(ctx context.Context, why string) {
	n.shell.Lock()
	defer n.shell.Unlock()
	if ctx.Err() != nil {
		return
	}
	s := n.j.Begin(bootstage.Rescue)
	shell := findShell()
	if shell == "" {
		s.Say("%s. There is no shell in this initramfs: windlass initramfs build --rescue adds one", why)
		return
	}
	s.Say("%s. A shell is on the console (%s); the boot goes on when it ends. `less %s`, `poweroff`, `reboot`", why, shell, logFile)
	p, err := n.startShell(shell)
	if err != nil {
		s.Failed(err)
		return
	}
	select {
	case <-p.Done():
		s.Done("the shell %s", p.How())
	case <-ctx.Done():
		p.Signal(unix.SIGHUP)
	}
}

// startShell gives it the console as its terminal, so that ctrl-C works; a console that is none does without.
func (n *node) startShell(shell string) (p *supervise.Process, err error) {
	tty, err := os.OpenFile("/dev/console", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer tty.Close()
	args := []string{shell} // the whole path: u-root's commands follow the link to find which of them is meant
	if filepath.Base(shell) == "busybox" {
		args = []string{"sh"}
	}
	attr := os.ProcAttr{Dir: "/", Env: environment(), Files: []*os.File{tty, tty, tty}}
	for _, sys := range []*syscall.SysProcAttr{{Setsid: true, Setctty: true}, {Setsid: true}} {
		attr.Sys = sys
		if p, err = n.reaper.Start(shell, args, &attr); err == nil {
			return p, nil
		}
	}
	return nil, err
}
