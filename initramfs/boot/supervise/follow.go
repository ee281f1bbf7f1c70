package supervise

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// follow watches it until it has ended.
func (d *Daemon) follow(ctx context.Context, p *Process, signs signs, began time.Time) string {
	var silent <-chan time.Time // nil: it is not watched
	late, slow := after(d.Timing.Start), after(d.Timing.Start/5)
	for {
		select {
		case <-signs.ready:
			d.Ready(time.Since(began))
			late, slow, silent = nil, nil, after(d.Timing.Silence)
		case <-signs.alive:
			if silent != nil {
				silent = after(d.Timing.Silence)
			}
		case <-slow:
			d.slow(fmt.Sprintf("process %d has run for %v and does not serve yet%s", p.PID, d.Timing.Start/5, d.lastLine()))
			slow = nil
		case <-late:
			d.kill(p)
			return fmt.Sprintf("did not serve within %v, and was killed%s", d.Timing.Start, d.lastLine())
		case <-silent:
			d.kill(p)
			return fmt.Sprintf("has given no sign of life for %v, and was killed%s", d.Timing.Silence, d.lastLine())
		case <-p.Done():
			return p.How() + d.lastLine()
		case <-ctx.Done():
			d.end(p)
			return p.How() + d.lastLine()
		}
	}
}

// after is time.After, of which 0 never comes.
func after(d time.Duration) <-chan time.Time {
	if d == 0 {
		return nil
	}
	return time.After(d)
}

func (d *Daemon) slow(text string) {
	if d.Slow != nil {
		d.Slow(text)
	}
}

func (d *Daemon) end(p *Process) {
	p.Signal(unix.SIGTERM)
	select {
	case <-p.Done():
	case <-time.After(d.Timing.Grace):
		d.kill(p)
	}
}

// kill waits for its end, which a call into the kernel that does not come back holds up. Another one cannot be started before: two daemons
// would raise one chain.
func (d *Daemon) kill(p *Process) {
	const patience = 10 * time.Second
	p.Signal(unix.SIGKILL)
	select {
	case <-p.Done():
	case <-time.After(patience):
		d.slow(fmt.Sprintf("process %d was killed and has not ended for %v: the kernel does not let go of it", p.PID, patience))
		<-p.Done()
	}
}
