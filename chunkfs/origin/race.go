package origin

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// job is something to be had from any of the origins, by one attempt or more.
type job struct {
	what    string // for messages: `fetch tag debian`
	class   Class
	raise   <-chan struct{}
	ordered bool  // ask in the order of the configuration, whatever the latency
	prompt  bool  // an origin that says it has not got it is believed at once
	only    *site // ask no other, and not for ever
	// try makes one attempt. Errors are of type *failure, *fatal or *broken, or of the context.
	try  func(ctx context.Context, a *attempt) error
	done func() bool
}

// strikes are what a verdict costs an origin in this job.
func (j *job) strikes(v verdict) int {
	switch {
	case j.only != nil && v == again:
		return credit / 2
	case j.only != nil, j.prompt && v == missing:
		return credit
	}
	return v.strikes()
}

// race gets a job done: by one attempt where all goes well, by others when it fails, and by several at once when it is slow. It is used
// by one goroutine; attempts run in their own.
type race struct {
	set   *Set
	job   *job
	ctx   context.Context //nolint:containedctx // of this one job
	class Class           // as the gate counts it
	began time.Time

	urgent   chan struct{} // closed when the class is Demand
	raise    <-chan struct{}
	results  chan result
	over     chan struct{} // closed when nobody takes results any more
	ready    chan struct{} // the job may be done; winner says by whom
	winner   atomic.Pointer[site]
	live     []*attempt
	strikes  []int
	tried    []bool // since the last pause
	failures []*failure
	counted  []int64 // the number of the last failure of each origin that strikes hold
	pauses   int
	clock    *time.Timer // of the next look at the progress
}

type result struct {
	a   *attempt
	err error
}

// maxLive is how many attempts there may be at once: the first, the hedge, and one that is replaced all the time.
const maxLive = 3

func (s *Set) run(ctx context.Context, j *job) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	r := &race{set: s, job: j, ctx: ctx, began: time.Now(), urgent: make(chan struct{}), raise: j.raise,
		strikes: make([]int, len(s.sites)), tried: make([]bool, len(s.sites)), failures: make([]*failure, len(s.sites)), counted: make([]int64, len(s.sites))}
	class, err := s.gate.enter(ctx, j.class, j.raise)
	if err != nil {
		return r.ended()
	}
	if r.class = class; class == Demand {
		r.raise = nil
		close(r.urgent)
	}
	r.results, r.over, r.ready = make(chan result), make(chan struct{}), make(chan struct{}, 1)
	r.clock = time.NewTimer(time.Hour)
	err = r.loop()
	r.stop()
	s.gate.leave(r.class)
	return err
}

func (r *race) loop() error {
	for !r.job.done() {
		if len(r.live) == 0 {
			if err := r.advance(); err != nil {
				return err
			}
		}
		select {
		case res := <-r.results:
			if err := r.took(res); err != nil {
				return err
			}
		case <-r.ready:
		case <-r.clock.C:
			r.look()
		case <-r.raise:
			r.promote()
		case <-r.ctx.Done():
			return r.ended()
		}
	}
	return nil
}

// promote makes the fetch one of Demand.
func (r *race) promote() {
	r.set.gate.raise(r.class)
	r.class, r.raise = Demand, nil
	close(r.urgent)
	r.clock.Reset(r.hedgeDelay())
}

// start begins an attempt.
func (r *race) start(s *site, fresh bool) {
	a := &attempt{site: s, fresh: fresh, race: r}
	// Not below the job's context: the end of an answer may be read when the job is done. Whoever ends the job ends its attempts.
	a.ctx, a.cancel = context.WithCancel(r.set.ctx)
	r.live = append(r.live, a)
	r.tried[s.index] = true
	s.requests.Add(1)
	r.set.spawn(func() {
		defer a.cancel()
		err := r.job.try(a.ctx, a)
		select {
		case r.results <- result{a, err}:
		case <-r.over:
		}
	})
	if len(r.live) == 1 {
		r.clock.Reset(r.hedgeDelay())
	}
}

// took deals with the end of an attempt. An error ends the job.
func (r *race) took(res result) error {
	s := res.a.site
	if !r.drop(res.a) {
		return nil // it has been replaced
	}
	if res.err == nil {
		s.worked()
		r.tried[s.index], r.pauses = false, 0
		if !r.job.done() {
			r.start(s, false)
		}
		return nil
	}
	var end *fatal
	if errors.As(res.err, &end) {
		s.released()
		return end.err
	}
	if r.ctx.Err() != nil {
		s.released()
		return nil // loop says it
	}
	f := asFailure(s, res.err)
	if res.a.moved.Load() > 0 {
		r.pauses = 0
	}
	r.failures[s.index] = f
	r.strikes[s.index] += r.job.strikes(f.verdict)
	if f.verdict == missing && r.job.prompt {
		s.worked() // it answers; that it has not got this is nothing bad
		return nil
	}
	r.counted[s.index] = s.failed(f)
	return nil
}

func asFailure(s *site, err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	var b *broken
	if errors.As(err, &b) {
		f = connError(s, b.err)
		f.text += " (" + afterText(b.after) + ")"
		return f
	}
	return failed(again, fault.Backend, "%s", s.secrets.scrub(err.Error()))
}

// drop says whether a was under way.
func (r *race) drop(a *attempt) bool {
	i := slices.Index(r.live, a)
	if i >= 0 {
		r.live = slices.Delete(r.live, i, i+1)
	}
	return i >= 0
}

// advance starts an attempt when none is under way, after a pause where that is due. It fails when none is worth it.
func (r *race) advance() error {
	for {
		woken := r.set.wakeup()
		s, wait := r.pick()
		if s != nil {
			r.start(s, r.failures[s.index] != nil)
			return nil
		}
		if wait < 0 {
			return r.exhausted()
		}
		if wait == 0 { // all have been tried
			wait = r.backoff()
			woken = nil
		}
		pause(r.ctx, wait, woken, r.raise)
		select {
		case <-r.raise:
			r.promote()
		default:
		}
		if r.ctx.Err() != nil {
			return r.ended()
		}
		clear(r.tried)
	}
}

// backoff doubles, with full jitter: a thousand nodes that failed together do not come back together.
func (r *race) backoff() time.Duration {
	t := r.set.opts.Timing
	d := min(t.Pause<<min(r.pauses, 16), r.patience())
	r.pauses++
	return rand.N(d) + time.Millisecond //nolint:gosec // not a secret
}

// patience is how long an origin is left alone at most when there is no other.
func (r *race) patience() time.Duration {
	switch r.class {
	case Demand:
		return r.set.opts.Timing.Longest
	case ReadAhead:
		return 3 * r.set.opts.Timing.Longest
	}
	return 10 * r.set.opts.Timing.Longest
}

// stop ends what is still under way. An origin that kept the reader waiting until another had it has failed.
func (r *race) stop() {
	r.clock.Stop()
	close(r.over)
	winner := r.winner.Load()
	for _, a := range r.live {
		switch {
		case a.finishing.Load():
			a.site.worked()
			continue
		case winner != nil && winner != a.site && a.slow && a.idle():
			a.site.failed(failed(again, fault.Timeout, "too slow: another origin was asked").hinted(hintSlow))
		default:
			a.site.released()
		}
		a.cancel()
	}
}
