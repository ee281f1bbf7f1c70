// Package chain is the heart of windlass: it raises attachments, mounts and containers on each other, keeps who holds what, writes down
// what it promises before it does it, and takes down what nobody holds.
//
// It owns the objects, their records and their events. It never touches a device, a mount or a process itself: that is for the drivers.
//
// # Concurrency
//
// Chain.mu guards the objects. It is never held across a driver call, a file or a wait, so lists answer at once whatever hangs. An
// operation claims the objects that it changes by their phase, under the lock: only one can move an object from Ready to Undoing, and
// what is Planned belongs to the request that planned it. Nobody waits for a claim: who comes second is told so. So there is no order of
// locks to keep. Operations on one container queue on its op channel.
package chain

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/rundir"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// Config is what a chain works with.
type Config struct {
	Dir     rundir.Dir
	Attach  *attach.Registry
	Mount   *mount.Registry
	Runtime container.Runtime
	Log     *logrus.Logger
	OnStep  StepFunc // may be nil

	// CreateTimeout bounds the raising of a whole definition; 0 means DefaultCreateTimeout.
	CreateTimeout time.Duration
	// StepTimeout bounds one driver call; 0 means DefaultStepTimeout.
	StepTimeout time.Duration
	// UndoTimeout bounds one driver call that takes down; 0 means DefaultUndoTimeout.
	UndoTimeout time.Duration
	// StopTimeout and SystemdStopTimeout are the grace of containers that set none; 0 means the defaults.
	StopTimeout        time.Duration
	SystemdStopTimeout time.Duration
	// AnswerTimeout bounds how long a deletion is waited for before it is answered that it is stuck; 0 means DefaultAnswerTimeout.
	AnswerTimeout time.Duration
	// ForceAfter is how long a deletion by force is left to go by itself before what does not answer is aborted; 0 means DefaultForceAfter.
	ForceAfter time.Duration
	// RefreshEvery is how often the drivers look how their objects fare when nobody asks; 0 means DefaultRefreshEvery.
	RefreshEvery time.Duration
	// ProbeWait bounds how long Open waits for the drivers to say what there is; 0 means DefaultProbeWait.
	ProbeWait time.Duration
	// Process unmounts, and mounts from devices, what lies on storage that may stop answering; nil: the daemon itself does.
	Process fsmount.Process
	// Info is what Chain.Info answers, kinds aside.
	Info models.Info
	// LeftBehind tells of the processes that wait for storage that does not answer. It never waits; nil when there are none ever.
	LeftBehind func() []*models.LeftBehind
}

// Defaults of Config. A create has to end within 60 s (the wire contract), what it undoes included.
const (
	DefaultCreateTimeout      = 50 * time.Second
	DefaultStepTimeout        = 45 * time.Second
	DefaultUndoTimeout        = 15 * time.Second
	DefaultStopTimeout        = 10 * time.Second
	DefaultSystemdStopTimeout = 90 * time.Second
	DefaultAnswerTimeout      = 3700 * time.Millisecond // 4 s with the rest of the way
	DefaultForceAfter         = time.Second
	DefaultProbeWait          = 3 * time.Second
	DefaultRefreshEvery       = 3 * time.Second
)

