// Package control is how the daemon speaks with the chunkfs server: JSON over HTTP on a unix socket that is root's alone.
//
// It owns the messages, the client, and the start of the keeper; never a mount.
package control

import (
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/origin"
)

// Mode is how the kernel gets at an image.
type Mode string

// The modes of docs/ARCHITECTURE.md.
const (
	Auto   Mode = "auto"
	Direct Mode = "direct" // kernel EROFS on the cache's own files; the image is complete and verified
	Lazy   Mode = "lazy"   // kernel EROFS on a file that the server serves by FUSE
	FUSE   Mode = "fuse"   // a FUSE file system
)

// Prefetch is what is fetched before anybody asks.
type Prefetch string

// The choices.
const (
	PrefetchNone  Prefetch = "none"
	PrefetchTrace Prefetch = "trace" // what the trace of Role names
	PrefetchAll   Prefetch = "all"   // that, and then the rest in the background
)

// Open asks the server for an image: PUT /v1/mounts/{id}. The same Open again gets the same answer.
type Open struct {
	// Order names this order alone, at random, so that it can be revoked while it is on its way; "" cannot. It is no part of what is asked.
	Order     string          `json:"order,omitempty"`
	ID        string          `json:"id"`               // of the mount, such as 12
	Target    string          `json:"target"`           // the mountpoint; in mode FUSE the server mounts there
	Image     string          `json:"image"`            // a tag or a digest
	Digest    string          `json:"digest,omitempty"` // what a tag must turn out to be
	Origins   []origin.Config `json:"origins"`
	Mode      Mode            `json:"mode"`
	Verify    bool            `json:"verify"`
	Prefetch  Prefetch        `json:"prefetch"`
	Role      string          `json:"role"`
	Bandwidth int64           `json:"bandwidth"` // bytes a second of Background; 0 is no cap
	Pin       bool            `json:"pin"`
	// Kernel says what the kernel can do with EROFS, found out by the driver: "file" (file-backed mounts), "loop", or "" (no EROFS).
	Kernel string `json:"kernel"`
}

// Opened is the answer: what to mount. In mode FUSE it is mounted already.
type Opened struct {
	Image    format.Digest `json:"image"`
	Mode     Mode          `json:"mode"`
	Metadata string        `json:"metadata"` // path of the EROFS metadata, a regular file
	Device   string        `json:"device"`   // path of the data device, a regular file: the cache's own, or one served by FUSE
}

// Stats is what one mount has done: GET /v1/mounts/{id}. Bytes are of the data device, plain, where nothing else is said.
type Stats struct {
	Image         format.Digest   `json:"image"`
	Mode          Mode            `json:"mode"`
	Size          int64           `json:"size"`          // of the data device, holes aside
	Cached        int64           `json:"cached"`        // of it in the cache and verified
	Complete      bool            `json:"complete"`      // the origins are not needed any more
	Wanted        int64           `json:"wanted"`        // asked for by readers
	Served        int64           `json:"served"`        // given to readers
	Fetched       int64           `json:"fetched"`       // stored bytes that came from origins
	Shared        int64           `json:"shared"`        // copied from another image of the cache
	Amplification float64         `json:"amplification"` // stored bytes that came, to stored bytes of the chunks that readers wanted
	Hits          int64           `json:"hits"`          // reads answered without waiting
	Misses        int64           `json:"misses"`
	Errors        int64           `json:"errors"`
	Corrupt       int64           `json:"corrupt"` // chunks refused, whether another origin had them right or not
	Requests      int64           `json:"requests"`
	LastError     string          `json:"last_error,omitempty"` // names the chunk and the origin
	Latency       []Bucket        `json:"latency"`              // of reads
	LatencySum    float64         `json:"latency_sum"`          // seconds of all reads together; those that did not wait count as 0
	Prefetch      PrefetchState   `json:"prefetch"`
	Origins       []origin.Health `json:"origins"`
	RSS           int64           `json:"rss"`  // of the server, all mounts together
	Kept          bool            `json:"kept"` // a keeper holds the server's descriptors and would start it again
}

// Bucket counts what took at most Le seconds, and longer than the bucket before.
type Bucket struct {
	Le    float64 `json:"le"` // 0 in the last one: no limit
	Count int64   `json:"count"`
}

// PrefetchState is how far a prefetch is, in stored bytes.
type PrefetchState struct {
	State string `json:"state"` // none, trace, all, done
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
}

// File is what was read of one file: GET /v1/mounts/{id}/files.
type File struct {
	Path  string `json:"path"`
	Reads int64  `json:"reads"`
	Bytes int64  `json:"bytes"`
	First int64  `json:"first_ns"` // after the mount
}
