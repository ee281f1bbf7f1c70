package login

import (
	"errors"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// MaxRedirects is how often a target may send us elsewhere before that is an error.
const MaxRedirects = 4

// Redirected says where to, when err says that the target is elsewhere.
func Redirected(err error) (Portal, bool) {
	var r *RedirectError
	if !errors.As(err, &r) {
		return Portal{}, false
	}
	return r.Portal, true
}

// TooFar is the error for a target that sends us from place to place.
func TooFar() error {
	err := fault.New(fault.Backend, "the target sends us elsewhere %d times", MaxRedirects)
	return fault.Hintf(err, "the redirections at the target may go round in a circle")
}
