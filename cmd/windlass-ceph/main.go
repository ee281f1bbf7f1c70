//go:build ceph

// windlass-ceph publishes images to a Ceph cluster, lists and removes them. It is for administrators: nodes need nothing of it.
//
// It is a program of its own since it needs cgo and Ceph's libraries: `make ceph`.
package main

import (
	"os"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr, os.LookupEnv)) }
