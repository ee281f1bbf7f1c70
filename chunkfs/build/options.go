package build

import (
	"runtime"

	chunkers "github.com/PlakarKorp/go-cdc-chunkers"
	"github.com/PlakarKorp/go-cdc-chunkers/chunkers/fastcdc"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// Options say how an image is built. Begin with Defaults: the zero values of Codec, Level and Inline mean something else than theirs.
type Options struct {
	Tag       string // under which the image is published
	Algorithm format.Algorithm
	Codec     format.Codec
	Level     int // of the codec; 0 is the codec's default
	// Sizes of chunks in bytes: a power of two on average, and the bounds. Chunks of the end of a file may be smaller than MinChunk.
	MinChunk, AvgChunk, MaxChunk int
	Group                        int // files of up to so many bytes share chunks; at most MaxChunk
	PackSize                     int // bytes of a pack, about
	Inline                       int // files of up to so many bytes lie in the metadata; less than a block
	// Trace names files that a start reads, which are laid one after the other, in packs of their own, in the order of the trace. Chunks
	// of theirs are not reused from other images of the store, where they may lie apart.
	Trace  *format.Trace
	Labels map[string]string
	// Recall is a file that remembers what files were made of, by their source.Item.Version, so that a later build with the same sizes need
	// not read those that have not changed; empty: no such. It does not change the image, may be removed at any time, and may be shared by
	// builds of several trees, one after the other. Who can write it decides what later images hold.
	Recall   string
	Parallel int            // how many threads compress, and how many read; it does not change the image
	Progress func(Progress) // called now and then, by one goroutine at a time; may be nil
}

// Defaults are the options that docs/chunkfs/format.md has the measurements for.
func Defaults() Options {
	return Options{
		Algorithm: format.BLAKE3,
		Codec:     format.Zstd,
		Level:     7,
		MinChunk:  16 << 10,
		AvgChunk:  64 << 10,
		MaxChunk:  256 << 10,
		Group:     16 << 10,
		PackSize:  32 << 20,
		Inline:    512,
		Parallel:  runtime.GOMAXPROCS(0),
	}
}

// complete fills in what is zero and has no meaning as such, and looks whether all can be.
func (o Options) complete() (Options, error) {
	d := Defaults()
	for _, v := range []struct {
		field *int
		value int
	}{
		{&o.MinChunk, d.MinChunk}, {&o.AvgChunk, d.AvgChunk}, {&o.MaxChunk, d.MaxChunk},
		{&o.Group, min(d.Group, o.MaxChunk)}, {&o.PackSize, d.PackSize}, {&o.Parallel, d.Parallel},
	} {
		if *v.field == 0 {
			*v.field = v.value
		}
	}
	if o.Algorithm == 0 {
		o.Algorithm = d.Algorithm
	}
	return o, o.check()
}

func (o Options) check() error {
	if err := format.CheckTag(o.Tag); err != nil {
		return err
	}
	cdc := o.cdc()
	if err := new(fastcdc.FastCDC).Validate(cdc); err != nil {
		return fault.New(fault.Invalid, "chunks of %d to %d bytes, %d on average: %w", o.MinChunk, o.MaxChunk, o.AvgChunk, err)
	}
	switch {
	case !o.Algorithm.Valid():
		return fault.New(fault.Invalid, "digest algorithm %d is not known", o.Algorithm)
	case o.MinChunk < format.BlockSize || o.MaxChunk > format.MaxChunk:
		return fault.New(fault.Invalid, "chunks of %d to %d bytes: %d to %d are possible", o.MinChunk, o.MaxChunk, format.BlockSize, format.MaxChunk)
	case o.Group < 0 || o.Group > o.MaxChunk:
		return fault.New(fault.Invalid, "files of up to %d bytes cannot share chunks of up to %d", o.Group, o.MaxChunk)
	case o.PackSize < o.MaxChunk || o.PackSize > format.MaxPack:
		return fault.New(fault.Invalid, "packs of %d bytes: %d (the largest chunk) to %d are possible", o.PackSize, o.MaxChunk, format.MaxPack)
	case o.Inline < 0 || o.Inline >= format.BlockSize:
		return fault.New(fault.Invalid, "files of up to %d bytes in the metadata: less than %d are possible", o.Inline, format.BlockSize)
	case o.Parallel < 1 || o.Parallel > maxParallel:
		return fault.New(fault.Invalid, "%d threads: 1 to %d are possible", o.Parallel, maxParallel)
	}
	_, err := format.NewEncoder(o.Codec, o.Level)
	return err
}

// maxParallel is more than any machine profits from, and bounds the memory that a mistaken number takes.
const maxParallel = 256

func (o Options) cdc() *chunkers.ChunkerOpts {
	return &chunkers.ChunkerOpts{MinSize: o.MinChunk, NormalSize: o.AvgChunk, MaxSize: o.MaxChunk}
}