// Chain is the set of objects of one node.
type Chain struct {
	cfg Config
	dir rundir.Dir
	log *logrus.Logger
	seq *sequence
	bus *bus

	mu      sync.RWMutex
	objects map[ID]*object
	names   map[string]*object // containers by name
	bad     map[ID]error       // records that could not be read; their kernel objects are left alone
	looked  atomic.Int64       // when refreshSoon had them look, in nanoseconds
	turns   turns              // drivers that look at how their objects fare just now

	closing    bool           // no operation is begun any more
	ops        sync.WaitGroup // operations under way
	creates    context.Context
	endCreates context.CancelFunc

	kick chan struct{} // wakes the retrying of what could not be taken down
	lock *os.File
	ctx  context.Context // of what goes on in the background
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// Open takes the run directory, reads the records, and brings the node and the records together: what is there is adopted, what was
// begun is undone, what was being taken down goes. A second daemon on the same directory is refused.
func Open(ctx context.Context, cfg Config) (*Chain, error) {
	cfg.defaults()
	c := &Chain{cfg: cfg, dir: cfg.Dir, log: cfg.Log, objects: map[ID]*object{}, names: map[string]*object{}, kick: make(chan struct{}, 1)}
	if err := c.dir.Make(); err != nil {
		return nil, err
	}
	if err := c.takeLock(); err != nil {
		return nil, err
	}
	boot, err := bootID()
	if err == nil {
		c.seq, err = openSequence(c.dir, boot)
	}
	if err != nil {
		c.lock.Close()
		return nil, err
	}
	c.bus = newBus(c.seq.event, c.seq.gave)
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.creates, c.endCreates = context.WithCancel(context.Background())
	if err := c.reconcile(ctx, boot); err != nil {
		c.Close()
		return nil, err
	}
	if err := c.seq.reserve(ctx, 0); err != nil { // a full disk: what helps is deleting, and that needs no numbers
		c.log.WithError(err).Error("no numbers could be reserved; they are when they are needed")
	}
	c.wg.Go(c.retryLoop)
	c.wg.Go(c.refreshLoop)
	c.wg.Go(func() {
		c.seq.refill(c.ctx, func(err error) { c.log.WithError(err).Error("numbers for objects and events run out") })
	})
	return c, nil
}

// closeTimeout bounds how long Close waits for operations that are under way.
const closeTimeout = 25 * time.Second

// Stopping says that Close will follow: what is being raised is given up and undone now, and no new operation is begun.
func (c *Chain) Stopping() {
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	c.endCreates()
}

// Close waits for the operations that are under way, ends what goes on in the background and gives the run directory free. Containers,
// mounts and attachments stay as they are: the next daemon adopts them.
func (c *Chain) Close() {
	c.Stopping()
	ended := make(chan struct{})
	go func() { c.ops.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(closeTimeout):
		c.log.Warn("an operation has not ended; the next daemon takes it from there")
	}
	c.stop()
	c.wg.Wait()
	if err := c.seq.close(); err != nil {
		c.log.WithError(err).Warn("the numbers given so far could not be kept; the next daemon skips some")
	}
	c.lock.Close()
}

func (cfg *Config) defaults() {
	set := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	set(&cfg.CreateTimeout, DefaultCreateTimeout)
	set(&cfg.StepTimeout, DefaultStepTimeout)
	set(&cfg.UndoTimeout, DefaultUndoTimeout)
	set(&cfg.StopTimeout, DefaultStopTimeout)
	set(&cfg.SystemdStopTimeout, DefaultSystemdStopTimeout)
	set(&cfg.AnswerTimeout, DefaultAnswerTimeout)
	set(&cfg.ForceAfter, DefaultForceAfter)
	set(&cfg.ProbeWait, DefaultProbeWait)
	set(&cfg.RefreshEvery, DefaultRefreshEvery)
	if cfg.Log == nil {
		cfg.Log = logrus.New()
	}
}

// begin lets an operation that changes something in; what it answers is called at its end. While the chain closes it is refused.
func (c *Chain) begin() (end func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return nil, fault.New(fault.Unavailable, "the daemon is stopping")
	}
	c.ops.Add(1)
	return c.ops.Done, nil
}

// takeLock makes this the only daemon on the directory. The lock goes with the process, however it ends.
func (c *Chain) takeLock() error {
	f, err := os.OpenFile(c.dir.Lock(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("lock the run directory: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		f.Close()
		return fault.Hintf(fault.New(fault.Busy, "another windlass daemon runs on %s", c.dir),
			"stop it, or give this one a directory of its own with --run-dir")
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("lock %s: %w", c.dir.Lock(), err)
	}
	c.lock = f
	return nil
}

// update changes an object under the lock, wakes who waits for a change, and publishes an event when the object's state has changed.
func (c *Chain) update(o *object, change func()) {
	c.mu.Lock()
	e := c.changeLocked(o, change)
	c.mu.Unlock()
	c.logEvent(e)
}

// changeLocked is update for who holds the lock, and who logs the event, which may be nil, once it has let go. Events are published under
// the lock, so that they come in the order of what happened.
func (c *Chain) changeLocked(o *object, change func()) *models.Event {
	before := o.wireState()
	change()
	close(o.changed)
	o.changed = make(chan struct{})
	if o.wireState() == before {
		return nil
	}
	e := o.event()
	c.bus.publish(e)
	return e
}

// logEvent logs a change of state: one line for each.
func (c *Chain) logEvent(e *models.Event) {
	if e == nil {
		return
	}
	entry := c.log.WithFields(logrus.Fields{"kind": e.Kind, "obj": e.Object, "state": e.State})
	if e.Name != "" {
		entry = entry.WithField("name", e.Name)
	}
	if e.Message != "" {
		entry = entry.WithField("err", e.Message)
	}
	entry.Info(e.Type)
}

// wireState is the state as the API and the events name it. Chain.mu is held.
func (o *object) wireState() string {
	if o.kind == KindContainer && (o.phase == Ready || o.phase == Lost) {
		return string(o.ctr.State)
	}
	return string(o.phase)
}

func (o *object) event() *models.Event {
	state := o.wireState()
	return &models.Event{Type: string(o.kind) + "." + state, Kind: string(o.kind), Object: int64(o.id), Name: o.name(), State: state, Message: o.err}
}
