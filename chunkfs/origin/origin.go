// Package origin fetches from where images come from: directories and web servers, several at once, none of them trusted. It owns
// retries, back-off, fail-over, hedging, health and the bandwidth of the background. It keeps nothing.
package origin

import (
	"context"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/format"
)

// Config is one origin.
type Config struct {
	URL      string // http://, https://, file:///dir or an absolute path
	Username string
	Password string // Basic, with Username
	Token    string // Bearer
	CA       string // PEM of the authorities to trust beside the system's; empty is none more
}

// Class says how urgent a fetch is.
type Class int

// The classes, most urgent first.
const (
	Demand     Class = iota // a reader waits
	ReadAhead               // a reader will want it soon
	Background              // nobody waits; held to the bandwidth, and to what Demand leaves
)

// Piece is one stored chunk in a pack.
type Piece struct {
	Offset int64
	Size   int64
}

// Fetch is one run of neighbouring pieces of a pack: one request where all goes well.
type Fetch struct {
	Pack   format.Pack
	Pieces []Piece // in order of offset; small gaps between them are fetched too and dropped
	Class  Class
	// Raise, when not nil, makes the fetch one of class Demand as soon as it is closed: a reader has come to wait for it.
	Raise <-chan struct{}
	// Deliver takes the stored bytes of a piece as soon as they are there, from one goroutine at a time, each piece once, in any order.
	// An error of kind Corrupt counts against the origin, and the piece is fetched from another; any other error ends the fetch. The
	// bytes are the callee's until it returns.
	Deliver func(piece int, stored []byte) error
}

// Health is what is known of one origin.
type Health struct {
	URL       string        `json:"url"` // without what is secret
	Healthy   bool          `json:"healthy"`
	LastError string        `json:"last_error,omitempty"`
	Latency   time.Duration `json:"latency_ns"` // to the first byte, smoothed
	Requests  int64         `json:"requests"`
	Failures  int64         `json:"failures"`
	Corrupt   int64         `json:"corrupt"`
	Bytes     int64         `json:"bytes"` // of bodies, whatever became of them
}

// Fetcher is what the layers above want of a Set.
type Fetcher interface {
	// Tag gives the digest of the manifest that a tag names.
	Tag(ctx context.Context, name string) (format.Digest, error)
	// Blob gives a whole blob, at most limit bytes, and its digest has been checked.
	Blob(ctx context.Context, d format.Digest, limit int64) ([]byte, error)
	// Trace gives the trace of an image for a role, unchecked; an error of kind NotFound when there is none.
	Trace(ctx context.Context, image format.Digest, role string) ([]byte, error)
	// Fetch returns nil when every piece has been delivered. It goes on trying until ctx ends where another attempt can help.
	Fetch(ctx context.Context, algorithm format.Algorithm, f Fetch) error
	// Health lists the origins in the order of the configuration.
	Health() []Health
	Close() error
}
