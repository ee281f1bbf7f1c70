package lazy

import (
	"slices"
	"sync"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/cache"
	"github.com/windlass-hpc/windlass/chunkfs/format"
)

// Sharing lets devices of one process share chunks on their way: of devices that want the same chunk one fetches it, as the lead, and
// the others follow. A lead waits for origins only, never for another flight, so that nothing waits in a circle.
//
// Its lock comes after Device.mu, and nothing else is locked under it.
type Sharing struct {
	patience time.Duration // how long a flight follows: the origins of the lead may be worse than its own

	mu    sync.Mutex
	leads map[sharedChunk]*lead
}

// NewSharing makes one, for the devices of one cache.
func NewSharing() *Sharing {
	return &Sharing{patience: 5 * time.Second, leads: map[sharedChunk]*lead{}}
}

// sharedChunk names what is shared: a chunk by its digest, whichever image it is of. What nobody verifies goes no further than its image,
// whose extents are all that can be wrong then anyway.
type sharedChunk struct {
	sum        format.Digest
	unverified *cache.Image // nil: the digest of what comes is checked
}

// lead is a chunk that one device fetches for all. Its fields are Sharing.mu's.
type lead struct {
	chunk  sharedChunk
	run    *run // once it has begun
	urgent bool // a reader waits, of any device
	behind []*flight
}

// claim makes a flight the lead of its chunk, or lets it follow the one that there is. Device.mu is held, as it is for all of these.
func (s *Sharing) claim(f *flight, c sharedChunk) (follows bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.leads[c]
	switch {
	case l == nil:
		l = &lead{chunk: c}
		s.leads[c] = l
		f.leads = l
		return false
	case f.alone:
		return false
	}
	f.follows = l
	l.behind = append(l.behind, f)
	return true
}

// has says whether a chunk is on its way.
func (s *Sharing) has(c sharedChunk) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leads[c] != nil
}

// took tells a lead which run brings it.
func (s *Sharing) took(l *lead, r *run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.run = r; l.urgent {
		r.hurry()
	}
}

// hurry makes a lead urgent: a reader waits for a flight that follows it.
func (s *Sharing) hurry(l *lead) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.urgent = true; l.run != nil {
		l.run.hurry()
	}
}

// leave lets a flight follow no more.
func (s *Sharing) leave(f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := f.follows
	if l == nil {
		return
	}
	l.behind = slices.DeleteFunc(l.behind, func(g *flight) bool { return g == f })
	f.follows = nil
}

// end ends a lead and gives the flights that follow it.
func (s *Sharing) end(l *lead) []*flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.leads, l.chunk)
	behind := l.behind
	l.behind = nil
	return behind
}
