//go:build race

package origin_test

// slowdown is what the race detector and the other tests beside this one cost: times are told as they are, and allowed to be longer.
const slowdown = 2
