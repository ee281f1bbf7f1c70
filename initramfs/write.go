package initramfs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/windlass-hpc/windlass/internal/durable"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// align is what the kernel asks of the beginning of an archive that is not compressed; zeros before it are skipped. Every layer ends so,
// so that any other can be appended.
const align = 4

// Write packs the layers and writes them into the file, whole or not at all. progress is told how many bytes have been packed, from any
// goroutine; it may be nil. Bytes of the file are given.
func (p *Plan) Write(ctx context.Context, file string, progress func(packed int64)) (int64, error) {
	if st, err := os.Stat(file); err == nil && !st.Mode().IsRegular() {
		return 0, fault.New(fault.Exists, "%s is there and no file: name a file to write the initramfs into", file)
	}
	if err := p.pack(ctx, progress); err != nil {
		return 0, err
	}
	mode := os.FileMode(0o644)
	if p.Secret {
		mode = 0o600
	}
	var written int64
	err := replace(ctx, file, mode, func(w io.Writer) error {
		for _, l := range p.Layers {
			n, err := w.Write(l.data)
			if written += int64(n); err != nil {
				return err
			}
		}
		return nil
	})
	return written, err
}

// pack packs and compresses the layers, several at once.
func (p *Plan) pack(ctx context.Context, progress func(int64)) error {
	var packed atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, l := range p.Layers {
		g.Go(func() error {
			err := p.packLayer(ctx, l, func(n int) {
				if all := packed.Add(int64(n)); progress != nil {
					progress(all)
				}
			})
			if err != nil {
				return fmt.Errorf("layer %s: %w", l.Name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

func (p *Plan) packLayer(ctx context.Context, l *Layer, told func(int)) (err error) {
	began := time.Now()
	if l.tree == nil {
		if l.tree, err = l.make(ctx); err != nil {
			return err
		}
	}
	var out bytes.Buffer
	w, err := p.compress.writer(&out, p.level)
	if err != nil {
		return err
	}
	stats, err := l.tree.Write(&counted{ctx, w, told}, p.time)
	if err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	out.Write(make([]byte, (align-out.Len()%align)%align))
	l.data, l.Files, l.Bytes, l.Stored, l.Took = out.Bytes(), stats.Files, stats.Bytes, int64(out.Len()), time.Since(began)
	return nil
}

// counted tells how much is written, and fails when the context has ended.
type counted struct {
	ctx  context.Context
	w    io.Writer
	told func(int)
}

func (c *counted) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.w.Write(p)
	c.told(n)
	return n, err
}

// replace writes a file under another name in its directory and renames it when it is whole.
func replace(ctx context.Context, file string, mode os.FileMode, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*"+durable.TempSuffix)
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = fmt.Errorf("write %s: %w", file, err)
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil { // the umask does not count
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return err
	}
	return durable.SyncDir(ctx, filepath.Dir(file))
}
