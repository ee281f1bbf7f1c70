// Package fault gives errors a stable kind, and a hint for the user, that survive wrapping.
//
// Inside windlass an error is wrapped with %w and says what was being done. Where the cause is understood it is given a Kind; the
// HTTP edge maps the kind to a status once, and nobody matches an error by its text.
package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Kind is a stable word for a class of errors. It is part of the API (field `kind` of the error object).
type Kind string

// The kinds, and the HTTP status that the edge gives each.
const (
	Invalid         Kind = "invalid"         // 400: the request cannot be right
	Unauthenticated Kind = "unauthenticated" // 401
	Forbidden       Kind = "forbidden"       // 403
	NotFound        Kind = "not_found"       // 404
	Exists          Kind = "exists"          // 409: the name is taken
	Busy            Kind = "busy"            // 409: somebody holds it
	BadState        Kind = "bad_state"       // 409: not in the state that this needs
	TooLarge        Kind = "too_large"       // 413
	Corrupt         Kind = "corrupt"         // 422: content is not what it should be, such as a digest that differs
	Throttled       Kind = "throttled"       // 429
	Internal        Kind = "internal"        // 500: anything else
	Unsupported     Kind = "unsupported"     // 501: no driver, or the kernel cannot
	Backend         Kind = "backend"         // 502: a server that we depend on answered badly
	Unavailable     Kind = "unavailable"     // 503: try again later
	Timeout         Kind = "timeout"         // 504: a deadline passed
)

// Error is an error with a kind.
type Error struct {
	Kind Kind
	Msg  string // the whole text, causes included
	Hint string // what the user can do; may be empty
	Err  error  // the cause, for errors.Is and As; its text is in Msg already
}

func (e *Error) Error() string { return e.Msg }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// New makes an error of a kind. A %w in the format wraps a cause.
func New(kind Kind, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Msg: err.Error(), Err: err}
}

// Hintf returns err with a hint for the user, keeping its kind. A nil err stays nil.
func Hintf(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: KindOf(err), Msg: err.Error(), Hint: fmt.Sprintf(format, args...), Err: err}
}

// KindOf gives the kind of the outermost Error in err's chain; a passed deadline is Timeout, a full file system Unavailable, anything
// else Internal.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return Timeout
	}
	if full(err) {
		return Unavailable
	}
	return Internal
}

// Is reports whether err is of the kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }

// HintOf gives the outermost hint in err's chain, or "". A full file system has one of its own.
func HintOf(err error) string {
	for next := err; next != nil; {
		var e *Error
		if !errors.As(next, &e) {
			break
		}
		if e.Hint != "" {
			return e.Hint
		}
		next = e.Err
	}
	if full(err) {
		return "a file system of this node is full: make room on it (df -h, df -i) and try again"
	}
	return ""
}

// full reports whether a file system had no room for a file, or a quota was used up. It can happen at any write, so it is understood
// here once. Only errors of files count: mount(2) and clone(2) mean other limits by the same number.
func full(err error) bool {
	var path *os.PathError
	var link *os.LinkError
	if !errors.As(err, &path) && !errors.As(err, &link) {
		return false
	}
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
