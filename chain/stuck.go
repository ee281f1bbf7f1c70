package chain

import (
	"fmt"
	"strings"
)

// isStuck reports whether an error names something that does not answer.
func isStuck(text string) bool { return strings.HasPrefix(text, stuckPrefix) }

// stuckPrefix begins what an object, an event or an answer says of something that does not answer.
const stuckPrefix = "stuck: "

// about wraps an error of a driver. What is stuck stays recognizable by how its text begins.
func about(o *object, kind string, err error) error {
	rest, ok := strings.CutPrefix(err.Error(), stuckPrefix)
	if !ok {
		return fmt.Errorf("%s (%s): %w", o, kind, err)
	}
	return &stuckError{fmt.Sprintf("%s%s (%s): %s", stuckPrefix, o, kind, rest), err}
}

// stuckError has a text of its own for an error that it wraps.
type stuckError struct {
	text string
	err  error
}

func (e *stuckError) Error() string { return e.text }
func (e *stuckError) Unwrap() error { return e.err }
