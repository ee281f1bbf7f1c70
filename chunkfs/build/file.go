package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	chunkers "github.com/PlakarKorp/go-cdc-chunkers"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/source"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// file is a regular file on its way through the stages.
type file struct {
	path   string
	node   *erofs.Node
	open   func() (source.Content, error)
	weight int64      // of its memory in the budget
	key    format.Sum // for the recall

	// Of a small one: its content, when read is closed; no data when only the digest is remembered.
	data []byte
	sum  format.Sum
	read chan struct{}

	// Of a large one: what it is made of, in order; closed at its end.
	pieces chan piece
	made   []part // the same, for the recall
}

// piece is a chunk of a large file, or zeros where content is nil. The last one goes on to the end of its block.
type piece struct {
	size    int64
	content *content
}

// reader reads files. It is used by one goroutine at a time, and kept for the next file.
type reader struct {
	contents *contents
	scan     scanner
	cut      *chunkers.Chunker
}

// readers keeps readers.
type readers struct {
	contents *contents
	recall   *recall
	cdc      *chunkers.ChunkerOpts
	pool     sync.Pool
}

func (rs *readers) get() (*reader, error) {
	if r, ok := rs.pool.Get().(*reader); ok {
		return r, nil
	}
	r := &reader{contents: rs.contents}
	// The version in the name is of the algorithm: what it cuts stays what it is, or no image would share chunks with the next.
	cut, err := chunkers.NewChunker("fastcdc-v1.0.0", &r.scan, rs.cdc)
	if err != nil {
		return nil, fmt.Errorf("make a chunker: %w", err)
	}
	r.cut = cut
	return r, nil
}

// do reads the file, whose consumers learn of its end when there is no error; else the context they have must end.
func (rs *readers) do(ctx context.Context, f *file) error {
	if err := rs.try(ctx, f); err != nil {
		return fmt.Errorf("%q: %w", f.path, err)
	}
	return nil
}

func (rs *readers) try(ctx context.Context, f *file) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	from, err := f.open()
	if err != nil {
		return err
	}
	if f.read != nil {
		err = rs.small(f, from)
	} else {
		err = rs.large(ctx, f, from)
	}
	// Close knows best why a file could not be read, when it changed.
	if closeErr := from.Close(); err == nil || fault.Is(closeErr, fault.BadState) {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if f.read != nil {
		close(f.read)
		return nil
	}
	close(f.pieces)
	rs.recall.note(f.key, memory{kind: largeFile, parts: f.made})
	return nil
}

// remember fills in what the file is made of without reading it, if that is remembered and the chunks are there.
func (rs *readers) remember(f *file) bool {
	if f.read != nil {
		parts, _, ok := rs.recall.find(f.key, smallFile)
		if !ok || len(parts) != 1 {
			return false
		}
		f.sum = parts[0].sum
		close(f.read)
		rs.recall.note(f.key, memory{kind: smallFile, parts: parts})
		return true
	}
	parts, _, ok := rs.recall.find(f.key, largeFile)
	if !ok {
		return false
	}
	pieces := make(chan piece, len(parts))
	for _, p := range parts {
		next := piece{size: p.size}
		if p.sum != (format.Sum{}) {
			if next.content, ok = rs.contents.recalled(p); !ok {
				return false
			}
		}
		pieces <- next
	}
	f.pieces = pieces
	close(f.pieces)
	rs.recall.note(f.key, memory{kind: largeFile, parts: parts})
	return true
}

// again reads a small file of which only the digest was remembered.
func (rs *readers) again(ctx context.Context, f *file) error {
	sum := f.sum
	f.read = make(chan struct{})
	if err := rs.do(ctx, f); err != nil {
		return err
	}
	if f.sum != sum {
		err := fault.New(fault.BadState, "%q is not what it was, and its times do not tell", f.path)
		return fault.Hintf(err, "build without what is remembered of earlier builds")
	}
	return nil
}

func (rs *readers) small(f *file, from source.Content) error {
	f.data = rs.contents.buffers.get(int(f.node.Size))[:f.node.Size]
	if n, err := io.ReadFull(from, f.data); err != nil {
		return shortContent(int64(n), f.node.Size, err)
	}
	f.sum = rs.contents.alg.Sum(f.data)
	return nil
}

func (rs *readers) large(ctx context.Context, f *file, from source.Content) error {
	r, err := rs.get()
	if err != nil {
		return err
	}
	defer rs.pool.Put(r)
	r.scan.reset(from, f.node.Size)
	defer func() { r.scan.from = nil }()
	for {
		zeros, more, err := r.scan.next()
		if err != nil {
			return err
		}
		if zeros > 0 {
			if err := f.send(ctx, piece{size: zeros}); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
		if err := r.run(ctx, f); err != nil {
			return err
		}
	}
}

// run cuts a run of data, which always begins a chunk: so files that are equal from there on have equal chunks.
func (r *reader) run(ctx context.Context, f *file) error {
	r.cut.Reset(&r.scan)
	for {
		plain, err := r.cut.Next()
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(plain) == 0 {
			return nil
		}
		c, contentErr := r.contents.of(ctx, plain)
		if contentErr != nil {
			return contentErr
		}
		if sendErr := f.send(ctx, piece{size: c.size, content: c}); sendErr != nil {
			return sendErr
		}
		if err != nil { // a chunk smaller than the least is the last
			return nil
		}
	}
}

func (f *file) send(ctx context.Context, p piece) error {
	if f.key != (format.Sum{}) {
		made := part{size: p.size}
		if p.content != nil {
			made.sum = p.content.sum
		}
		f.made = append(f.made, made)
	}
	select {
	case f.pieces <- p:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
