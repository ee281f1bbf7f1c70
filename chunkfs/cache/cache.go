// Package cache keeps the images of a node on its disk, or in its tmpfs: for each its manifest, index, metadata, and the data device as a
// sparse file that fills as chunks come. Chunks that two images share are fetched once and copied from one to the other.
//
// Nothing found at start is trusted: a chunk is verified the first time that it is used. The cache knows nothing of origins.
package cache

import (
	"errors"
)

// ErrFull says that there is no room: the caller serves the chunk from memory.
var ErrFull = errors.New("the chunk cache is full")

// State is what the cache knows of one extent of an image.
type State uint8

// The states.
const (
	Missing State = iota
	Suspect       // it may be there, from before this process; verify it
	Good          // it is there and was verified in this process
)
