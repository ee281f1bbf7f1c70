package initramfs

import (
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Compression is how layers are compressed.
type Compression string

// The compressions. A kernel can have been built without one of them; gzip is the one that nobody leaves out.
const (
	Zstd Compression = "zstd"
	XZ   Compression = "xz"
	Gzip Compression = "gzip"
	None Compression = "none"
)

// Compressions lists them.
func Compressions() []Compression { return []Compression{Zstd, XZ, Gzip, None} }

// window is how far back a decompressor must be able to look: what it keeps in memory while the node boots.
const window = 8 << 20

// levels are the highest levels; those of zstd and xz are as their own programs count them.
func (c Compression) levels() int {
	return map[Compression]int{Zstd: 22, XZ: 9, Gzip: 9}[c]
}

func (c Compression) check(level int) error {
	if !slices.Contains(Compressions(), c) {
		return fault.New(fault.Invalid, "there is no compression %q; there are zstd, xz, gzip and none", c)
	}
	if level < 0 || level > c.levels() {
		return fault.New(fault.Invalid, "%s has no level %d; the highest is %d", c, level, c.levels())
	}
	return nil
}

// writer compresses what is written to it. The bytes depend on nothing but what is written and the level: not on processors or time.
func (c Compression) writer(w io.Writer, level int) (io.WriteCloser, error) {
	switch c {
	case Zstd:
		speed := zstd.SpeedBetterCompression
		if level > 0 {
			speed = zstd.EncoderLevelFromZstd(level)
		}
		return zstd.NewWriter(w, zstd.WithEncoderLevel(speed), zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(2), zstd.WithEncoderCRC(true))
	case XZ:
		dict := window
		if level > 0 { // as xz -1 to -9 have it, up to the window
			dict = min(window, 1<<(19+level))
		}
		return xz.WriterConfig{CheckSum: xz.CRC32, DictCap: dict}.NewWriter(w) // the kernel knows no other sum
	case Gzip:
		if level == 0 {
			level = gzip.DefaultCompression
		}
		return gzip.NewWriterLevel(w, level)
	case None:
		return plainWriter{w}, nil
	}
	return nil, fmt.Errorf("no compression %q", c)
}

type plainWriter struct{ io.Writer }

func (plainWriter) Close() error { return nil }
