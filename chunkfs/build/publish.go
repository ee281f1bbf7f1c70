package build

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/store"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// How hard zstd tries. Every mount fetches the metadata, whole; the index is digests, which nothing makes smaller.
const (
	metaLevel  = 12
	indexLevel = 3
)

// publish stores index, metadata and manifest, and then sets the tag.
func publish(ctx context.Context, st *store.Store, txn *store.Txn, b *built, o Options) (Result, error) {
	m := &format.Manifest{Version: format.Version, Algorithm: o.Algorithm, Device: b.placer.device, Stored: b.placer.stored, Labels: o.Labels}
	m.Files, m.Data = count(b.root)
	var err error
	if m.Index, err = putIndex(ctx, txn, b.placer); err != nil {
		return Result{}, err
	}
	if m.Metadata, err = putMetadata(ctx, txn, b.root, m); err != nil {
		return Result{}, err
	}
	encoded, err := m.Encode()
	if err != nil {
		return Result{}, err
	}
	r := Result{Manifest: m, Files: m.Files, Plain: m.Data, Device: m.Device, Stored: m.Stored, New: b.placer.packs.added()}
	r.Chunks, r.Reused, r.NewChunks = int64(len(b.placer.chunks)), b.placer.reused, b.placer.newChunks
	if _, err := st.Manifest(o.Algorithm.Of(encoded)); fault.Is(err, fault.NotFound) {
		r.New += m.Index.Size + m.Metadata.Size + int64(len(encoded))
	}
	if r.Image, err = txn.Put(ctx, encoded, o.Algorithm); err != nil {
		return Result{}, fmt.Errorf("store the manifest: %w", err)
	}
	if err := txn.Tag(ctx, o.Tag, r.Image); err != nil {
		return Result{}, err
	}
	r.Recall = b.recall.save(ctx)
	return r, nil
}

func putIndex(ctx context.Context, txn *store.Txn, p *placer) (format.Blob, error) {
	x := &format.Index{Algorithm: p.alg, DeviceSize: p.device, Chunks: p.chunks, Extents: p.extents}
	x.Packs = p.packs.number(x.Chunks)
	plain, err := x.Encode()
	if err != nil {
		return format.Blob{}, err
	}
	return put(ctx, txn, p.alg, indexLevel, "the index", func(w io.Writer) error {
		_, err := w.Write(plain)
		return err
	})
}

// putMetadata gives the file system an identity that follows from its content, so that it is the same for the same source.
func putMetadata(ctx context.Context, txn *store.Txn, root *erofs.Node, m *format.Manifest) (format.Blob, error) {
	eo := erofs.Options{DeviceSize: m.Device}
	copy(eo.UUID[:], m.Index.Digest.Sum[:])
	eo.UUID[6] = eo.UUID[6]&0x0f | 0x80 // version 8 of RFC 9562: made as the maker likes
	eo.UUID[8] = eo.UUID[8]&0x3f | 0x80
	return put(ctx, txn, m.Algorithm, metaLevel, "the metadata", func(w io.Writer) error {
		_, err := erofs.Write(w, root, eo)
		return err
	})
}

func put(ctx context.Context, txn *store.Txn, alg format.Algorithm, level int, what string, write func(io.Writer) error) (format.Blob, error) {
	b, stored, err := format.EncodeBlob(alg, level, write)
	if err != nil {
		return b, fmt.Errorf("encode %s: %w", what, err)
	}
	if _, err := txn.Put(ctx, stored, alg); err != nil {
		return b, fmt.Errorf("store %s: %w", what, err)
	}
	return b, nil
}

// count counts inodes, and the bytes of regular files without their holes.
func count(root *erofs.Node) (files, data int64) {
	seen := map[*erofs.Node]bool{root: true}
	for todo := []*erofs.Node{root}; len(todo) > 0; {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		files++
		if n.Mode&unix.S_IFMT == unix.S_IFREG {
			data += int64(len(n.Data))
			for _, e := range n.Extents {
				data += e.Size
			}
		}
		for _, e := range n.Entries {
			if !seen[e.Node] {
				seen[e.Node] = true
				todo = append(todo, e.Node)
			}
		}
	}
	return files, data
}
