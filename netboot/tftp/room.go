package tftp

import (
	"net/netip"
	"sync"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
)

const (
	// maxTransfers bounds those under way: each holds a socket, a file and a goroutine. maxWaiting bounds the requests that wait for room.
	maxTransfers = 2048
	maxWaiting   = 8192
	// maxOfOne bounds those of one address, under way or waiting. Firmware has one or two, and one more for each time that it has asked again.
	maxOfOne = 16
	// patience is how long a request waits for room. An error ends the boot of most firmware: it is better to be slow.
	patience = 20 * time.Second
)

// errFull and errGreedy are told to whoever asks.
var (
	errFull   = fault.New(fault.Unavailable, "too many transfers, try again")
	errGreedy = fault.New(fault.Throttled, "more than %d transfers of one address", maxOfOne)
)

// room is for transfers under way. Who comes when there is none waits in turn.
type room struct {
	slots   chan struct{}
	waiting chan struct{}
	mu      sync.Mutex
	of      map[netip.Addr]int
}

func newRoom() *room {
	return &room{slots: make(chan struct{}, maxTransfers), waiting: make(chan struct{}, maxWaiting), of: map[netip.Addr]int{}}
}

// enter waits for room; leave must follow when there is no error.
func (r *room) enter(from netip.Addr, patience time.Duration) (leave func(), err error) {
	if !r.count(from) {
		return nil, errGreedy
	}
	if r.take(patience) {
		return func() { <-r.slots; r.uncount(from) }, nil
	}
	r.uncount(from)
	return nil, errFull
}

func (r *room) take(patience time.Duration) bool {
	select {
	case r.slots <- struct{}{}:
		return true
	default:
	}
	select {
	case r.waiting <- struct{}{}:
		defer func() { <-r.waiting }()
	default:
		return false
	}
	enough := time.NewTimer(patience)
	defer enough.Stop()
	select {
	case r.slots <- struct{}{}: // in the order in which they came: so the runtime serves who waits at a channel
		return true
	case <-enough.C:
		return false
	}
}

func (r *room) count(from netip.Addr) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of[from] == maxOfOne {
		return false
	}
	r.of[from]++
	return true
}

func (r *room) uncount(from netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of[from]--; r.of[from] == 0 {
		delete(r.of, from)
	}
}
