package format

import (
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// maxWindow bounds what a zstd frame may ask to be remembered, and so the memory of a decoder.
const maxWindow = 8 << 20

// Decoder decodes and verifies chunks and blobs, which may be hostile: it never writes more than the size that the index or the manifest
// gives. It is used by one goroutine at a time; Decoders keeps some for many.
type Decoder struct {
	zstd *zstd.Decoder
}

// NewDecoder makes a decoder.
func NewDecoder() (*Decoder, error) {
	r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, fault.New(fault.Internal, "making a zstd decoder: %w", err)
	}
	return &Decoder{zstd: r}, nil
}

// Decoders keeps decoders for goroutines that come and go. The zero value is ready.
type Decoders struct{ pool sync.Pool }

// Get gives a decoder of which the caller is the only user until Put.
func (p *Decoders) Get() (*Decoder, error) {
	if d, ok := p.pool.Get().(*Decoder); ok {
		return d, nil
	}
	return NewDecoder()
}

// Put gives the decoder back.
func (p *Decoders) Put(d *Decoder) { p.pool.Put(d) }

// Chunk decodes what is stored of a chunk, and verifies it. The result is in dst's memory where that has room for c.Size bytes, from its
// beginning; what dst holds does not count. An error is of kind Corrupt and names the chunk.
func (d *Decoder) Chunk(dst []byte, alg Algorithm, c Chunk, stored []byte) ([]byte, error) {
	plain, err := d.ChunkUnverified(dst, alg, c, stored)
	if err != nil {
		return nil, err
	}
	if alg.Sum(plain) != c.Sum {
		return nil, fault.New(fault.Corrupt, "chunk %v:%v: its content has another digest", alg, c.Sum)
	}
	return plain, nil
}

// ChunkUnverified is Chunk without the digest: the length and what the codec itself checks are all that is looked at. The algorithm is
// for the errors alone.
func (d *Decoder) ChunkUnverified(dst []byte, alg Algorithm, c Chunk, stored []byte) ([]byte, error) {
	if c.Size > MaxChunk || len(stored) != int(c.Stored) {
		return nil, fault.New(fault.Corrupt, "chunk %v:%v: %d bytes stored of %d, for %d", alg, c.Sum, len(stored), c.Stored, c.Size)
	}
	if uint64(cap(dst)) < uint64(c.Size) {
		dst = make([]byte, c.Size)
	}
	plain, err := d.decode(dst[:c.Size:c.Size], c.Codec, stored)
	if err != nil {
		return nil, fault.New(fault.Corrupt, "chunk %v:%v: %w", alg, c.Sum, err)
	}
	return plain, nil
}

// decode fills dst, whose length is what must come out. The result may lie elsewhere, of the same length.
func (d *Decoder) decode(dst []byte, codec Codec, stored []byte) ([]byte, error) {
	n := 0
	switch codec {
	case None:
		if len(stored) > len(dst) {
			return nil, fault.New(fault.Corrupt, "%d bytes, not %d", len(stored), len(dst))
		}
		n = copy(dst, stored)
	case LZ4:
		var err error
		if n, err = lz4.UncompressBlock(stored, dst); err != nil {
			return nil, fault.New(fault.Corrupt, "lz4: %w", err)
		}
	case Zstd:
		out, err := d.zstd.DecodeAll(stored, dst[:0])
		if err != nil {
			return nil, fault.New(fault.Corrupt, "zstd: %w", err)
		}
		n = len(out)
		if n == len(dst) {
			return out, nil
		}
	default:
		return nil, fault.New(fault.Corrupt, "codec %d is not known", uint8(codec))
	}
	if n != len(dst) {
		return nil, fault.New(fault.Corrupt, "decodes to %d bytes, not %d", n, len(dst))
	}
	return dst, nil
}
