// Package keeper holds the descriptors of the chunkfs server while no server runs, and starts the server again when it dies. It is part of
// windlass-shim and knows nothing of images: it depends on the standard library and x/sys alone.
//
// A server started by the keeper inherits a seqpacket socket as descriptor 3. On it the server stores and drops descriptors by name; at a
// start the keeper first sends all that are stored.
package keeper
