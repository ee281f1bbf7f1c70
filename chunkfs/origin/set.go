package origin

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// Set is several origins of the same images. It is safe for many goroutines.
type Set struct {
	opts   Options
	sites  []*site
	gate   *gate
	ctx    context.Context //nolint:containedctx // ends with the Set
	cancel context.CancelFunc
	work   sync.WaitGroup // attempts

	buffers buffers

	mu     sync.Mutex
	closed bool
	wake   chan struct{} // closed and renewed when an origin may be asked that could not before
}

var _ Fetcher = (*Set)(nil)

const (
	maxTag   = 256      // bytes of the file of a tag
	maxTrace = 16 << 20 // bytes of a trace
)

// New makes a Set of at least one origin. It connects to nothing: an origin that is not there yet is asked when something is wanted. Errors
// are of kind Invalid.
func New(cfgs []Config, o Options) (*Set, error) {
	if len(cfgs) == 0 {
		return nil, fault.New(fault.Invalid, "there are no origins")
	}
	if o.UserAgent == "" {
		o.UserAgent = "windlass"
	}
	o.Timing, o.Limits = o.Timing.withDefaults(), o.Limits.withDefaults()
	s := &Set{opts: o, gate: newGate(o.Limits, o.Bandwidth), wake: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	for i, c := range cfgs {
		field := fmt.Sprintf("origins[%d]", i)
		if err := c.Check(field); err != nil {
			return nil, err
		}
		u, err := parseURL(field, c.URL)
		if err != nil {
			return nil, err
		}
		site := &site{index: i, name: Display(c.URL), set: s}
		if u.Scheme == "file" {
			site.access = directory{u.Path}
		} else if site.access, site.secrets, err = newWeb(c, u, o); err != nil {
			return nil, err
		}
		s.sites = append(s.sites, site)
	}
	return s, nil
}

// Tag implements Fetcher. Tags change, so they are asked for anew each time, from the origins in the order of the configuration: the first
// that answers counts.
func (s *Set) Tag(ctx context.Context, name string) (format.Digest, error) {
	path, err := format.TagPath(name)
	if err != nil {
		return format.Digest{}, err
	}
	h := &head{path: path, limit: maxTag, whole: true, check: checkTag}
	err = s.run(ctx, &job{what: fmt.Sprintf("fetch tag %q", name), class: Demand, ordered: true, prompt: true, try: h.try, done: h.done})
	if fault.Is(err, fault.NotFound) {
		err = fault.Hintf(err, "see whether that is a store (it has the file %s), and with `windlass image ls` there which tags it has", format.StoreFile)
	}
	if err != nil {
		return format.Digest{}, err
	}
	return parseTag(h.data)
}

// parseTag reads the file of a tag: one digest, and nothing else but a newline.
func parseTag(b []byte) (format.Digest, error) {
	return format.ParseDigest(strings.TrimSuffix(string(b), "\n"))
}

func checkTag(b []byte, s *site) error {
	if _, err := parseTag(b); err != nil {
		return failed(bad, fault.Backend, "the file of the tag holds %s, not a digest", s.secrets.quote(string(b))).hinted(hintStore)
	}
	return nil
}

// Blob implements Fetcher.
func (s *Set) Blob(ctx context.Context, d format.Digest, limit int64) ([]byte, error) {
	if !d.Algorithm.Valid() || limit <= 0 {
		return nil, fault.New(fault.Invalid, "fetch of a blob with digest %s of at most %d bytes", d, limit)
	}
	return s.blob(ctx, d, limit)
}

// Trace implements Fetcher.
func (s *Set) Trace(ctx context.Context, image format.Digest, role string) ([]byte, error) {
	path, err := format.TracePath(image, role)
	if err != nil {
		return nil, err
	}
	return s.file(ctx, fmt.Sprintf("fetch trace %s of %s", role, image), path, maxTrace, nil)
}

// Fetch implements Fetcher.
func (s *Set) Fetch(ctx context.Context, algorithm format.Algorithm, f Fetch) error {
	if !algorithm.Valid() {
		return fault.New(fault.Invalid, "fetch from a pack of digest algorithm %s", algorithm)
	}
	d := format.Digest{Algorithm: algorithm, Sum: f.Pack.Sum}
	p, err := newPieces(f, format.BlobPath(d))
	if err != nil {
		return err
	}
	defer p.close()
	return s.run(ctx, &job{what: "fetch from pack " + d.String(), class: f.Class, raise: f.Raise, try: p.try, done: p.done})
}

// Health implements Fetcher.
func (s *Set) Health() []Health {
	list := make([]Health, len(s.sites))
	for i, site := range s.sites {
		list[i] = site.health()
	}
	return list
}

// closeTime bounds how long Close waits; a read from a directory on a dead file server cannot be ended.
const closeTime = 5 * time.Second

// Close ends what is under way and closes the connections.
func (s *Set) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	for _, site := range s.sites {
		site.close()
	}
	ended := make(chan struct{})
	go func() { s.work.Wait(); close(ended) }()
	select {
	case <-ended:
		return nil
	case <-time.After(closeTime):
		return fault.New(fault.Busy, "close the origins: a read still hangs after %v", closeTime)
	}
}

// spawn runs an attempt; not when the Set is closed, which the one who wants it learns from its context.
func (s *Set) spawn(attempt func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.work.Go(attempt)
	}
}

// wakeup is closed when an origin may be asked that could not be before.
func (s *Set) wakeup() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wake
}

func (s *Set) wakeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.wake)
	s.wake = make(chan struct{})
}
