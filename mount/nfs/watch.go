package nfs

import (
	"context"
	"sync"
	"time"

	"github.com/windlass-hpc/windlass/internal/helper"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

const (
	// askInterval is how often a server that answers is asked at most, askAgain one that did not.
	askInterval = 3 * time.Second
	askAgain    = time.Second
	// askTimeout is how long one question waits: it is answered as soon as the server is back.
	askTimeout = time.Minute
	// refreshTimeout is how long Refresh waits for answers.
	refreshTimeout = 80 * time.Millisecond
	// silence is from when on a server is said not to answer.
	silence = 2 * time.Second
)

// watch keeps what is known of mounts and their servers. A server is asked through one of its mounts, by one helper at a time.
type watch struct {
	helper *helper.Runner
	ctx    context.Context // ends with the driver
	cancel context.CancelFunc

	mu      sync.Mutex
	mounts  map[mount.ID]*watched
	servers map[string]*server // by address
}

type watched struct {
	dir, address string
	leaving      int       // how many Unmounts there are of it: then it is not asked through
	aborting     *aborting // the last; nil when there was none
}

type server struct {
	question *question // nil when none is asked
	asked    time.Time // when the last one ended
	silent   time.Time // since when it does not answer; zero when it does
}

type question struct {
	id     mount.ID
	begun  time.Time
	cancel context.CancelFunc
	ended  chan struct{}
}

func newWatch(h *helper.Runner) *watch {
	w := &watch{helper: h, mounts: map[mount.ID]*watched{}, servers: map[string]*server{}}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w
}

// close ends all questions.
func (w *watch) close() {
	w.cancel()
	w.mu.Lock()
	var open []<-chan struct{}
	for _, s := range w.servers {
		if s.question != nil {
			open = append(open, s.question.ended)
		}
	}
	for _, m := range w.mounts {
		if m.aborting != nil {
			open = append(open, m.aborting.ended)
		}
	}
	w.mu.Unlock()
	for _, ended := range open {
		<-ended
	}
}

func (w *watch) add(id mount.ID, dir, address string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m := w.mounts[id]; m != nil && m.dir == dir {
		m.address = address
	} else {
		w.mounts[id] = &watched{dir: dir, address: address}
	}
	if w.servers[address] == nil {
		w.servers[address] = &server{}
	}
}

// leave ends the question that goes through a mount and lets no other begin until back is called.
func (w *watch) leave(id mount.ID) (back func()) {
	w.mu.Lock()
	m := w.mounts[id]
	if m == nil {
		w.mu.Unlock()
		return func() {}
	}
	m.leaving++
	q, abort := w.servers[m.address].question, m.aborting
	w.mu.Unlock()
	abort.stop()
	if q != nil && q.id == id {
		q.cancel()
		<-q.ended
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		m.leaving--
	}
}

func (w *watch) remove(id mount.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.mounts[id]
	if m == nil {
		return
	}
	delete(w.mounts, id)
	for _, other := range w.mounts {
		if other.address == m.address {
			return
		}
	}
	if s := w.servers[m.address]; s.question == nil {
		delete(w.servers, m.address)
	}
}

// silentFor is how long a server has not answered; 0 when it has, or was not asked.
func (w *watch) silentFor(address string) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.servers[address].silentFor()
}

func (s *server) silentFor() time.Duration {
	switch {
	case s == nil:
		return 0
	case !s.silent.IsZero():
		return time.Since(s.silent)
	case s.question != nil:
		return time.Since(s.question.begun)
	}
	return 0
}

// Refresh asks each server of which nothing was heard for a while.
func (d *Driver) Refresh(ctx context.Context, ids []mount.ID) {
	timer := time.NewTimer(refreshTimeout)
	defer timer.Stop()
	for _, q := range d.watch.ask(ids) {
		select {
		case <-q.ended:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// ask begins the questions that are due.
func (w *watch) ask(ids []mount.ID) []*question {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ctx.Err() != nil {
		return nil
	}
	var begun []*question
	for _, id := range ids {
		m := w.mounts[id]
		if m == nil || m.leaving > 0 {
			continue
		}
		s, interval := w.servers[m.address], askInterval
		if !s.silent.IsZero() {
			interval = askAgain
		}
		if s.question != nil || time.Since(s.asked) < interval || w.unanswered(m.dir) {
			continue
		}
		ctx, cancel := context.WithTimeout(w.ctx, askTimeout)
		q := &question{id: id, begun: time.Now(), cancel: cancel, ended: make(chan struct{})}
		s.question = q
		begun = append(begun, q)
		go w.hear(ctx, s, q, m.dir, m.address)
	}
	return begun
}

// unanswered says whether a helper still waits for an answer from the file system at dir: to ask once more would leave another behind.
func (w *watch) unanswered(dir string) bool { return len(w.helper.LeftAt(dir, helper.OpStatfs)) > 0 }

// hear waits for the answer to a question.
func (w *watch) hear(ctx context.Context, s *server, q *question, dir, address string) {
	defer close(q.ended)
	defer q.cancel()
	err := w.helper.Statfs(ctx, dir)
	i, _ := at(dir)
	ok := answered(err, w.failsAlone(i, address))
	w.mu.Lock()
	defer w.mu.Unlock()
	s.question, s.asked = nil, time.Now()
	switch {
	case ok:
		s.silent = time.Time{}
	case s.silent.IsZero() && (ctx.Err() != context.Canceled || time.Since(q.begun) >= silence): // one that was given up early says nothing
		s.silent = q.begun
	}
}

// Observe tells the address, and whether the server answers.
func (d *Driver) Observe(id mount.ID, m *models.Mount) {
	d.watch.mu.Lock()
	defer d.watch.mu.Unlock()
	known := d.watch.mounts[id]
	if known == nil || m.Nfs == nil {
		return
	}
	part := *m.Nfs
	part.Address = known.address
	m.Nfs = &part
	if silent := d.watch.servers[known.address].silentFor(); silent >= silence {
		m.Error = "stuck: " + known.address + " has not answered for " + seconds(silent)
	}
}
