// Package format is what a chunkfs image looks like in bytes: manifest, index, chunks, traces, and where each lies in a store.
// docs/chunkfs/format.md specifies it. The metadata, which is EROFS, has a package of its own.
//
// Every parser here takes hostile input: it is bounded before it allocates, refuses what it does not know, and is fuzzed.
package format

// Version is of the format as a whole; a reader refuses every other.
const Version = 1

// Blob is content in a store, named by the digest of its stored bytes.
type Blob struct {
	Digest Digest `json:"digest"`
	Size   int64  `json:"size"`  // stored
	Plain  int64  `json:"plain"` // after decoding
	Codec  Codec  `json:"codec"`
}

// Manifest names what makes up an image. Its canonical bytes have the digest that is the image's name.
type Manifest struct {
	Version   int       `json:"version"`
	Algorithm Algorithm `json:"algorithm"` // of every digest below it
	Metadata  Blob      `json:"metadata"`  // EROFS, without data
	Index     Blob      `json:"index"`
	Device    int64     `json:"device"` // bytes of the data device
	Files     int64     `json:"files"`  // inodes
	Data      int64     `json:"data"`   // plain bytes of regular files, each inode once, holes aside
	Stored    int64     `json:"stored"` // bytes of all its chunks as stored, each once
	// Labels are free words of the builder, such as source=debian:12. Sorted by key when encoded.
	Labels map[string]string `json:"labels,omitempty"`
}

// Trace is what a start of an image read, in order. It is a hint only: what it names and the image does not have is passed over.
type Trace struct {
	Version int      `json:"version"`
	Image   Digest   `json:"image"` // the manifest it was recorded on
	Role    string   `json:"role"`  // such as boot
	Chunks  []Sum    `json:"chunks"`
	Paths   []string `json:"paths"` // of the files, for laying out the next version; not valid UTF-8 is quoted as in Go
}
