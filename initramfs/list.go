package initramfs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/initramfs/cpio"
	"github.com/windlass-hpc/windlass/initramfs/kmod"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// Part is one archive of an initramfs.
type Part struct {
	Offset   int64 // in the file
	Stored   int64 // bytes in the file
	Compress Compression
	Bytes    int64 // of the archive
	Entries  []cpio.Header
}

// Layer says which layer of ours the part is, by what it holds; "" for one of somebody else.
func (p *Part) Layer() string {
	for _, h := range p.Entries {
		switch {
		case h.Name == windlassPath:
			return LayerBase
		case path.Base(h.Name) == kmod.IndexName:
			return LayerKmod
		case h.Name == "bbin/bb":
			return LayerRescue
		case path.Dir(h.Name) == configDir:
			return LayerConfig
		}
	}
	return ""
}

// Bounds of a part, far above what boots.
const (
	maxPart    = 8 << 30 // bytes, unpacked
	maxEntries = 1 << 20
	maxWindow  = 128 << 20 // bytes that a decompressor keeps; the kernel gives it no more
)

// List reads the parts of an initramfs, by whomever it was built, until ctx ends. Errors of what it reads are of kind Corrupt.
func List(ctx context.Context, file string) ([]Part, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK, 0) // that a FIFO has no writer is no reason to wait
	if err != nil {
		return nil, unreadable("the initramfs", err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, fault.New(fault.Invalid, "%s is no regular file", file)
	}
	parts, err := list(&attentive{ctx, f})
	if ctx.Err() != nil {
		return parts, ctx.Err()
	}
	if err != nil {
		return parts, fmt.Errorf("read %s: %w", file, err)
	}
	return parts, nil
}

// attentive ends with its context.
type attentive struct {
	ctx context.Context
	r   io.Reader
}

func (a *attentive) Read(p []byte) (int, error) {
	if err := a.ctx.Err(); err != nil {
		return 0, err
	}
	return a.r.Read(p)
}

func list(r io.Reader) (parts []Part, err error) {
	in := &source{r: bufio.NewReaderSize(r, 64<<10)}
	for {
		if err := in.skipZeros(); errors.Is(err, io.EOF) {
			if len(parts) == 0 {
				return nil, fault.New(fault.Corrupt, "the file holds no archive")
			}
			return parts, nil
		} else if err != nil {
			return parts, err
		}
		p := Part{Offset: in.at}
		if err := p.read(in); err != nil {
			return parts, fault.New(fault.Corrupt, "the part at byte %d: %w", p.Offset, err)
		}
		p.Stored = in.at - p.Offset
		parts = append(parts, p)
	}
}

// read reads the part that begins here, and no more of the source than that.
func (p *Part) read(in *source) error {
	head, err := in.r.Peek(6)
	if err != nil {
		return io.ErrUnexpectedEOF
	}
	plain := io.Reader(in)
	switch {
	case bytes.HasPrefix(head, []byte("07070")):
		p.Compress = None
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		p.Compress = Gzip
		z, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
		z.Multistream(false)
		plain = z
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		p.Compress = XZ
		one := &slow{s: in}
		z, err := xz.NewReader(one, maxWindow)
		if err != nil {
			return err
		}
		z.Multistream(false)
		return errors.Join(p.entries(z), one.giveBack())
	case bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		p.Compress = Zstd
		z, err := zstd.NewReader(&frame{in: in}, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return err
		}
		defer z.Close()
		plain = z
	default:
		return fmt.Errorf("%q is the beginning of no archive that is known here", head)
	}
	return p.entries(plain)
}

// entries reads the archive, and what a compressed part has after its end.
func (p *Part) entries(plain io.Reader) error {
	count := &counting{r: io.LimitReader(plain, maxPart)}
	c := cpio.NewReader(count)
	for {
		h, err := c.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if len(p.Entries) == maxEntries {
			return fmt.Errorf("more than %d files", maxEntries)
		}
		p.Entries = append(p.Entries, *h)
	}
	if p.Compress == None {
		p.Bytes = count.n
		return nil
	}
	_, err := io.Copy(io.Discard, count)
	p.Bytes = count.n
	return err
}

type counting struct {
	r io.Reader
	n int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
