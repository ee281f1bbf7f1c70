package image

import (
	"context"

	"github.com/windlass-hpc/windlass/chunkfs/store"
)

// Check checks a store in a directory, or some images of it, and mends it from another store, a directory or URL, when from is not empty.
// See store.Check.
func Check(ctx context.Context, dir, from string, o store.CheckOptions) (*store.CheckReport, error) {
	s, err := store.OpenDamaged(dir)
	if err != nil {
		return nil, err
	}
	if from != "" {
		peer, err := openPeer(from)
		if err != nil {
			return nil, err
		}
		defer peer.Close()
		o.Peer = peer
	}
	return s.Check(ctx, o)
}
