//go:build ceph

package rbd

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/ceph/go-ceph/rbd"
	"golang.org/x/sync/errgroup"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// writer writes one image, under a name that says so.
type writer struct {
	pool *pool
	src  *source
	o    PublishOptions
	part string
	img  *rbd.Image

	mu      sync.Mutex // of what follows, and of o.Progress
	done    int64
	written int64
}

func (w *writer) close() error {
	err := w.img.Close()
	if errors.Is(err, rbd.ErrImageNotOpen) {
		return nil
	}
	return failed(err, "close %v", w.pool.name.named(w.part))
}

// write reads the file once, in its order, and writes what is no zeros, several pieces at the same time.
func (w *writer) write(ctx context.Context) error {
	buffers := make(chan []byte, w.o.Jobs)
	for range w.o.Jobs {
		buffers <- make([]byte, w.o.ObjectSize)
	}
	w.o.Progress(Progress{Stage: "writing", Total: w.src.length})
	g, going := errgroup.WithContext(ctx)
	var readErr error
	for at := range pieces(going, w.src.length, int64(w.o.ObjectSize)) {
		buf := <-buffers
		n, err := w.src.read(at, buf)
		if err != nil {
			readErr = err
			break
		}
		g.Go(func() error {
			defer func() { buffers <- buf }()
			return w.piece(at, buf[:n])
		})
	}
	if err := errors.Join(g.Wait(), readErr); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return failed(w.img.Flush(), "write %v", w.pool.name.named(w.part))
}

func (w *writer) piece(at int64, p []byte) error {
	var written int64
	for off, part := range stretches(p) {
		if _, err := w.img.WriteAt(part, at+int64(off)); err != nil {
			return failed(err, "write %v at %d", w.pool.name.named(w.part), at+int64(off))
		}
		written += int64(len(part))
	}
	w.advance("writing", int64(len(p)), written)
	return nil
}

func (w *writer) advance(stage string, done, written int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done += done
	w.written += written
	w.o.Progress(Progress{Stage: stage, Done: w.done, Total: w.src.length, Written: w.written})
}

// got is one piece of the image, read back.
type got struct {
	data []byte
	err  error
}

// verify reads the image back, several pieces at the same time, and compares its digest with that of the file.
func (w *writer) verify(ctx context.Context) error {
	w.done = 0
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	name, size := w.pool.name.named(w.part), int64(w.src.size())
	coming := make(chan chan got, w.o.Jobs)
	go func() {
		defer close(coming)
		for at := range pieces(ctx, size, int64(w.o.ObjectSize)) {
			one := make(chan got, 1)
			select {
			case coming <- one:
			case <-ctx.Done():
				return
			}
			go func() { one <- w.readBack(at, min(int64(w.o.ObjectSize), size-at)) }()
		}
	}()
	sum, left := sha256.New(), w.src.length
	for one := range coming {
		g := <-one
		if g.err != nil {
			w.drain(cancel, coming)
			return g.err
		}
		content := g.data[:min(int64(len(g.data)), left)]
		sum.Write(content)
		left -= int64(len(content))
		for _, b := range g.data[len(content):] {
			if b != 0 {
				w.drain(cancel, coming)
				return fault.New(fault.Corrupt, "verify %v: it holds something beyond the end of the file", name)
			}
		}
		w.advance("verifying", int64(len(content)), 0)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if read, want := digestOf(sum), w.src.digest(); read != want {
		err := fault.New(fault.Corrupt, "verify %v: the cluster gives back other bytes than were written: %s, not %s", name, read, want)
		return fault.Hintf(err, "look for failing disks in the cluster (`ceph health detail`) and failing memory in this machine, then publish again")
	}
	return nil
}

// drain waits for the reads that are under way: the image must not be closed under them.
func (w *writer) drain(cancel func(), coming chan chan got) {
	cancel()
	for one := range coming {
		<-one
	}
}

func (w *writer) readBack(at, n int64) got {
	buf := make([]byte, n)
	read, err := w.img.ReadAt(buf, at)
	if err != nil {
		return got{err: failed(err, "read back %v at %d", w.pool.name.named(w.part), at)}
	}
	if int64(read) != n {
		return got{err: fmt.Errorf("read back %v at %d: %d bytes of %d", w.pool.name.named(w.part), at, read, n)}
	}
	return got{data: buf}
}
