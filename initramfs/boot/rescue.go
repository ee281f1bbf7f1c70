package boot

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/initramfs/boot/journal"
	"github.com/windlass-hpc/windlass/internal/bootstage"
)

// trouble says why a person is asked for.
type trouble struct {
	why   string
	err   error // nil: nothing is wrong
	waits bool  // the boot does, until the shell ends
	over  func() bool
}

// call opens a shell for a stage in the background, unless it works when the shell's turn comes.
func (n *node) call(ctx context.Context, stage bootstage.Stage, why trouble) {
	n.mu.Lock()
	n.over[stage] = false
	n.mu.Unlock()
	why.over = func() bool { n.mu.Lock(); defer n.mu.Unlock(); return n.over[stage] }
	n.spawn("the rescue shell", leave, func() { n.rescue(ctx, why) })
}

// well remembers that a stage works.
func (n *node) well(stage bootstage.Stage) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.over[stage] = true
}

// rescue opens a shell on the console and waits for its end. There is one at a time. A shell that was ended by a signal, as by ctrl-C while one of
// its commands ran, is followed by another one: only who ends it goes on.
func (n *node) rescue(ctx context.Context, why trouble) {
	n.shell.Lock()
	defer n.shell.Unlock()
	if ctx.Err() != nil || why.over != nil && why.over() {
		return
	}
	shell := findShell()
	if shell == "" {
		n.j.Say(bootstage.Rescue, "%s. There is no shell in this initramfs: `windlass initramfs build --rescue` adds one, and `--file /bin/busybox:/bin/busybox` is one, too", why.why)
		return
	}
	s := n.j.Begin(bootstage.Rescue)
	s.Say("%s. A shell is on the console (%s)", why.why, shell)
	if how, err := n.talk(ctx, shell, why); err != nil {
		s.Failed(err)
	} else if ctx.Err() == nil {
		s.Done("the shell %s", how)
		n.nudge()
	}
}

// talk runs shells until one ends by itself, and says how.
func (n *node) talk(ctx context.Context, shell string, why trouble) (how string, err error) {
	n.console.Flush(flushPatience) // what was told before stands above
	for text := why.banner(); ; text = "\r\n" {
		p, err := n.startShell(shell, text)
		if err != nil {
			return "", err
		}
		select {
		case <-p.Done():
		case <-ctx.Done():
			p.Signal(unix.SIGHUP)
			return "", nil
		}
		if how = p.How(); !strings.HasSuffix(how, " SIGINT") {
			return how, nil
		}
	}
}

// banner is what a person at the console has to know. It is plain ASCII: who knows what hangs on the line.
func (t trouble) banner() string {
	line := strings.Repeat("-", 78)
	end := "close this shell and try again at once"
	if t.waits {
		end = "go on with the boot"
	}
	var b strings.Builder
	row := func(head, text string) { fmt.Fprintf(&b, "  %-16s %s\r\n", head, text) }
	fmt.Fprintf(&b, "\r\n%s\r\n  windlass: %s\r\n", line, ascii(t.why))
	if t.err != nil {
		fmt.Fprintf(&b, "  %s\r\n", ascii(journal.Explain(t.err)))
	}
	b.WriteString("\r\n")
	row("exit", end)
	row("more "+logFile, "")
	row("dmesg", "what the kernel said")
	row("modprobe NAME", "load a driver, by name or alias")
	row("windlass", "ps all, inspect, logs: what the daemon has, once it runs")
	row("windlass reboot", "boot anew; or windlass poweroff")
	b.WriteString(line + "\r\n")
	return b.String()
}

// ascii makes of a text what every terminal shows, and that does nothing to it.
func ascii(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
}

// nudge has what waits to be tried again tried at once: somebody may have mended it.
func (n *node) nudge() {
	select {
	case n.nudged <- struct{}{}:
	default: // one is enough
	}
}
