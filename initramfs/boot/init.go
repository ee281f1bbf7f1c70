package boot

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/initramfs/boot/api"
	"github.com/windlass-hpc/windlass/initramfs/boot/journal"
	"github.com/windlass-hpc/windlass/initramfs/boot/supervise"
	"github.com/windlass-hpc/windlass/initramfs/cmdline"
	"github.com/windlass-hpc/windlass/internal/bootstage"
	"github.com/windlass-hpc/windlass/internal/config"
	"github.com/windlass-hpc/windlass/internal/fetch"
)

// Where things lie on the node.
const (
	logFile   = "/run/log/windlass.log"
	stateDir  = "/run/windlass-init"
	logSize   = 1 << 20
	userAgent = "windlass-init"
)

// impatient is how often the node is asked to end until it ends without taking down what runs.
const impatient = 3

// node is init while it lives.
type node struct {
	version string
	line    string
	opts    cmdline.Options
	j       *journal.Journal
	console *journal.Console
	log     *journal.File
	reports *journal.Reporter
	fetch   *fetch.Client
	api     *api.Client
	reaper  *supervise.Reaper
	daemon  *supervise.Daemon
	timing  timing

	mu         sync.Mutex
	net        *networkProcess
	hostname   string
	cancel     context.CancelFunc // ends all stages, and what they have started but for the daemon
	configPath string
	rescued    map[bootstage.Stage]bool
	over       map[bootstage.Stage]bool // what was in trouble works
	terminal   string                   // the device of the shell
	shell      sync.Mutex               // held while there is a shell on the console
	nudged     chan struct{}            // has one when a person has left the shell
	endDaemon  context.CancelFunc
	daemonDone chan struct{}
	up         chan struct{} // closed once the daemon has served
	upOnce     sync.Once
	raised     atomic.Bool // the container is there
}

// timing says how long is waited between tries.
type timing struct {
	pause, longest time.Duration // after a failure that may pass
	hopeless       time.Duration // after one that somebody has to mend
	patience       int           // tries before a shell is opened
}

func newInit(version, line string, given []string, j *journal.Journal, console *journal.Console) *node {
	n := &node{version: version, line: line, opts: cmdline.Parse(line, given), j: j, console: console,
		fetch: fetch.New(fetch.Config{UserAgent: userAgent}), api: api.New(config.DefaultSocket), rescued: map[bootstage.Stage]bool{}, over: map[bootstage.Stage]bool{},
		timing: timing{pause: 2 * time.Second, longest: time.Minute, hopeless: 30 * time.Second, patience: 5},
		up:     make(chan struct{}), daemonDone: make(chan struct{}), nudged: make(chan struct{}, 1), terminal: "/dev/console", endDaemon: func() {}}
	if n.opts.Report != "" {
		n.reports = journal.NewReporter(context.Background(), n.opts.Report, n.who, func(err error) { j.Say(bootstage.Init, "%v", err) })
		j.Report(n.reports)
	}
	return n
}

// who is the node, for reports.
func (n *node) who() (mac, host string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.net != nil {
		mac = n.net.MAC().String()
	}
	if mac == "" && n.opts.BootMAC != nil {
		mac = n.opts.BootMAC.String()
	}
	return mac, n.hostname
}

// began tells who runs where.
func (n *node) began(s *journal.Stage) {
	if f, err := journal.OpenFile(logFile, logSize); err == nil {
		n.log = f
		n.j.Also(f)
	} else {
		s.Say("%s: %v: nothing is kept", logFile, err)
	}
	for _, w := range n.opts.Warnings {
		s.Say("command line: %s", w)
	}
	var u unix.Utsname
	_ = unix.Uname(&u) // then it is not told
	s.Done("windlass %s on Linux %s %s", n.version, unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:]))
}

// live goes through all stages, and ends the node when it is asked to.
func (n *node) live(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n.cancel = cancel
	n.reaper = supervise.NewReaper(context.WithoutCancel(ctx))
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF) // ctrl-alt-del is a signal from now on
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, asks()...)
	n.spawn("the boot", n.restart, func() { n.stages(ctx) })
	asked := 0
	for s := range signals {
		cancel()
		how, now := ending(s)
		switch asked++; {
		case now || asked >= impatient:
			n.finishNow(how)
		case asked == 1:
			n.spawn(how, func() { n.finishNow(how) }, func() { n.end(how) })
		}
	}
}

// stages are the stages of the boot, in order.
func (n *node) stages(ctx context.Context) {
	n.entropy(ctx)
	n.modules(ctx)
	n.commands()
	if n.opts.Rescue == cmdline.RescueNow {
		n.rescue(ctx, trouble{why: "windlass.rescue asks for a shell", waits: true})
	}
	if !n.network(ctx) {
		return
	}
	n.clock(ctx)
	if !n.configuration(ctx) || ctx.Err() != nil { // the node ends: nothing is begun any more
		return
	}
	n.startDaemon(ctx)
	n.image(ctx)
}
