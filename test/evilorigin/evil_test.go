package evilorigin_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/origin"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/test/evilorigin"
)

func TestMain(m *testing.M) {
	flag.Parse()
	log.SetOutput(io.Discard)          // net/http writes there what servers send unasked
	_ = flag.Set("test.parallel", "6") // they wait most of the time
	os.Exit(m.Run())
}

// hasty gives up soon, so that a deadline of a second sees every clock of a reader run out.
var hasty = origin.Timing{Connect: 400 * tick, Header: 300 * tick, Stall: 300 * tick, Hedge: 50 * tick, Pause: 10 * tick, Longest: 100 * tick}

const (
	tick     = time.Millisecond * slowdown
	deadline = 700 * tick
	slack    = 1000 * tick // of a busy machine
	failover = 1000 * tick * slowdown
)

// fine are the scripts that a reader copes with though there is no other origin.
var fine = []string{"Range ignored", "closed after each answer", "rubbish between answers", "longer than its length", "trailer without end"}

// kinds are the errors of a fetch from this origin alone, where that is not Backend.
var kinds = map[string]fault.Kind{
	"404": fault.NotFound, "410": fault.NotFound,
	"1xx flood": fault.Backend, "1xx trickle": fault.Timeout, "101 switching protocols": fault.Backend,
	"redirect to a dead host": fault.Unavailable,
	"header drips":            fault.Timeout, "slow drip": fault.Timeout,
	"stall before the header": fault.Timeout, "stall after the header": fault.Timeout, "stall in the body": fault.Timeout, "stall at the last byte": fault.Timeout,
	"accepted and never read": fault.Timeout, "TLS handshake stalls": fault.Timeout, "HTTP/2 stalls": fault.Timeout,
	"reset before the header": fault.Unavailable, "reset after the header": fault.Unavailable, "reset in the body": fault.Unavailable, "accepted and reset": fault.Unavailable,
	"closed before the header": fault.Unavailable, "truncated": fault.Unavailable, "truncated, no length": fault.Unavailable, "accepted and closed": fault.Unavailable,
	"HTML with 206": fault.Corrupt, "zeros": fault.Corrupt, "a bit flipped here and there": fault.Corrupt, "bytes swapped": fault.Corrupt,
	"another part of the file": fault.Corrupt, "the version before": fault.Corrupt, "another file of the same length": fault.Corrupt,
	"chunks without end": fault.Corrupt, "chunk of 16 EiB": fault.Corrupt, "HTTP/2 REFUSED_STREAM": fault.Timeout, "HTTP/2 rubbish": fault.Unavailable, "body without end": fault.Corrupt,
}

func open(t testing.TB, certs *evilorigin.Certs, timing origin.Timing, servers ...*evilorigin.Server) *origin.Set {
	t.Helper()
	var cfgs []origin.Config
	for _, s := range servers {
		c := origin.Config{URL: s.URL, Username: "node", Password: "s3cr3t-word"}
		if strings.HasPrefix(s.URL, "https:") {
			c.CA = certs.CA
		}
		cfgs = append(cfgs, c)
	}
	set, err := origin.New(cfgs, origin.Options{Timing: timing})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := set.Close(); err != nil {
			t.Error(err)
		}
	})
	return set
}

// at once does everything that a reader asks for, each by a goroutine and with the deadline, and gives the errors and how long the slowest took.
func atOnce(t testing.TB, things map[string]wish, set *origin.Set, limit time.Duration) (map[string]error, time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var mu sync.Mutex
	var work sync.WaitGroup
	errs := map[string]error{}
	began := time.Now()
	for name, do := range things {
		work.Go(func() {
			err := do(ctx, set)
			mu.Lock()
			errs[name] = err
			mu.Unlock()
		})
	}
	work.Wait()
	return errs, time.Since(began)
}

// slowest keeps the longest of several times, and of what.
type slowest struct {
	mu   sync.Mutex
	took time.Duration
	what string
}

func (s *slowest) note(what string, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if took > s.took {
		s.took, s.what = took, what
	}
}

func (s *slowest) String() string {
	return fmt.Sprintf("%v (%s)", s.took.Round(time.Millisecond), s.what)
}

