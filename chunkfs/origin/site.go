package origin

import (
	"context"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
)

// want is a part of a file of a store.
type want struct {
	path     string
	from, to int64 // of the file; with an unknown size, all there is up to to
	size     int64 // of the whole file; -1: not known
	whole    bool  // ask for all of it, not for a range; from is 0
	fresh    bool  // not over a connection that may be broken
	meter    meter
}

// meter is told of the bytes of a body.
type meter interface {
	// pace waits until bytes may be read, and says how many of n.
	pace(n int) int
	count(n int)
}

// content is the bytes that were wanted, and nothing behind them.
type content struct {
	io.Reader
	finish func() // when all has been read: leaves the connection for the next
	close  func()
	size   int64 // of the whole file; -1: not known before its end
	all    bool  // the whole file comes, though a part was asked for
}

// access opens the files of one origin. Its errors are of type *failure.
type access interface {
	open(ctx context.Context, w want, s *site) (*content, error)
	forget() // what is kept from earlier requests: something is wrong
	close()
}

// keepsWhole is how long it is remembered that an origin answers a Range with the whole file.
const keepsWhole = time.Minute

// breakAfter failures in a row an origin is passed over for a while.
const breakAfter = 3

// site is one origin and what is known of it.
type site struct {
	access
	index   int
	name    string // the URL as it may be shown
	secrets secrets
	set     *Set

	requests, bytes, corrupt atomic.Int64

	mu       sync.Mutex
	failures int64
	last     *failure
	recent   [64]time.Duration // to the first byte, of the last answers
	count    int               // answers so far
	smooth   time.Duration
	answered time.Time // when smooth was renewed
	whole    time.Time // when it last ignored a Range
	inRow    int       // failures since something worked
	failing  bool      // the circuit is open: it is passed over
	cool     time.Duration
	failedAt time.Time
	probe    time.Time // while open, when an attempt began that is to find out whether it is back; zero: none is under way
}

// answer notes how long an origin took to begin its answer.
func (s *site) answer(took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recent[s.count%len(s.recent)] = took
	s.count++
	if s.smooth == 0 {
		s.smooth = took
	}
	s.smooth += (took - s.smooth) / 5
	s.answered = time.Now()
}

// slowest gives what all but the slowest 5 % of the last answers took; 0 when there are too few to say.
func (s *site) slowest() time.Duration {
	s.mu.Lock()
	n := min(s.count, len(s.recent))
	recent := s.recent
	s.mu.Unlock()
	if n < 4 {
		return 0
	}
	slices.Sort(recent[:n])
	return recent[n*95/100]
}

// The order in which origins are asked: what is higher comes later.
const (
	rankWhole  = 1 << 8 // answers a Range with the whole file
	rankFailed = 1 << 9
)

// overdue is how long after its time a reader has to be the one who finds out whether an origin is back.
const overdue = 2 * time.Second

// rank puts latencies in classes, so that small differences leave the order of the configuration alone. What was slow long ago is
// forgotten by and by: otherwise it would never be asked again.
func (s *site) rank(c Class, ordered bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, rank := time.Now(), 0
	if s.failing {
		due := s.failedAt.Add(s.cool)
		if c == Demand {
			due = due.Add(overdue)
		}
		if now.Before(due) {
			rank += rankFailed
		}
	}
	if ordered {
		return rank
	}
	forgotten := min(int(now.Sub(s.answered)/(10*time.Second)), 20)
	for d := s.smooth >> forgotten; d >= 8*time.Millisecond; d /= 2 {
		rank++
	}
	if !s.whole.IsZero() && now.Sub(s.whole) < keepsWhole {
		rank += rankWhole
	}
	return rank
}

func (s *site) ranges(ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.whole = time.Time{}
	if !ok {
		s.whole = time.Now()
	}
}

// worked closes the circuit.
func (s *site) worked() {
	s.mu.Lock()
	was := s.failing
	s.inRow, s.failing, s.probe, s.cool = 0, false, time.Time{}, 0
	s.mu.Unlock()
	if was {
		s.set.wakeAll()
		s.log(logrus.InfoLevel, "an origin works again")
	}
}

// failed counts a failure and gives its number; too many in a row open the circuit, for longer each time.
func (s *site) failed(f *failure) int64 {
	t := s.set.opts.Timing
	s.mu.Lock()
	s.failures++
	s.inRow++
	s.last = f
	s.failedAt = time.Now()
	was := s.failing
	if s.inRow >= breakAfter || f.after > 0 {
		s.failing = true
		s.cool = max(min(max(2*s.cool, t.Longest/4), t.Retire), min(f.after, t.Retire))
	}
	s.probe = time.Time{}
	opened, number := s.failing && !was, s.failures
	s.mu.Unlock()
	s.forget()
	if was {
		s.set.wakeAll() // another may probe
	}
	if opened {
		s.log(logrus.WarnLevel, "an origin fails and is passed over for a while: "+f.text)
	}
	return number
}

// released ends a probe that came to nothing, such as one whose reader has gone.
func (s *site) released() {
	s.mu.Lock()
	was := !s.probe.IsZero()
	s.probe = time.Time{}
	s.mu.Unlock()
	if was {
		s.set.wakeAll()
	}
}

func (s *site) isFailing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failing
}

// admit says whether an attempt may be made now, or when to ask again. While the circuit is open, one attempt at a time is, once the
// origin has been left alone for patience at most, and for as long as it has earned at most.
func (s *site) admit(patience time.Duration) (ok bool, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.failing {
		return true, 0
	}
	if left := time.Until(s.failedAt.Add(min(s.cool, patience))); left > 0 {
		return false, left
	}
	// A probe that hangs does not keep others from trying.
	if left := time.Until(s.probe.Add(s.set.opts.Timing.Longest)); !s.probe.IsZero() && left > 0 {
		return false, left
	}
	s.probe = time.Now()
	return true, 0
}

func (s *site) health() Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := Health{
		URL: s.name, Healthy: !s.failing, Latency: s.smooth,
		Requests: s.requests.Load(), Failures: s.failures, Corrupt: s.corrupt.Load(), Bytes: s.bytes.Load(),
	}
	if s.last != nil {
		h.LastError = s.last.text
	}
	return h
}

// trouble is why the origin is passed over, and the number of that failure; nil when it is not.
func (s *site) trouble() (*failure, int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.failing {
		return nil, s.failures
	}
	return s.last, s.failures
}

func (s *site) log(level logrus.Level, text string) {
	if l := s.set.opts.Log; l != nil {
		l.WithField("origin", s.name).Log(level, text)
	}
}
