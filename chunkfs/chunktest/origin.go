package chunktest

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/origin"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// Origin is an origin.Fetcher over the packs of images in memory.
type Origin struct {
	// Before is called at the start of every Fetch, if it is set; an error ends the Fetch.
	Before func(ctx context.Context, f origin.Fetch) error
	// Twist may change what is delivered of a chunk at an offset of a pack. What it gives is delivered in its place; when that is
	// refused as corrupt, the right bytes follow, as from another origin, unless Stubborn.
	Twist    func(f origin.Fetch, piece int, stored []byte) []byte
	Stubborn bool

	Fetches atomic.Int64
	Pieces  atomic.Int64
	Bytes   atomic.Int64 // with what lies between the pieces

	mu   sync.Mutex
	runs [][]origin.Piece

	packs map[format.Sum][]byte
}

var _ origin.Fetcher = (*Origin)(nil)

// NewOrigin has what the images are made of.
func NewOrigin(images ...*Image) *Origin {
	o := &Origin{packs: map[format.Sum][]byte{}}
	for _, i := range images {
		for sum, pack := range i.Packs {
			o.packs[sum] = pack
		}
	}
	return o
}

// Runs are the pieces of all fetches so far.
func (o *Origin) Runs() [][]origin.Piece {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.runs
}

// Fetch implements origin.Fetcher.
func (o *Origin) Fetch(ctx context.Context, _ format.Algorithm, f origin.Fetch) error {
	o.Fetches.Add(1)
	o.mu.Lock()
	o.runs = append(o.runs, f.Pieces)
	o.mu.Unlock()
	if o.Before != nil {
		if err := o.Before(ctx, f); err != nil {
			return err
		}
	}
	pack := o.packs[f.Pack.Sum]
	if int64(len(pack)) != f.Pack.Size {
		return fault.New(fault.NotFound, "no pack %s of %d bytes", f.Pack.Sum, f.Pack.Size)
	}
	last := f.Pieces[len(f.Pieces)-1]
	o.Bytes.Add(last.Offset + last.Size - f.Pieces[0].Offset)
	for i, p := range f.Pieces {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := o.deliver(f, i, pack[p.Offset:p.Offset+p.Size]); err != nil {
			return err
		}
	}
	return nil
}

func (o *Origin) deliver(f origin.Fetch, i int, stored []byte) error {
	o.Pieces.Add(1)
	if o.Twist != nil {
		err := f.Deliver(i, o.Twist(f, i, append([]byte(nil), stored...)))
		if !fault.Is(err, fault.Corrupt) || o.Stubborn {
			return err
		}
	}
	return f.Deliver(i, stored)
}

// Tag implements origin.Fetcher.
func (o *Origin) Tag(context.Context, string) (format.Digest, error) {
	return format.Digest{}, fault.New(fault.NotFound, "no tags here")
}

// Blob implements origin.Fetcher.
func (o *Origin) Blob(context.Context, format.Digest, int64) ([]byte, error) {
	return nil, fault.New(fault.NotFound, "no blobs here")
}

// Trace implements origin.Fetcher.
func (o *Origin) Trace(context.Context, format.Digest, string) ([]byte, error) {
	return nil, fault.New(fault.NotFound, "no traces here")
}

// Health implements origin.Fetcher.
func (o *Origin) Health() []origin.Health { return nil }

// Close implements origin.Fetcher.
func (o *Origin) Close() error { return nil }
