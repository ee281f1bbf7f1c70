// Package storage tests containers on storage of the network through the whole daemon: RBD, iSCSI and NFS on real servers, in a guest whose
// kernel has the modules. test/lab/run.sh ./test/storage runs it; `make lab RUN=TestSchemes/rbd-squashfs` runs one scheme.
//
// What it posts are the definitions of the documentation, with addresses put right; what it asserts is what a user sees: what a container
// reads and writes, how soon the API answers whatever hangs, what an object says of itself, and that nothing is left on the node or on the
// servers.
package storage
