package boot

import (
	"context"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/initramfs/boot/root"
	"github.com/windlass-hpc/windlass/internal/bootstage"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// takeDown bounds how long containers and what lies below them may take to end.
const takeDown = 60 * time.Second

// askAgain is how often a daemon that does not answer is asked.
const askAgain = 250 * time.Millisecond

// lastWords is how long processes have between being asked to end and being killed, once containers are gone.
const lastWords = 3 * time.Second

// ending says what a signal asks for, and whether at once: as with other small inits, SIGUSR1 halts, SIGUSR2 and SIGPWR switch off, SIGTERM and
// ctrl-alt-del (SIGINT) start anew.
func ending(s os.Signal) (how string, now bool) {
	switch s {
	case unix.SIGUSR1:
		return Halt, false
	case unix.SIGUSR2, unix.SIGPWR:
		return Poweroff, false
	case haltNow:
		return Halt, true
	case poweroffNow:
		return Poweroff, true
	case rebootNow:
		return Reboot, true
	}
	return Reboot, false
}

// end takes down what runs and ends the node.
func (n *node) end(how string) {
	n.j.Say(bootstage.Init, "%s: containers are stopped", how)
	ctx, cancel := context.WithTimeout(context.Background(), takeDown)
	defer cancel()
	select {
	case <-n.up:
		n.emptyNode(ctx)
	default: // the daemon never served
	}
	n.j.Say(bootstage.Init, "%s", how)
	n.flush()
	n.finish(how)
}

// emptyNode has the daemon take down containers, then mounts and attachments that clients made, as far as there is time. A daemon that has
// just died is waited for: what runs on without it would else be killed, and its file systems left as they are.
func (n *node) emptyNode(ctx context.Context) {
	all, err := n.running(ctx)
	if err != nil {
		n.j.Say(bootstage.Init, "what runs is not taken down: %v", err)
		return
	}
	for _, c := range all {
		_ = n.api.Stop(ctx, c.ID) // one that does not run needs none
	}
	for _, c := range all {
		if c.State != models.ContainerStateCreated {
			_, _ = n.api.Wait(ctx, c.ID, "ended") // its deletion tells what is wrong
		}
		n.tell(n.api.Delete(ctx, "container", c.ID, true))
	}
	mounts, _ := n.api.Mounts(ctx)
	for _, m := range mounts {
		if slices.Contains(m.Holders, "client") {
			n.tell(n.api.Delete(ctx, "mount", m.ID, true))
		}
	}
	attachments, _ := n.api.Attachments(ctx)
	for _, a := range attachments {
		if slices.Contains(a.Holders, "client") {
			n.tell(n.api.Delete(ctx, "attach", a.ID, true))
		}
	}
}

// running lists the containers, as soon as there is a daemon that knows.
func (n *node) running(ctx context.Context) ([]*models.Container, error) {
	for {
		all, err := n.api.Containers(ctx)
		if err == nil || ctx.Err() != nil || !fault.Is(err, fault.Unavailable) {
			return all, err
		}
		n.mu.Lock()
		d := n.daemon
		n.mu.Unlock()
		if d != nil {
			d.Wake()
		}
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
			return nil, err
		}
	}
}

func (n *node) tell(err error) {
	if err != nil {
		n.j.Say(bootstage.Init, "%v", err)
	}
}

// finish ends the daemon, all processes and the kernel.
func (n *node) finish(how string) {
	n.stopDaemon()
	n.kill(how)
}

// finishNow waits for nobody, whatever is lost.
func (n *node) finishNow(how string) {
	n.j.Say(bootstage.Init, "%s, at once: nothing is taken down", how)
	n.mu.Lock()
	end := n.endDaemon // it is not to be started again
	n.mu.Unlock()
	end()
	n.kill(how)
}

// kill ends all processes and the kernel. Storage that does not answer holds it up for a bounded time only.
func (n *node) kill(how string) {
	// All but this one.
	_ = unix.Kill(-1, unix.SIGTERM)
	_ = unix.Kill(-1, unix.SIGCONT)
	n.reaper.Alone(lastWords)
	_ = unix.Kill(-1, unix.SIGKILL)
	synced := make(chan struct{})
	go func() { unix.Sync(); close(synced) }()
	select {
	case <-synced:
	case <-time.After(10 * time.Second): // storage that does not answer
	}
	n.console.Flush(time.Second)
	switch how {
	case "kexec":
		_ = root.Start() // it comes back when there is no kernel loaded
	case Halt:
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_HALT)
	case Poweroff:
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}
