// Package quiet keeps a flood of packets from being a flood of lines in the log.
package quiet

import (
	"maps"
	"strings"
	"sync"
	"time"
)

const (
	// quietTime is how often the same is said.
	quietTime = time.Minute
	// maxQuiet bounds the things that are remembered as said; server identifiers can be invented.
	maxQuiet = 256
	// sweepTime is how often it is looked for things that need not be remembered any more: a flood comes here with every packet.
	sweepTime = time.Second
)

// Log remembers what was said lately. It may be used by several goroutines.
type Log struct {
	now   func() time.Time
	mu    sync.Mutex
	said  map[string]*told
	swept time.Time
}

type told struct {
	last time.Time
	more int
}

// New makes a Log that has said nothing.
func New(now func() time.Time) *Log { return &Log{now: now, said: map[string]*told{}} }

// Do calls say unless it was called for the same key within quietTime; more is how often it was not since. When there are too many keys, all
// new ones with the same first word are one.
func (q *Log) Do(key string, say func(more int)) {
	q.mu.Lock()
	now := q.now()
	if q.said[key] == nil && len(q.said) >= maxQuiet {
		if q.sweep(now); len(q.said) >= maxQuiet {
			key, _, _ = strings.Cut(key, " ")
		}
	}
	t := q.said[key]
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

// sweep forgets what would be said again. The caller holds mu.
func (q *Log) sweep(now time.Time) {
	if now.Sub(q.swept) < sweepTime {
		return
	}
	q.swept = now
	maps.DeleteFunc(q.said, func(_ string, t *told) bool { return now.Sub(t.last) >= quietTime })
}
