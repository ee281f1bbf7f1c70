package format

import (
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Levels of zstd as its own program counts them. The library has four; each takes a range of these.
const (
	MinLevel = 1
	MaxLevel = 19
)

// gain is what compression must save at least, as a part of the plain size: less is not worth the work of every reader.
const gain = 32

// Encoder compresses chunks. The same bytes give the same result from every Encoder of the same codec and level. It is used by one
// goroutine at a time.
type Encoder struct {
	codec Codec
	zstd  *zstd.Encoder
	fast  *lz4.Compressor
	high  *lz4.CompressorHC
	buf   []byte // of lz4, which writes to a given length
}

// NewEncoder makes an encoder. Level is of zstd MinLevel to MaxLevel; of lz4 from 3 on the slow, denser way is taken; 0 is the codec's
// default. The error is of kind Invalid.
func NewEncoder(codec Codec, level int) (*Encoder, error) {
	if level < 0 || level > MaxLevel {
		return nil, fault.New(fault.Invalid, "compression level %d is not %d to %d", level, MinLevel, MaxLevel)
	}
	e := &Encoder{codec: codec}
	switch codec {
	case None:
	case Zstd:
		w, err := newZstd(level, MaxChunk)
		if err != nil {
			return nil, err
		}
		e.zstd = w
	case LZ4:
		if level < 3 {
			e.fast = new(lz4.Compressor)
		} else {
			e.high = &lz4.CompressorHC{Level: lz4.CompressionLevel(1 << (8 + min(level, 9)))}
		}
	default:
		return nil, fault.New(fault.Invalid, "codec %d is not known", uint8(codec))
	}
	return e, nil
}

// newZstd makes an encoder of frames without a checksum, which the digest makes needless, and of one goroutine, so that what it writes
// does not depend on how fast the machine is.
func newZstd(level, window int) (*zstd.Encoder, error) {
	if level == 0 {
		level = 3
	}
	w, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)), zstd.WithWindowSize(window),
		zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fault.New(fault.Internal, "making a zstd encoder of level %d: %w", level, err)
	}
	return w, nil
}

// Encode appends plain to dst as it is to be stored, and says by which codec: None when compression does not save enough. Plain has 1 to
// MaxChunk bytes.
func (e *Encoder) Encode(dst, plain []byte) ([]byte, Codec) {
	most := len(plain) - len(plain)/gain - 1
	switch e.codec {
	case Zstd:
		if out := e.zstd.EncodeAll(plain, dst); len(out)-len(dst) <= most {
			return out, Zstd
		}
	case LZ4:
		if out := e.lz4(plain); out != nil && len(out) <= most {
			return append(dst, out...), LZ4
		}
	}
	return append(dst, plain...), None
}

// lz4 gives nil for what does not get smaller.
func (e *Encoder) lz4(plain []byte) []byte {
	if len(e.buf) < len(plain) {
		e.buf = make([]byte, len(plain))
	}
	var n int
	var err error
	if e.fast != nil {
		n, err = e.fast.CompressBlock(plain, e.buf[:len(plain)])
	} else {
		n, err = e.high.CompressBlock(plain, e.buf[:len(plain)])
	}
	if n == 0 || err != nil { // the block did not fit
		return nil
	}
	return e.buf[:n]
}
