// Package quiet keeps a flood of packets from being a flood of lines in the log.
package quiet

import (
	"strings"
	"sync"
	"time"
)

const (
	// quietTime is how often the same is said.
	quietTime = time.Minute
	// maxQuiet bounds the things that are remembered as said; server identifiers can be invented.
	maxQuiet = 256
)

// Log remembers what was said lately. It may be used by several goroutines.
type Log struct {
	now  func() time.Time
	mu   sync.Mutex
	said map[string]*told
}

type told struct {
	last time.Time
	more int
}

// New makes a Log that has said nothing.
func New(now func() time.Time) *Log { return &Log{now: now, said: map[string]*told{}} }

// Do calls say unless it was called for the same key within quietTime; more is how often it was not since.
func (q *Log) Do(key string, say func(more int)) {
	q.mu.Lock()
	if len(q.said) >= maxQuiet && q.said[key] == nil {
		key, _, _ = strings.Cut(key, " ") // from now on one for all of a sort
	}
	t, now := q.said[key], q.now()
	if t == nil {
		t = &told{last: now.Add(-2 * quietTime)}
		q.said[key] = t
	}
	if now.Sub(t.last) < quietTime {
		t.more++
		q.mu.Unlock()
		return
	}
	more := t.more
	t.last, t.more = now, 0
	q.mu.Unlock()
	say(more)
}
