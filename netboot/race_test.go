//go:build race

package netboot

// raced says that the race detector is on, which takes memory several times over.
const raced = true
