// Package build turns a source into an image in a store: it cuts the data device into chunks, stores those that the store does not
// have, and writes index, metadata and manifest; the tag comes last. It never holds the content of a file in memory as a whole, unless
// the file is small.
//
// The work goes through three stages, each in the order of the walk, so that the image does not depend on how many readers there are:
//
//   - read: files are read, cut into chunks and hashed, several at once; chunks that nobody has are given to compressors
//   - lay: small files are gathered into groups, of which each will be one chunk; files equal to earlier ones are found
//   - place: chunks get their place on the device and, when they are new, in a pack
//
// It owns nothing in the store but a transaction: a build that fails or is cancelled leaves what gc removes.
package build

import (
	"context"
	"fmt"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/source"
	"github.com/windlass-hpc/windlass/chunkfs/store"
)

// Result says what a build made.
type Result struct {
	Image     format.Digest    // of the manifest
	Manifest  *format.Manifest // as stored
	Files     int64            // inodes
	Plain     int64            // bytes of regular files, each inode once, holes aside
	Device    int64            // bytes of the data device
	Stored    int64            // bytes of the image's chunks as stored, each once
	New       int64            // bytes that the build added to the store: packs, index, metadata, manifest
	Chunks    int64            // different ones in the image
	Reused    int64            // of them, those that the store had
	NewChunks int64            // of them, those that it had not
	Recall    error            // why Options.Recall could not be written; the image is published all the same
	Took      time.Duration
}

// Progress is how far a build has come.
type Progress struct {
	Files int64 // regular files done
	Plain int64 // bytes of theirs, holes included
	New   int64 // bytes added to the store
	Read  int64 // of the source's input, and
	Total int64 // how much there will be of it: 0 when not known, and of a directory growing until its walk ends
}

// Build reads src, which the caller closes, and publishes it in st under o.Tag. Of the errors those of the source keep their kind;
// Invalid: the options cannot be, or the tree cannot be an image.
func Build(ctx context.Context, src source.Source, st *store.Store, o Options) (Result, error) {
	began := time.Now()
	o, err := o.complete()
	if err != nil {
		return Result{}, err
	}
	txn, err := st.Begin(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("build an image: %w", err)
	}
	defer txn.End()
	known, err := txn.Known(ctx, o.Algorithm)
	if err != nil {
		return Result{}, fmt.Errorf("build an image: %w", err)
	}
	c, err := readContent(ctx, src, txn, known, o)
	if err != nil {
		return Result{}, fmt.Errorf("build an image: %w", err)
	}
	r, err := publish(ctx, st, txn, c, o)
	if err != nil {
		return Result{}, fmt.Errorf("build an image: %w", err)
	}
	r.Took = time.Since(began)
	return r, nil
}
