//go:build !race

package evilorigin_test

// For a build with the race detector these are others.
const (
	slowdown = 1
	timed    = true
)
