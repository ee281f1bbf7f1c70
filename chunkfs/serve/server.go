package serve

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/chunkfs/cache"
	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/keeper"
	"github.com/windlass-hpc/windlass/chunkfs/lazy"
	"github.com/windlass-hpc/windlass/internal/durable"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/undo"
)

// server is the running server. Lock order: a seat's turn, dataTurn, mu. Nothing that can wait is done under mu.
type server struct {
	cfg    Config
	place  control.Place
	log    *logrus.Logger
	keeper *keeper.Client
	cache  *cache.Cache

	sharing *lazy.Sharing // of chunks on their way, among the mounts

	devices  *devices
	dataTurn sync.Mutex
	data     *conn // of devices; nil until the first mount of mode lazy

	mu      sync.Mutex
	seats   map[string]*seat
	holds   int
	ending  bool                            // nothing is opened any more
	restart bool                            // and the keeper shall start the next server
	revoked map[string]time.Time            // orders that are refused, and since when
	changed chan struct{}                   // closed and replaced when any of these change
	coming  map[format.Digest]chan struct{} // images that are being fetched; closed when that has ended

	ctx      context.Context //nolint:containedctx // ends with the server
	end      context.CancelFunc
	retrying sync.WaitGroup
}

// seat is where the mount of an ID has its place while anybody opens, closes or uses it.
type seat struct {
	turn  chan struct{} // holds a token while somebody opens or closes the mount
	users int           // those who wait for their turn or have it, and the mount itself

	// The rest is of who has the turn to change, and mu's to read.

	mount   *mount  // nil while it is not open
	pending *record // of an earlier server, while the mount is not open again
}

// enter waits for the turn at an ID.
func (s *server) enter(ctx context.Context, id string) (*seat, error) {
	s.mu.Lock()
	t := s.seats[id]
	if t == nil {
		t = &seat{turn: make(chan struct{}, 1)}
		s.seats[id] = t
	}
	t.users++
	s.mu.Unlock()
	select {
	case t.turn <- struct{}{}:
		return t, nil
	case <-ctx.Done():
		s.leave(id, t)
		return nil, fault.Hintf(fault.New(fault.Busy, "mount %s is being opened or closed: %w", id, context.Cause(ctx)), "try again")
	}
}

// leave ends a use that enter began. The last one takes the seat away.
func (s *server) leave(id string, t *seat) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.users--; t.users == 0 {
		delete(s.seats, id)
	}
	s.wake()
}

// wake tells those who wait for a change. The caller has mu.
func (s *server) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// set puts a mount into its seat, or takes away what is there.
func (s *server) set(t *seat, m *mount) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(t, m, nil)
}

// expect puts the record of an earlier server into a seat.
func (s *server) expect(r *record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &seat{turn: make(chan struct{}, 1)}
	s.seats[r.Open.ID] = t
	s.settle(t, nil, r)
}

// settle changes what a seat has; that is a user of the seat. The caller has mu.
func (s *server) settle(t *seat, m *mount, pending *record) {
	if t.mount != nil || t.pending != nil {
		t.users--
	}
	t.mount, t.pending = m, pending
	if t.mount != nil || t.pending != nil {
		t.users++
	}
	s.wake()
}

// Open opens an image for a mount; the same Open again gets the same answer.
func (s *server) Open(ctx context.Context, o control.Open) (control.Opened, error) {
	if err := checkOpen(&o); err != nil {
		return control.Opened{}, err
	}
	t, err := s.enter(ctx, o.ID)
	if err != nil {
		return control.Opened{}, err
	}
	defer s.leave(o.ID, t)
	defer func() { <-t.turn }()
	if s.isRevoked(o.Order) {
		return control.Opened{}, fault.New(fault.BadState, "the order to open mount %s was revoked before it came", o.ID)
	}
	if t.mount != nil {
		if !same(t.mount.rec.Open, o) {
			return control.Opened{}, fault.New(fault.Exists, "mount %s is open already, and not as asked for now", o.ID)
		}
		return t.mount.opened(s.place), nil
	}
	if err := s.admit(t, o.ID); err != nil {
		return control.Opened{}, err
	}
	began := time.Now()
	m, err := s.make(ctx, o)
	if err != nil {
		return control.Opened{}, err
	}
	s.set(t, m)
	s.log.WithFields(logrus.Fields{"mount": o.ID, "image": m.rec.Image, "mode": m.rec.Mode, "dur_ms": time.Since(began).Milliseconds()}).Info("opened")
	return m.opened(s.place), nil
}

// admit refuses an Open that comes at the wrong time.
func (s *server) admit(t *seat, id string) error {
	if t.pending != nil {
		return fault.Hintf(fault.New(fault.Unavailable, "mount %s is being taken up again after a crash of the chunkfs server", id),
			"wait until an origin answers, or unmount it")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		return fault.New(fault.Unavailable, "the chunkfs server is about to end")
	}
	return nil
}

