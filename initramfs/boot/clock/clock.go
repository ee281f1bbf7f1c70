// Package clock sets the clock of a node well enough for certificates to be judged: from time servers, or from what a web server says.
//
// It sets it once, forward, to a time that can be true. It does not keep it: what runs in the image may.
package clock

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// Config says whom to ask.
type Config struct {
	Servers []string // of NTP: HOST or HOST:PORT; all are asked at once
	URLs    []string // http or https, asked when no server answers; only the date in the answer counts
	// Timeout bounds asking the servers, and asking each URL.
	Timeout time.Duration

	// Now and Set are for tests; nil is the clock of the kernel. Now must count on while it is not set.
	Now func() time.Time
	Set func(time.Time) error
}

// Result is what came of it.
type Result struct {
	From string        // who told the time
	Off  time.Duration // by how much the clock was behind; negative: ahead
	Set  bool
}

// near is how far off the clock may be without being set.
const near = 500 * time.Millisecond

// lifetime is how long this program may be used before its idea of the time is too old.
const lifetime = 40 * 365 * 24 * time.Hour

// Floor is a time that has passed for certain: that of the last change to this program.
func Floor() time.Time {
	floor := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if t, err := time.Parse(time.RFC3339, s.Value); s.Key == "vcs.time" && err == nil && t.After(floor) {
				floor = t
			}
		}
	}
	return floor
}

// Plausible says whether it can be that late, or early.
func Plausible(t time.Time) bool {
	floor := Floor()
	return t.After(floor.Add(-24*time.Hour)) && t.Before(floor.Add(lifetime))
}

// Adjust asks for the time and sets the clock. A clock that can be right is only set forward: one that is ahead is left, for others have
// seen its time already. When nobody tells the time and the clock says one that has passed for certain, it is set to Floor, which most
// certificates take; the error says that this is no answer, and Result that the clock was set.
func Adjust(ctx context.Context, c Config) (Result, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Set == nil {
		c.Set = set
	}
	r, err := ask(ctx, c)
	now := c.Now()
	there := now.Add(r.Off)
	switch {
	case err != nil:
		return c.floor(err)
	case !Plausible(there):
		return c.floor(fmt.Errorf("%s says that it is %s, which cannot be", r.From, there.UTC().Format(time.RFC3339)))
	case r.Off.Abs() <= near, r.Off < 0 && Plausible(now):
		return r, nil
	}
	r.Set = true
	return r, c.Set(there)
}

// floor sets a clock that is behind all that can be to the least that can.
func (c Config) floor(why error) (Result, error) {
	r := Result{From: "the program", Off: Floor().Sub(c.Now())}
	if r.Off < 24*time.Hour { // what Plausible allows
		return Result{}, why
	}
	err := c.Set(Floor())
	r.Set = err == nil
	return r, errors.Join(why, err)
}

func set(t time.Time) error {
	ts := unix.NsecToTimespec(t.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("set the clock: %w", err)
	}
	return nil
}

// ask gives the first good answer.
func ask(ctx context.Context, c Config) (Result, error) {
	var errs []error
	if len(c.Servers) > 0 {
		r, err := first(ctx, c)
		if err == nil {
			return r, nil
		}
		errs = append(errs, err)
	}
	for _, u := range c.URLs {
		r, err := web(ctx, c, u)
		if err == nil {
			return r, nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return Result{}, errors.New("there is nobody to ask: name a time server with windlass.ntp=HOST, or in DHCP (option 42)")
	}
	return Result{}, errors.Join(errs...)
}

// first asks all servers at once.
func first(ctx context.Context, c Config) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	type answer struct {
		Result
		err error
	}
	answers := make(chan answer, len(c.Servers))
	for _, s := range c.Servers {
		go func() {
			off, err := sntp(ctx, s, c.Now)
			answers <- answer{Result{From: s, Off: off}, err}
		}()
	}
	var errs []error
	for range c.Servers {
		a := <-answers
		if a.err == nil {
			return a.Result, nil
		}
		errs = append(errs, a.err)
	}
	return Result{}, errors.Join(errs...)
}
