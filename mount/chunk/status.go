package chunk

import (
	"context"
	"sync"
	"time"

	"github.com/go-openapi/strfmt"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

const (
	// fresh is how old an answer of the server may be to be shown without asking again.
	fresh = 500 * time.Millisecond
	// askTimeout is what the server has for its answers about all mounts; refreshWait is how long who wants them waits for it. What comes
	// later is for the next one.
	askTimeout  = 2 * time.Second
	refreshWait = 100 * time.Millisecond
	// sulk is how long a server that did not answer is not asked.
	sulk = 5 * time.Second
)

// watch keeps what the server last said of each mount.
type watch struct {
	mu   sync.Mutex
	last map[mount.ID]answer
	next time.Time     // not asked again before
	busy chan struct{} // open while the server is being asked; nil else
}

// answer is what is known of one mount.
type answer struct {
	stats control.Stats
	asked time.Time // zero: never answered
	err   string    // why there is nothing newer
}

// Refresh implements mount.Observer.
func (d *Driver) Refresh(ctx context.Context, ids []mount.ID) {
	w := &d.watch
	w.mu.Lock()
	if w.busy == nil && (time.Now().After(w.next) || w.misses(ids)) {
		busy := make(chan struct{})
		w.busy = busy
		go func() {
			defer close(busy)
			d.ask(context.WithoutCancel(ctx), ids)
		}()
	}
	busy := w.busy
	w.mu.Unlock()
	if busy == nil {
		return
	}
	late := time.NewTimer(refreshWait)
	defer late.Stop()
	select {
	case <-busy:
	case <-late.C:
	case <-ctx.Done():
	}
}

// misses reports whether one of the mounts has never been asked for. w.mu is held.
func (w *watch) misses(ids []mount.ID) bool {
	for _, id := range ids {
		if _, ok := w.last[id]; !ok {
			return true
		}
	}
	return false
}

// ask asks the server about each mount and keeps what it says.
func (d *Driver) ask(ctx context.Context, ids []mount.ID) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	client, pause := d.cfg.Starter.Client(), fresh
	said := map[mount.ID]answer{}
	for _, id := range ids {
		stats, err := client.Stats(ctx, name(id))
		if err != nil {
			said[id] = answer{err: err.Error()}
			if unreachable(err) {
				pause = sulk
			}
			continue
		}
		said[id] = answer{stats: stats, asked: time.Now()}
	}
	d.watch.keep(said, pause)
}

func (w *watch) keep(said map[mount.ID]answer, pause time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy, w.next = nil, time.Now().Add(pause)
	kept := make(map[mount.ID]answer, len(said))
	for id, a := range said {
		if a.asked.IsZero() { // the older answer is better than none
			a.stats, a.asked = w.last[id].stats, w.last[id].asked
		}
		kept[id] = a
	}
	w.last = kept
}

func (w *watch) forget(id mount.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.last, id)
}

// Observe implements mount.Observer.
func (d *Driver) Observe(id mount.ID, m *models.Mount) {
	d.watch.mu.Lock()
	a, ok := d.watch.last[id]
	d.watch.mu.Unlock()
	if !ok || m.Chunkfs == nil {
		return
	}
	part := *m.Chunkfs
	part.Status = status(a)
	m.Chunkfs = &part
}

// status is an answer as the API gives it.
func status(a answer) *models.ChunkfsStatus {
	v := &models.ChunkfsStatus{Error: a.err}
	if a.asked.IsZero() {
		return v
	}
	asked, s := strfmt.DateTime(a.asked.UTC()), a.stats
	v.Asked, v.Image, v.Mode = &asked, s.Image.String(), string(s.Mode)
	v.Size, v.Cached, v.Complete = s.Size, s.Cached, s.Complete
	v.Wanted, v.Served, v.Fetched, v.Shared, v.Amplification = s.Wanted, s.Served, s.Fetched, s.Shared, s.Amplification
	v.Hits, v.Misses, v.Errors, v.Corrupt, v.Requests = s.Hits, s.Misses, s.Errors, s.Corrupt, s.Requests
	v.LastError, v.LatencySum, v.Rss = s.LastError, s.LatencySum, s.RSS
	v.Prefetch = &models.ChunkfsPrefetch{State: s.Prefetch.State, Done: s.Prefetch.Done, Total: s.Prefetch.Total}
	for _, b := range s.Latency {
		v.Latency = append(v.Latency, &models.ChunkfsBucket{Le: b.Le, Count: b.Count})
	}
	for _, h := range s.Origins {
		v.Origins = append(v.Origins, &models.ChunkfsHealth{
			URL: h.URL, Healthy: h.Healthy, LastError: h.LastError, LatencyMs: float64(h.Latency) / float64(time.Millisecond),
			Requests: h.Requests, Failures: h.Failures, Corrupt: h.Corrupt, Bytes: h.Bytes,
		})
	}
	return v
}