// revocation is how long an order that was revoked is refused: by far longer than one is on its way.
const revocation = time.Minute

// revoke has an order refused when it comes. What it has opened is closed by Close, whose turn comes after it.
func (s *server) revoke(order string) {
	if order == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.revoked == nil {
		s.revoked = map[string]time.Time{}
	}
	for o, since := range s.revoked {
		if time.Since(since) > revocation {
			delete(s.revoked, o)
		}
	}
	s.revoked[order] = time.Now()
}

func (s *server) isRevoked(order string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.revoked[order]
	return ok
}

// same compares what was asked for.
func same(a, b control.Open) bool {
	a.Order, b.Order = "", ""
	x, err := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err == nil && err2 == nil && string(x) == string(y)
}

// make does all that an Open asks for, or nothing.
func (s *server) make(ctx context.Context, o control.Open) (_ *mount, err error) {
	rec := &record{Open: o, Node: newNode()}
	var u undo.Stack
	defer func() { err = u.Unwind(ctx, err) }()
	u.Push("remove the record of mount "+o.ID, func(ctx context.Context) error { return durable.Remove(ctx, s.place.Mount(o.ID)) })
	if err := s.write(ctx, rec); err != nil {
		return nil, err
	}
	m, err := s.begin(ctx, rec)
	if err != nil {
		return nil, err
	}
	u.Push("give up image "+rec.Image.String(), func(context.Context) error { m.release(); return nil })
	switch rec.Mode {
	case control.Lazy:
		if err := s.needData(ctx); err != nil {
			return nil, err
		}
		m.file = s.devices.expect(rec.Node, o.ID)
		m.file.settle(m.device())
		u.Push("take the device file away", func(context.Context) error { s.devices.remove(m.file); return nil })
	case control.FUSE:
		u.Push("unmount "+o.Target, func(ctx context.Context) error { return s.unmountFUSE(ctx, m) })
		if err := s.mountFUSE(ctx, m); err != nil {
			return nil, err
		}
	}
	rec.Done = true
	return m, s.write(ctx, rec)
}

// Close gives a mount back; that of an ID that is not known is an error of kind NotFound.
func (s *server) Close(ctx context.Context, id string) error {
	t, err := s.enter(ctx, id)
	if err != nil {
		return err
	}
	defer s.leave(id, t)
	defer func() { <-t.turn }()
	m := t.mount
	if t.pending != nil {
		return s.closePending(ctx, t)
	}
	if m == nil {
		return fault.New(fault.NotFound, "there is no mount %.80q", id)
	}
	if err := s.letGo(ctx, m); err != nil {
		return err
	}
	m.release()
	s.set(t, nil)
	if err := durable.Remove(ctx, s.place.Mount(id)); err != nil {
		return err
	}
	s.log.WithField("mount", id).Info("closed")
	return nil
}

// closePending gives up a mount that could not be taken up: who still reads it gets an error.
func (s *server) closePending(ctx context.Context, t *seat) error {
	r := t.pending
	if r.Mode == control.FUSE {
		if ours(r.Open.Target) {
			if err := fsmount.Unmount(ctx, r.Open.Target); err != nil {
				return err
			}
		}
		if err := s.drop(connName(r.Open.ID)); err != nil {
			return err
		}
	}
	if f := s.devices.named(r.Open.ID); f != nil {
		s.devices.remove(f)
		f.settle(nil)
	}
	s.set(t, nil)
	return durable.Remove(ctx, s.place.Mount(r.Open.ID))
}

// letGo takes away what the kernel has of a mount: Busy when it is in use.
func (s *server) letGo(ctx context.Context, m *mount) error {
	switch {
	case m.fuse != nil:
		return s.unmountFUSE(ctx, m)
	case m.file != nil:
		if err := s.awaitUnused(ctx, m.file); err != nil {
			return err
		}
		s.devices.remove(m.file)
	}
	return nil
}

// find gives an open mount.
func (s *server) find(id string) (*mount, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.seats[id]
	if t == nil {
		return nil, fault.New(fault.NotFound, "there is no mount %.80q", id)
	}
	if t.mount == nil {
		return nil, fault.Hintf(fault.New(fault.Unavailable, "mount %s is being opened or closed", id), "try again")
	}
	return t.mount, nil
}

// List gives what is open, without secrets.
func (s *server) List() []control.Open {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []control.Open{}
	for _, t := range s.seats {
		if t.mount == nil {
			continue
		}
		o := t.mount.rec.Open
		o.Origins = slices.Clone(o.Origins)
		for i, c := range o.Origins {
			o.Origins[i] = c.Masked()
		}
		all = append(all, o)
	}
	slices.SortFunc(all, func(a, b control.Open) int { return strings.Compare(a.ID, b.ID) })
	return all
}
