package lazy

import "time"

// line is what is known of the way to the origins. Its methods are called with Device.mu held.
type line struct {
	wait time.Duration // until the first chunk of a request is there, at best; 0: not known
	rate float64       // bytes a second of what follows, decoded and kept, smoothed; 0: not known
	// What was fetched along with a miss, in stored bytes, and what readers have come to want of it. Both fade.
	along, used int64
	misses      int
}

const (
	assumedRate = 25e6      // bytes a second of a line that is not known
	leastAlong  = 128 << 10 // stored bytes that are fetched along with a miss: to ask for them would cost more
	mostAlong   = 1 << 20
	probe       = 16 // misses, of which one finds out whether it has become of use
)

// meter times a run. Chunks come from one goroutine at a time.
type meter struct {
	began, first time.Time // first: when the first chunk was there
	rest         int64     // stored bytes after that
}

func (m *meter) came(stored int) {
	if m.first.IsZero() {
		m.first = time.Now()
	} else {
		m.rest += int64(stored)
	}
}

// took learns from a run for a reader, of which all has come.
func (l *line) took(m *meter) {
	if m.first.IsZero() { // it was found elsewhere
		return
	}
	wait, after := m.first.Sub(m.began), time.Since(m.first)
	// At best: what waits behind our own bytes must not be a reason to ask for more of them. It rises slowly, since ways change.
	if l.wait == 0 || wait < l.wait {
		l.wait = wait
	}
	l.wait += (wait - l.wait) / 64
	if m.rest < leastAlong/2 {
		return
	}
	rate := float64(m.rest) / after.Seconds()
	if l.rate == 0 {
		l.rate = rate
	}
	l.rate += (rate - l.rate) / 8
}

// window is how many stored bytes are worth fetching along with a miss: about as many as come in the time of two requests. None when
// readers hardly ever wanted what came so.
func (l *line) window() int64 {
	rate := l.rate
	if rate == 0 {
		rate = assumedRate
	}
	n := min(max(int64(2*l.wait.Seconds()*rate), leastAlong), mostAlong)
	if l.along > 64*n {
		l.along, l.used = l.along/2, l.used/2
	}
	l.misses++
	if l.along > 8*n && l.used < l.along/8 && l.misses%probe != 0 {
		return 0
	}
	return n
}
