package squashfs

import (
	"bytes"
	"errors"
	"io"
	"sync"

	"github.com/anchore/go-lzo"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/therootcompany/xz"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// The compressors by their numbers.
const (
	codecGzip = 1
	codecLzma = 2
	codecLzo  = 3
	codecXz   = 4
	codecLz4  = 5
	codecZstd = 6
)

// maxXzDict is more than mksquashfs uses, which is the size of a block.
const maxXzDict = 16 << 20

// decompressor decompresses blocks. It may be used by several at once.
type decompressor struct {
	block func(dst, src []byte) (int, error) // errTooLong when dst is too small
}

var errTooLong = errors.New("it is longer than it may be")

func newDecompressor(codec uint16, blockSize int) (decompressor, error) {
	switch codec {
	case codecGzip:
		return decompressor{pooled(func(r io.Reader) (resetter, error) {
			z, err := zlib.NewReader(r)
			if err != nil {
				return nil, err
			}
			return zlibReader{z}, nil
		})}, nil
	case codecXz:
		return decompressor{pooled(func(r io.Reader) (resetter, error) { return xz.NewReader(r, maxXzDict) })}, nil
	case codecLzo:
		return decompressor{func(dst, src []byte) (int, error) { return lzo.Decompress(src, dst) }}, nil
	case codecLz4:
		return decompressor{func(dst, src []byte) (int, error) { return lz4.UncompressBlock(src, dst) }}, nil
	case codecZstd:
		return newZstd(max(blockSize, metaSize))
	case codecLzma:
		return decompressor{}, fault.Hintf(fault.New(fault.Unsupported, "it is compressed with lzma"), "make it anew with mksquashfs -comp zstd")
	}
	return decompressor{}, corrupt("it has a compressor of number %d, which is not known", codec)
}

// decompress gives what src holds, in dst, or beyond it nothing. A decompressor that cannot go on with hostile bytes may panic.
func (d decompressor) decompress(dst, src []byte) (out []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			out, err = nil, corrupt("decompress it: %v", p)
		}
	}()
	n, err := d.block(dst, src)
	if err != nil || n < 0 || n > len(dst) {
		return nil, corrupt("decompress it: %w", errors.Join(err))
	}
	return dst[:n], nil
}

func newZstd(most int) (decompressor, error) {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(uint64(most)))
	if err != nil {
		return decompressor{}, err
	}
	return decompressor{func(dst, src []byte) (int, error) {
		out, err := d.DecodeAll(src, dst[:0])
		if err != nil {
			return 0, err
		}
		if len(out) > len(dst) {
			return 0, errTooLong
		}
		return len(out), nil
	}}, nil
}

// resetter is a stream that can be used again.
type resetter interface {
	io.Reader
	Reset(r io.Reader) error
}

type zlibReader struct{ io.ReadCloser }

func (z zlibReader) Reset(r io.Reader) error { return z.ReadCloser.(zlib.Resetter).Reset(r, nil) }

// pooled makes a decompressor of one for streams.
func pooled(open func(io.Reader) (resetter, error)) func(dst, src []byte) (int, error) {
	var pool sync.Pool
	return func(dst, src []byte) (int, error) {
		var err error
		in := bytes.NewReader(src)
		z, _ := pool.Get().(resetter)
		if z == nil {
			z, err = open(in)
		} else {
			err = z.Reset(in)
		}
		if err != nil {
			return 0, err
		}
		n, err := fill(z, dst)
		if err == nil {
			pool.Put(z)
		}
		return n, err
	}
}

// fill reads a stream to its end.
func fill(r io.Reader, dst []byte) (n int, err error) {
	var more [1]byte
	for {
		p := dst[n:]
		if len(p) == 0 {
			p = more[:]
		}
		k, err := r.Read(p)
		if n += k; n > len(dst) {
			return 0, errTooLong
		}
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
	}
}
