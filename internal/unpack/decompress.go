package unpack

import (
	"errors"
	"io"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Codec is how an archive is compressed.
type Codec string

// The codecs.
const (
	Plain Codec = ""
	Gzip  Codec = "gzip"
	Zstd  Codec = "zstd"
	Xz    Codec = "xz"
)

// What a decompressor may take of memory: the archive names the size of the window, and it is hostile. These are the largest that
// zstd (--long=27) and xz (-9) use when nobody asks for more.
const (
	maxZstdWindow = 128 << 20
	maxXzDict     = 64 << 20
)

// Decompress gives what r holds, decompressed. Its memory is bounded whatever r says. Close frees it; r stays open. Errors of what is
// read are those of r, io.ErrUnexpectedEOF, or of kind Corrupt.
func Decompress(codec Codec, r io.Reader) (io.ReadCloser, error) {
	src := &source{r: r}
	rc, err := decoder(codec, src)
	if err != nil {
		if err = decodeError(codec, src, err); errors.Is(err, io.ErrUnexpectedEOF) {
			err = fault.New(fault.Corrupt, "decompress (%s): it is cut off at the very beginning: %w", codec, err)
		}
		return nil, err
	}
	return &decoded{rc, src, codec}, nil
}

func decoder(codec Codec, r io.Reader) (io.ReadCloser, error) {
	switch codec {
	case Plain:
		return io.NopCloser(r), nil
	case Gzip:
		return gzip.NewReader(r)
	case Zstd:
		d, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(2))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case Xz:
		d, err := xz.NewReader(r, maxXzDict)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(d), nil
	}
	return nil, fault.New(fault.Unsupported, "there is no decompressor %q", codec)
}

// source keeps the error of what is read, which a decompressor may give other words. The zstd decoder reads in a goroutine of its own.
type source struct {
	r   io.Reader
	err atomic.Pointer[error]
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err.Store(&err)
	}
	return n, err
}

type decoded struct {
	io.ReadCloser
	src   *source
	codec Codec
}

func (d *decoded) Read(p []byte) (int, error) {
	n, err := d.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = decodeError(d.codec, d.src, err)
	}
	return n, err
}

func decodeError(codec Codec, src *source, err error) error {
	var kinded *fault.Error
	switch {
	case src.err.Load() != nil:
		return *src.err.Load()
	case errors.As(err, &kinded):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, xz.ErrBuf):
		return io.ErrUnexpectedEOF
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrWindowSizeTooSmall), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return fault.Hintf(fault.New(fault.Corrupt, "decompress (%s): it wants a window of more than %d MiB: %w", codec, maxZstdWindow>>20, err),
			"compress it with zstd --long=27 or less")
	case errors.Is(err, xz.ErrMemlimit):
		return fault.Hintf(fault.New(fault.Corrupt, "decompress (%s): it wants a dictionary of more than %d MiB: %w", codec, maxXzDict>>20, err),
			"compress it with xz -9 or less")
	}
	return fault.New(fault.Corrupt, "decompress (%s): %w", codec, err)
}
