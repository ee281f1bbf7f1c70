package origin

import (
	"slices"
	"time"
)

// hedgeDelay is how long the first attempt may stand still before there is a second one.
func (r *race) hedgeDelay() time.Duration {
	t := r.set.opts.Timing
	d := t.Hedge
	if len(r.live) > 0 {
		d = max(d, 3*r.live[0].site.slowest())
	}
	if r.class != Demand {
		d *= 2
	}
	if r.others() {
		d = min(d, t.Longest+t.Hedge) // fail-over is within a second, whatever the origin is used to
	}
	return d
}

// look asks whether anything moves, and helps when not. Nobody waits for the background: there, an attempt ends by its own clocks.
func (r *race) look() {
	moved := false
	for _, a := range r.live {
		a.slow = a.idle()
		moved = moved || !a.slow
		a.seen = a.moved.Load()
	}
	if moved || r.class == Background {
		r.clock.Reset(r.hedgeDelay())
		return
	}
	if len(r.live) >= maxLive { // the newest is replaced: a connection of now may work where older ones hang
		newest := r.live[len(r.live)-1]
		newest.cancel()
		newest.site.released()
		r.live = slices.Delete(r.live, len(r.live)-1, len(r.live))
	}
	if s := r.another(); s != nil {
		r.start(s, true)
	}
	r.clock.Reset(r.set.opts.Timing.Longest)
}

// another chooses the origin of a hedge: one that is not at work on this, or else the same again.
func (r *race) another() *site {
	clear(r.tried)
	for _, a := range r.live {
		r.tried[a.site.index] = true
	}
	if s, _ := r.pick(); s != nil {
		return s
	}
	for _, a := range r.live {
		if r.strikes[a.site.index] < credit {
			return a.site
		}
	}
	return nil
}

// others says whether another origin than those at work could do it.
func (r *race) others() bool {
	for i, s := range r.set.sites {
		if r.eligible(s) && r.strikes[i] < credit && !slices.ContainsFunc(r.live, func(a *attempt) bool { return a.site == s }) {
			return true
		}
	}
	return false
}

func (r *race) eligible(s *site) bool { return r.job.only == nil || r.job.only == s }

// pick chooses the origin for an attempt among those that have credit and have not been tried. Without one it says how long to wait: 0
// when all but those that are passed over have been tried, less when no origin has credit.
func (r *race) pick() (chosen *site, wait time.Duration) {
	patience := r.set.opts.Timing.Retire
	if !r.healthyOnes() {
		patience = r.patience()
	}
	wait = -1
	for _, s := range r.ranked() {
		if r.tried[s.index] {
			wait = 0
			continue
		}
		ok, left := s.admit(patience)
		if ok {
			return s, 0
		}
		r.share(s)
		if wait < 0 || left < wait {
			wait = left
		}
	}
	return nil, wait
}

// share counts what another race has found out meanwhile of an origin that refuses whatever it is asked: when many wait for one that has
// to be left alone between attempts, not each of them needs attempts of its own.
func (r *race) share(s *site) {
	f, number := s.trouble()
	if f != nil && f.verdict == refused && number > r.counted[s.index] && r.strikes[s.index] < credit {
		r.counted[s.index], r.failures[s.index] = number, f
		r.strikes[s.index] += f.verdict.strikes()
	}
}

func (r *race) healthyOnes() bool {
	for i, s := range r.set.sites {
		if r.eligible(s) && r.strikes[i] < credit && !s.isFailing() {
			return true
		}
	}
	return false
}

// ranked are the origins with credit, best first: those that work, those that know ranges, the faster, in the order of the configuration.
func (r *race) ranked() []*site {
	var list []*site
	rank := make([]int, len(r.set.sites))
	for i, s := range r.set.sites {
		if r.eligible(s) && r.strikes[i] < credit {
			list = append(list, s)
			rank[i] = s.rank(r.class, r.job.ordered)
		}
	}
	slices.SortStableFunc(list, func(a, b *site) int { return rank[a.index] - rank[b.index] })
	return list
}
