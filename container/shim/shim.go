// Package shim is the program windlass-shim: the parent of one container's first process.
//
// It prepares and starts the container, keeps its console, its log and its notify socket, reaps it and writes down how it ended. It is a
// process of its own so that containers outlive the daemon; it is small, because there is one a container. The daemon starts it with a
// listening socket (proto.ListenerFD) and nothing else, and says everything in the first request; later daemons find it by that socket.
//
// It lives in the cgroup `shim` beside those of the containers, so that killing a container, or what the daemon runs in, does not
// kill it. (A service manager that kills by its own version 1 hierarchy must be told KillMode=process.) It owns the container's processes, never its cgroups or its directory: the daemon
// makes and removes those. It leaves when the container has ended and that is on disk.
package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/container/shim/proto"
	"github.com/windlass-hpc/windlass/internal/cgroup"
	"github.com/windlass-hpc/windlass/internal/durable"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/unixsock"
)

// Run is the program. It must be called on the main thread, locked to it: a time namespace is made there.
func Run() error {
	unix.CloseOnExec(proto.ListenerFD)
	unix.Umask(0o022) // the daemon's keeps its files to root, and what is made for a container is for all in there
	listener := os.NewFile(proto.ListenerFD, "listener")
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a subreaper: %w", err)
	}
	conn, err := unixsock.Accept(listener)
	if err != nil {
		return err
	}
	t, terr := grow(0) // nearly every container is made of this: it need not wait for the orders
	rehearse()
	var req proto.Request
	if _, err := conn.Receive(&req); err != nil {
		return nil // the daemon went before it asked for anything
	}
	c, err := begin(&req, t, terr)
	if err != nil {
		return conn.Send(proto.Reply{Error: proto.NewError(err)})
	}
	c.listener = listener
	st := c.snapshot()
	_ = conn.Send(proto.Reply{Status: &st}) // whether or not the daemon still listens: the container runs
	go c.accept()
	go c.serve(conn)
	go c.followEvents()
	<-c.gone
	return c.farewell()
}

// rehearse has package json work out how orders and answers look, which it does once, and slowly.
func rehearse() {
	st := proto.Status{}
	_ = json.Unmarshal([]byte(`{"config":{"args":["x"],"cgroup":{"legacy":{"x":"x"}}}}`), &proto.Request{})
	_, _ = json.Marshal(proto.Reply{Status: &st})
}

func begin(req *proto.Request, t *trees, terr error) (*container, error) {
	if req.Version != proto.Version || req.Op != proto.OpStart || req.Config == nil {
		return nil, fault.New(fault.Unsupported, "this shim speaks version %d and was asked for %q in version %d",
			proto.Version, req.Op, req.Version)
	}
	c := &container{cfg: req.Config, children: map[int]chan proto.Exit{}, changed: make(chan struct{}), gone: make(chan struct{})}
	return c, c.start(t, terr)
}

// container is the running container. Lock order: reap before mu.
type container struct {
	cfg      *proto.Config
	listener *os.File
	console  *console
	notify   *os.File
	pts      int // the container's devpts
	pidfd    int

	// reap is held while a child is cloned and entered in children, so that its exit finds it there.
	reap     sync.Mutex
	children map[int]chan proto.Exit

	mu      sync.Mutex
	status  proto.Status
	changed chan struct{} // closed and replaced at every change
	leaving bool
	writers sync.WaitGroup // those that have something to say before the shim leaves

	gone chan struct{} // closed when the container has ended and the last words are written
}

// snapshot is the status now.
func (c *container) snapshot() proto.Status {
	st, _ := c.watch()
	return st
}

// watch gives the status and a channel that is closed when it changes.
func (c *container) watch() (proto.Status, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.status
	if st.State != proto.Exited {
		st.OOMKilled = c.cfg.Cgroup.OOMKills() > 0
	}
	return st, c.changed
}

// update changes the status and wakes those who watch it.
func (c *container) update(change func(*proto.Status)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.status
	change(&c.status)
	if c.status != before {
		close(c.changed)
		c.changed = make(chan struct{})
	}
}

// followEvents turns frozen and thawed into paused and running for as long as the container lives.
func (c *container) followEvents() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-c.gone
		cancel()
	}()
	for {
		events, err := c.refresh()
		if err != nil || c.cfg.Cgroup.Wait(ctx, changedFrom(events)) != nil {
			return
		}
	}
}

// refresh asks the kernel whether the container is frozen.
func (c *container) refresh() (cgroup.Events, error) {
	events, err := c.cfg.Cgroup.Events()
	if err != nil {
		return events, err
	}
	c.update(func(st *proto.Status) {
		switch {
		case st.State == proto.Running && events.Frozen:
			st.State = proto.Paused
		case st.State == proto.Paused && !events.Frozen:
			st.State = proto.Running
		}
	})
	return events, nil
}

// endWait bounds how long the shim waits for leftovers that it has killed.
const endWait = 30 * time.Second

// finish is called once the first process has been reaped. It makes sure that nothing of the container runs, writes the last words
// and lets everybody know.
func (c *container) finish(ws unix.WaitStatus) {
	group := c.cfg.Cgroup
	problem := ""
	if events, err := group.Events(); err != nil || events.Populated {
		ctx, cancel := context.WithTimeout(context.Background(), endWait)
		defer cancel()
		if err := errors.Join(group.Kill(), group.WaitEmpty(ctx)); err != nil {
			problem = err.Error()
		}
	}
	c.console.drain()
	last := c.snapshot()
	last.OOMKilled = group.OOMKills() > 0
	describeEnd(&last, ws)
	if problem != "" {
		last.Error = problem
	}
	last.State, last.PID, last.Ready, last.Finished = proto.Exited, 0, false, time.Now().UTC()
	c.lastWords(last)
	close(c.gone)
}

// lastWords tells of the end once it is on disk. When that cannot be written, such as on a full /run, it is told all the same, and the
// shim stays until it can.
func (c *container) lastWords(last proto.Status) {
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := writeLast(c.cfg.Dir, &last)
		c.update(func(st *proto.Status) { *st = last })
		if err == nil {
			return
		}
		fmt.Fprintln(os.Stderr, err)
		time.Sleep(pause)
	}
}

func writeLast(dir string, st *proto.Status) error {
	data, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return durable.WriteFile(context.Background(), filepath.Join(dir, proto.StatusName), data, 0o600)
}

// enter makes the shim wait for a writer; false when it is leaving already. The writer calls c.writers.Done.
func (c *container) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.leaving {
		c.writers.Add(1)
	}
	return !c.leaving
}

// farewell lets those who watch hear the end. They get a moment, not for ever: what they miss is on disk.
func (c *container) farewell() error {
	c.listener.Close()
	c.mu.Lock()
	c.leaving = true
	c.mu.Unlock()
	told := make(chan struct{})
	go func() { c.writers.Wait(); close(told) }()
	select {
	case <-told:
	case <-time.After(2 * time.Second):
	}
	return nil
}
