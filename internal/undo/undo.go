// Package undo is a LIFO stack of what takes back what was done.
//
//	var u undo.Stack
//	defer func() { err = u.Unwind(ctx, err) }()
//	…
//	u.Push("unmount the upper", func(ctx context.Context) error { … })
//
// Unwind does nothing when err is nil.
package undo

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Timeout bounds an unwinding, which runs on a context of its own: the one that asked may have gone.
const Timeout = 30 * time.Second

type entry struct {
	what string
	fn   func(context.Context) error
}

// Stack is used by one goroutine.
type Stack struct{ entries []entry }

// Push adds what takes back the step just done; what says it for the error message.
func (s *Stack) Push(what string, fn func(context.Context) error) {
	s.entries = append(s.entries, entry{what, fn})
}

// Unwind runs the entries, last first, when err is not nil, and returns err joined with what failed on the way. Values of ctx are
// kept, its end is not.
func (s *Stack) Unwind(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), Timeout)
	defer cancel()
	errs := []error{err}
	for i := len(s.entries) - 1; i >= 0; i-- {
		e := s.entries[i]
		if uerr := e.fn(ctx); uerr != nil {
			errs = append(errs, fmt.Errorf("undo: %s: %w", e.what, uerr))
		}
	}
	s.entries = nil
	if len(errs) == 1 {
		return err
	}
	return errors.Join(errs...)
}
