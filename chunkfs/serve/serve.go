// Package serve is the chunkfs server: one process for all chunkfs mounts of a node, a child of the keeper.
//
// It serves FUSE, answers the daemon on its control socket, and after a crash takes up what its predecessor left.
package serve
