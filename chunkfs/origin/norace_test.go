//go:build !race

package origin_test

// slowdown is for a build with the race detector.
const slowdown = 1
