// Package step runs one side effect at a time: it times it for the object's timeline and makes it a point where tests can kill, fail
// or hang the daemon.
//
// Every change that windlass makes to the node goes through Do, so that the crash tests find every one of them without a list.
package step

import (
	"context"
	"time"

	"github.com/windlass-hpc/windlass/internal/failpoint"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// Step is what a Recorder learns.
type Step struct {
	Stage    string // what is done, as `driver.verb`
	Started  time.Time
	Duration time.Duration
	Bytes    int64 // moved so far; 0 when the step moves none
	Total    int64 // to be moved; 0 when not known
	Err      error
	Hint     string
}

// Recorder keeps the steps of one object. It is used by one operation at a time, from any goroutine.
type Recorder interface {
	// Begin starts a step; the answer is given to the other two.
	Begin(stage string) (token int)
	// Progress says how far a long step is.
	Progress(token int, bytes, total int64)
	// End closes the step.
	End(token int, err error, hint string)
}

type key struct{}

type tokenKey struct{}

// With gives ctx a recorder.
func With(ctx context.Context, r Recorder) context.Context { return context.WithValue(ctx, key{}, r) }

// Do runs fn, the side effect named stage, such as "loopback.configure". It does not run fn when ctx has ended.
func Do(ctx context.Context, stage string, fn func(ctx context.Context) error) error {
	r, _ := ctx.Value(key{}).(Recorder)
	if r == nil {
		return run(ctx, stage, fn)
	}
	token := r.Begin(stage)
	err := run(context.WithValue(ctx, tokenKey{}, token), stage, fn)
	r.End(token, err, fault.HintOf(err))
	return err
}

// Progress tells the recorder of the step that ctx was given to how many bytes it has moved, of how many (0: not known).
func Progress(ctx context.Context, bytes, total int64) {
	r, _ := ctx.Value(key{}).(Recorder)
	token, ok := ctx.Value(tokenKey{}).(int)
	if r != nil && ok {
		r.Progress(token, bytes, total)
	}
}

func run(ctx context.Context, stage string, fn func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := failpoint.Hit(ctx, stage+":before"); err != nil {
		return err
	}
	if err := fn(ctx); err != nil {
		return err
	}
	return failpoint.Hit(ctx, stage+":after")
}
