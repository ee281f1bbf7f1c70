package linux

import (
	"context"
	"errors"
	"sync"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/container/shim/proto"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/step"
)

// errUnused takes back what was prepared for a start that did not come.
var errUnused = errors.New("the container was not started")

// early holds the starts that were prepared, until Start takes them.
type early struct {
	mu     sync.Mutex
	starts map[container.ID]*starter
}

func (e *early) put(id container.ID, s *starter) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.starts == nil {
		e.starts = map[container.ID]*starter{}
	}
	e.starts[id] = s
}

// take gives what was prepared for id, to one caller only; nil when there is nothing.
func (e *early) take(id container.ID) *starter {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.starts[id]
	delete(e.starts, id)
	return s
}

// Prepare implements container.Preparer: the directory is made, and the shim comes up and gets ready what every container has. From here
// until the end of Start, or of cancel, the container is locked, so that a Remove that comes meanwhile finds all of it or nothing.
func (r *Runtime) Prepare(ctx context.Context, id container.ID, root string) (cancel func()) {
	s := r.newStarter(id, root)
	go s.begin(ctx)
	r.early.put(id, s)
	return func() {
		if s := r.early.take(id); s != nil {
			go func() { _ = s.end(ctx, errUnused) }() // what this cannot undo, Remove does
		}
	}
}

// newStarter locks the container; end unlocks it.
func (r *Runtime) newStarter(id container.ID, root string) *starter {
	s := &starter{r: r, id: id, begun: make(chan struct{}), unlock: r.locks.lock(id)}
	s.record = proto.Record{Version: proto.Version, ID: int64(id), Cgroup: r.group(id), Root: root}
	return s
}

// begin does what needs the container's number only, and lets Start know by closing begun.
func (s *starter) begin(ctx context.Context) {
	defer close(s.begun)
	now, err := s.r.probe(ctx, s.id)
	if err == nil && now.State != container.Absent && now.State != container.Exited {
		err = fault.New(fault.BadState, "start container %d: it is %s", s.id, now.State)
	}
	if err != nil {
		s.err = err
		return
	}
	if now.State == container.Exited {
		if s.err = s.r.sealEnd(ctx, s.id, now); s.err != nil {
			return
		}
	}
	s.undo.Push("remove the cgroups of all containers", s.r.tidy)
	if s.err = s.prepareDir(ctx); s.err != nil {
		return
	}
	s.undo.Push("remove the cgroups", func(ctx context.Context) error { return s.r.removeGroups(ctx, s.id) })
	s.undo.Push("kill the shim", s.kill) // before the cgroups go, so that it clones nothing into them any more
	s.err = step.Do(ctx, "container.shim", s.spawn)
}

// end takes everything back when err is not nil, and unlocks the container.
func (s *starter) end(ctx context.Context, err error) error {
	<-s.begun
	defer s.unlock()
	return s.undo.Unwind(ctx, err)
}
