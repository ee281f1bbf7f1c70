package journal

import "sync"

// queue holds what waits to be posted, and knows when nothing does. There is no goroutine in it, and nothing in it can panic: it is used by
// a process that must not end, up to its last moment.
type queue struct {
	mu      sync.Mutex
	waiting []message
	posting bool
	settled chan struct{} // closed when nothing waits and nothing is being posted
	wake    chan struct{} // has one when something was added
}

func newQueue() *queue {
	q := &queue{settled: make(chan struct{}), wake: make(chan struct{}, 1)}
	close(q.settled)
	return q
}

// add forgets the oldest when there is no room: what a node does now is worth more than what it did.
func (q *queue) add(m message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 && !q.posting {
		q.settled = make(chan struct{})
	}
	if len(q.waiting) == queued {
		q.waiting = append(q.waiting[:0], q.waiting[1:]...)
	}
	q.waiting = append(q.waiting, m)
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// next takes the oldest; done must follow.
func (q *queue) next() (m message, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		return m, false
	}
	m, q.posting = q.waiting[0], true
	q.waiting = append(q.waiting[:0], q.waiting[1:]...)
	return m, true
}

func (q *queue) done() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.posting = false; len(q.waiting) == 0 {
		close(q.settled)
	}
}

// empty is closed once all that was added until now is out of here, and more that came meanwhile.
func (q *queue) empty() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.settled
}