func TestEvilOrigins(t *testing.T) {
	certs := evilorigin.MakeCerts(t)
	st := newStore(t, 1)
	var past, over, back slowest
	scripts := evilorigin.Scripts()
	base := resources(t)
	t.Run("alone", func(t *testing.T) {
		for _, script := range scripts {
			t.Run(script.Name, func(t *testing.T) {
				t.Parallel()
				evil := evilorigin.Serve(t, st.files, certs, &script)
				set := open(t, certs, hasty, evil)
				past.note(script.Name, alone(t, st, set, script.Name))
				evil.Behave()
				back.note(script.Name, turned(t, st, set))
			})
		}
	})
	few := make(chan struct{}, 2) // what is measured is not how busy this test keeps the machine
	t.Run("beside a good one", func(t *testing.T) {
		for _, script := range scripts {
			t.Run(script.Name, func(t *testing.T) {
				t.Parallel()
				few <- struct{}{}
				defer func() { <-few }()
				both := open(t, certs, origin.Timing{}, evilorigin.Serve(t, st.files, certs, &script), evilorigin.Serve(t, st.files, certs, &evilorigin.Script{TLS: script.TLS}))
				over.note(script.Name, beside(t, st, both))
			})
		}
	})
	if t.Failed() {
		return
	}
	base.backTo(t)
	t.Logf("figure: %d evil origins; deadline of %v kept within %v; fail-over within %v; good again after %v", len(scripts), deadline, &past, &over, &back)
}

// alone asks the evil origin only: everything ends at its deadline, with an error that says what the origin did and no secret, or right.
func alone(t *testing.T, st *store, set *origin.Set, name string) time.Duration {
	t.Helper()
	errs, took := atOnce(t, st.most(), set, deadline)
	if timed && took > deadline+slack {
		t.Errorf("it took %v, %v beyond its deadline", took, took-deadline)
	}
	for what, err := range errs {
		if err != nil && (strings.Contains(err.Error(), "s3cr3t") || strings.Contains(err.Error(), "bm9kZTpzM2NyM3Q")) {
			t.Errorf("%s: the error shows the password: %v", what, err)
		}
		if err != nil && fault.Is(err, fault.Internal) {
			t.Errorf("%s: an error without a kind: %v", what, err)
		}
	}
	want, ok := kinds[name]
	if !ok {
		want = fault.Backend
	}
	err := errs["fetch"]
	switch {
	case !timed && fault.Is(err, fault.Timeout): // on a busy machine the clocks may be faster than the server
	case slices.Contains(fine, name) || strings.HasPrefix(name, "tag "):
		if err != nil {
			t.Errorf("fetch: %v", err)
		}
	case strings.HasPrefix(name, "404 every") || strings.HasPrefix(name, "401 403"): // as it happens
	case !fault.Is(err, want):
		t.Errorf("fetch gives an error of kind %s, not %s: %v", fault.KindOf(err), want, err)
	}
	if strings.HasPrefix(name, "tag ") && !fault.Is(errs["tag"], fault.Backend) {
		t.Errorf("tag gives %v", errs["tag"])
	}
	for _, h := range set.Health() {
		if strings.Contains(h.LastError, "s3cr3t") || h.Requests == 0 {
			t.Errorf("the health is %+v", h)
		}
	}
	return took - deadline
}

// turned asks again now that the origin is a good one: nothing sticks.
func turned(t *testing.T, st *store, set *origin.Set) time.Duration {
	t.Helper()
	errs, took := atOnce(t, st.most(), set, 30*time.Second)
	for what, err := range errs {
		if err != nil {
			t.Errorf("good again, %s: %v", what, err)
		}
	}
	return took
}

// beside asks the evil origin and a good one, with the timing that users have: everything is right, within a second.
func beside(t *testing.T, st *store, set *origin.Set) time.Duration {
	t.Helper()
	errs, took := atOnce(t, st.everything(), set, 30*time.Second)
	for what, err := range errs {
		if err != nil {
			t.Errorf("beside a good origin, %s: %v", what, err)
		}
	}
	if timed && took > failover {
		t.Errorf("fail-over took %v", took)
	}
	return took
}
