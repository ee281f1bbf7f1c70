//go:build race

package evilorigin_test

// slowdown is what the race detector and the other tests beside this one cost. Times are told as they are, and not held against anybody: those
// who run without it, and with nothing beside them, do that.
const (
	slowdown = 2
	timed    = false
)
