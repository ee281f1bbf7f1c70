// Package rbd publishes images to a Ceph cluster as RBD images, lists and removes them: the side of the administrator. Nodes need nothing of
// it: they map images by their kernel (attach/rbd).
//
// What reaches the cluster is built with the tag `ceph`, with cgo and librbd, and is used by windlass-ceph alone; names, what is kept with an
// image, and the reading of the file are built always.
//
// An image never looks finished before it is. It is written under a name of its own, its content is read back and compared, a snapshot
// is made and protected, and only then it gets the name that nodes know. One that is replaced is renamed, not removed: the cluster cannot
// tell who reads an image, for the kernel announces only those who write (Linux 5.5 and later set no watch for read-only mappings).
package rbd
