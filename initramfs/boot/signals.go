package boot

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/bootstage"
)

// asks are the signals that end the node; see ending.
func asks() []os.Signal {
	return []os.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGPWR, haltNow, poweroffNow, rebootNow}
}

// strays catches the signals that mean nothing to init. The kernel would spare the first process what it has no handler for, but a Go program has
// a handler for nearly all of them, and ends by it: `kill -HUP 1` would be the end of the node. They are caught and not ignored: what is ignored,
// children ignore, too.
func strays() <-chan os.Signal {
	c := make(chan os.Signal, 8)
	signal.Notify(c, unix.SIGHUP, unix.SIGQUIT, unix.SIGILL, unix.SIGTRAP, unix.SIGABRT, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV, unix.SIGSTKFLT,
		unix.SIGXCPU, unix.SIGXFSZ, unix.SIGVTALRM, unix.SIGALRM, unix.SIGPROF, unix.SIGSYS, unix.SIGIO, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGPIPE)
	return c
}

// tellStrays tells of them.
func (n *node) tellStrays(c <-chan os.Signal) {
	for s := range c {
		if s != unix.SIGPIPE { // of a console that is gone there is nobody to tell
			n.j.Say(bootstage.Init, "somebody has sent %s to the first process, which means nothing to it", s)
		}
	}
}
