package format

import (
	"bytes"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// A blob may decode to this many bytes, and beyond them to this many times what is stored: enough for every index and metadata, and too
// little for a compression bomb.
const (
	freePlain = 1 << 20
	maxRatio  = 256
)

// Blob is content in a store, named by the digest of its stored bytes.
type Blob struct {
	Digest Digest `json:"digest"`
	Size   int64  `json:"size"`  // stored
	Plain  int64  `json:"plain"` // after decoding
	Codec  Codec  `json:"codec"` // None or Zstd
}

func (b Blob) check(a Algorithm, most int64) error {
	switch {
	case !b.Digest.Algorithm.Valid():
		return fault.New(fault.Invalid, "no digest algorithm")
	case b.Digest.Algorithm != a:
		return fault.New(fault.Invalid, "a digest by %v in a manifest by %v", b.Digest.Algorithm, a)
	case b.Codec != None && b.Codec != Zstd:
		return fault.New(fault.Invalid, "codec %v, not none or zstd", b.Codec)
	case b.Plain < 1 || b.Plain > most:
		return fault.New(fault.Invalid, "%d bytes, not 1 to %d", b.Plain, most)
	case b.Size < 1 || b.Size > b.Plain || (b.Size == b.Plain) != (b.Codec == None):
		return fault.New(fault.Invalid, "%d bytes stored by codec %v for %d", b.Size, b.Codec, b.Plain)
	case b.Plain > freePlain+b.Size*maxRatio:
		return fault.New(fault.Invalid, "%d bytes stored for %d, more than %d times", b.Size, b.Plain, maxRatio)
	}
	return nil
}

// EncodeBlob gives what write writes as a blob, and the bytes to store. It may call write a second time, for the same bytes: when they
// do not compress.
func EncodeBlob(alg Algorithm, level int, write func(io.Writer) error) (Blob, []byte, error) {
	w, err := newZstd(level, maxWindow)
	if err != nil {
		return Blob{}, nil, err
	}
	var stored bytes.Buffer
	w.Reset(&stored)
	plain := &counter{to: w}
	if err := write(plain); err != nil {
		return Blob{}, nil, err
	}
	if err := w.Close(); err != nil {
		return Blob{}, nil, fault.New(fault.Internal, "compressing: %w", err)
	}
	b := Blob{Size: int64(stored.Len()), Plain: plain.n, Codec: Zstd}
	if b.Size >= b.Plain || b.Plain > freePlain+b.Size*maxRatio {
		stored.Reset()
		if err := write(&stored); err != nil {
			return Blob{}, nil, err
		}
		b.Size, b.Codec = b.Plain, None
	}
	b.Digest = alg.Of(stored.Bytes())
	return b, stored.Bytes(), nil
}

// Blob verifies what is stored of a blob, and decodes it. Blobs of a manifest that DecodeManifest has taken are bounded. An error is of
// kind Corrupt and names the blob.
func (d *Decoder) Blob(b Blob, stored []byte) ([]byte, error) {
	var plain bytes.Buffer
	if err := d.BlobTo(&plain, b, bytes.NewReader(stored)); err != nil {
		return nil, err
	}
	return plain.Bytes(), nil
}

// BlobTo is Blob from a reader to a writer, in little memory. What was written counts for nothing when there is an error, for only the end
// shows whether the digest is right. Errors of the writer and the reader come back as they are; others are of kind Corrupt.
func (d *Decoder) BlobTo(w io.Writer, b Blob, stored io.Reader) error {
	if err := b.check(b.Digest.Algorithm, MaxMetadata); err != nil {
		return fault.New(fault.Corrupt, "blob %v: %w", b.Digest, err)
	}
	sum := b.Digest.Algorithm.Hash()
	from := &source{from: io.TeeReader(io.LimitReader(stored, b.Size+1), sum)}
	to := &counter{to: w, most: b.Plain}
	err := d.copy(to, b.Codec, from)
	switch {
	case from.err != nil:
		return from.err
	case to.err != nil:
		return to.err
	}
	if _, err := io.Copy(io.Discard, from); err != nil { // what zstd did not want to see counts too
		return err
	}
	switch {
	case from.n != b.Size:
		return fault.New(fault.Corrupt, "blob %v: %d bytes or more stored, not %d", b.Digest, from.n, b.Size)
	case b.Digest.Algorithm.DigestOf(sum) != b.Digest:
		return fault.New(fault.Corrupt, "blob %v: its content has another digest", b.Digest)
	case err != nil:
		return fault.New(fault.Corrupt, "blob %v: %w", b.Digest, err)
	case to.n != b.Plain:
		return fault.New(fault.Corrupt, "blob %v: decodes to %d bytes, not %d", b.Digest, to.n, b.Plain)
	}
	return nil
}

func (d *Decoder) copy(to io.Writer, codec Codec, from io.Reader) error {
	if codec == None {
		_, err := io.Copy(to, from)
		return err
	}
	r, err := zstd.NewReader(from, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(to, r)
	return err
}

// source counts, and keeps an error of its own apart from one that zstd makes of what it read.
type source struct {
	from io.Reader
	n    int64
	err  error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.from.Read(p)
	s.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// errTooLong ends the decoding of a blob that goes on beyond its size.
var errTooLong = errors.New("decodes to more than its size")

// counter counts, takes no more than most where that is given, and keeps an error of what it writes to.
type counter struct {
	to   io.Writer
	n    int64
	most int64
	err  error
}

func (c *counter) Write(p []byte) (int, error) {
	if c.most > 0 && int64(len(p)) > c.most-c.n {
		return 0, errTooLong
	}
	n, err := c.to.Write(p)
	c.n += int64(n)
	c.err = err
	return n, err
}
