// Package lazy makes the data device of an image readable before it is there: it gives what the cache has, fetches what it does not,
// verifies all of it, and decides what to fetch ahead.
//
// It owns the life of a chunk between origin and cache, and no descriptor of FUSE.
package lazy
