package web

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	reportRate  = 20 // a second, by one host
	reportBurst = 100
	maxSources  = 4096
)

// rates bounds how often a host may report. Of those that were heard most lately it remembers how often they did.
type rates struct {
	now   func() time.Time
	mu    sync.Mutex
	by    map[netip.Prefix]*list.Element
	order *list.List // of *source, the one heard last in front
}

type source struct {
	host  netip.Prefix
	limit *rate.Limiter
}

func newRates(now func() time.Time) *rates {
	return &rates{now: now, by: map[netip.Prefix]*list.Element{}, order: list.New()}
}

// allow counts a report. It is false when the host has sent too many.
func (r *rates) allow(from netip.Addr) bool {
	host := hostOf(from)
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.by[host]
	if e == nil {
		if r.order.Len() >= maxSources {
			delete(r.by, r.order.Remove(r.order.Back()).(*source).host)
		}
		e = r.order.PushFront(&source{host, rate.NewLimiter(reportRate, reportBurst)})
		r.by[host] = e
	}
	r.order.MoveToFront(e)
	return e.Value.(*source).limit.AllowN(r.now(), 1)
}

// hostOf is what counts as one host: with IPv6 it may have every address of a /64.
func hostOf(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.WithZone("").Prefix(bits) // fails for the zero Addr, which is one host as well
	return p
}
