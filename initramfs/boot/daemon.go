package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/windlass-hpc/windlass/initramfs/boot/journal"
	"github.com/windlass-hpc/windlass/initramfs/boot/supervise"
	"github.com/windlass-hpc/windlass/internal/bootstage"
)

// lines puts the daemon's log onto the console and into the file.
type lines struct{ outs []io.Writer }

func (l *lines) Write(p []byte) (int, error) {
	for _, o := range l.outs {
		_, _ = o.Write(p) // there is nobody to tell
	}
	return len(p), nil
}

// environment is that of the daemon and of the shell. What the kernel gave is not theirs.
func environment() []string {
	return []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/bbin", "HOME=/root"}
}

// startDaemon starts the daemon and keeps it until the node ends. When that is so already it starts none.
func (n *node) startDaemon(ctx context.Context) {
	log := &lines{outs: []io.Writer{n.console}}
	if n.log != nil {
		log.outs = append(log.outs, n.log)
	}
	_, warnings := n.opts.Serve()
	for _, w := range warnings {
		n.j.Say(bootstage.Daemon, "%s", w)
	}
	s := n.j.Begin(bootstage.Daemon)
	failures := 0
	d := &supervise.Daemon{
		Reaper: n.reaper, Program: self(), Args: n.daemonArgs, Env: n.daemonEnvironment(), Notify: stateDir + "/notify", Log: log,
		Timing:  supervise.Timing{Pause: time.Second, Longest: 30 * time.Second, Steady: time.Minute, Start: 5 * time.Minute, Silence: 2 * time.Minute, Grace: 15 * time.Second},
		Started: func(int) {}, Slow: func(text string) { s.Say("%s", text) },
		Ready: func(took time.Duration) {
			failures = 0
			n.well(bootstage.Daemon)
			n.serves(s, took)
			n.upOnce.Do(func() { close(n.up) })
		},
		Ended: func(how string, lived, pause time.Duration) {
			s.Failed(errors.New("it " + how))
			s.Say("it is started again in %.1f s; containers go on", pause.Seconds())
			if failures++; failures >= n.timing.patience && n.first(bootstage.Daemon) {
				n.call(ctx, bootstage.Daemon, trouble{why: "the daemon does not stay up; it is started again and again meanwhile", err: errors.New("it " + how)})
			}
		},
	}
	// Not ctx: when the node ends the daemon takes its containers down.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	if !n.hold(ctx, d, end) {
		end()
		return
	}
	mend := func() {
		if !n.raised.Load() { // what runs already is worth more than a daemon that nobody starts again
			n.restart()
		}
	}
	n.spawn("the watch over the daemon", mend, func() {
		if err := n.runDaemon(life); err != nil {
			s.Failed(err)
			mend() // there would be none for ever
		}
	})
}

// hold makes d the daemon of the node and says so, unless the node ends: who ends it looks for a daemon once ctx has ended.
func (n *node) hold(ctx context.Context, d *supervise.Daemon, end context.CancelFunc) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	n.daemon, n.endDaemon = d, end
	return true
}

func (n *node) runDaemon(ctx context.Context) error {
	defer close(n.daemonDone)
	return n.daemon.Run(ctx)
}

// serves tells that the daemon does. Once a container was raised that is no stage of the boot any more: the node is further.
func (n *node) serves(s *journal.Stage, took time.Duration) {
	text := fmt.Sprintf("it serves, process %d, after %.1f s", n.daemon.PID(), took.Seconds())
	switch {
	case n.raised.Load():
		s.Say("%s", text)
	case n.opts.Container == "":
		s.Done("%s; it waits for orders, as windlass.container names nothing", text)
	default:
		s.Done("%s", text)
	}
}

// self is this program, which is the daemon too when it is called windlass.
func self() string {
	if path, err := os.Executable(); err == nil {
		return path
	}
	return "/bin/windlass"
}

func (n *node) daemonArgs() []string {
	args := []string{"windlass", "serve"}
	if n.configPath != "" {
		args = append(args, "--config="+n.configPath)
	}
	more, _ := n.opts.Serve()
	return append(args, more...)
}

// stopDaemon ends the daemon. Containers and mounts stay.
func (n *node) stopDaemon() {
	n.mu.Lock()
	end, running := n.endDaemon, n.daemon != nil
	n.mu.Unlock()
	end()
	if running {
		select {
		case <-n.daemonDone:
		case <-time.After(20 * time.Second):
		}
	}
}
