package initramfs

import (
	"github.com/klauspost/compress/zstd"
)

// wrap is how one module is compressed. On a node the modules that it has no use for are most of what its initramfs takes of its memory.
type wrap struct {
	ending string
	zstd   *zstd.Encoder // nil: it is left as it is
}

func (o *Options) moduleWrap() (wrap, error) {
	c := o.ModuleCompress
	if c == "" && !o.wants(LayerBase) {
		c = None // for whatever loads them
	}
	if c == None {
		return wrap{}, nil
	}
	level := zstd.SpeedBetterCompression
	if o.Compress == Zstd && o.Level > 0 {
		level = zstd.EncoderLevelFromZstd(o.Level)
	}
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true))
	return wrap{".zst", e}, err
}

// of compresses what was read. The bytes depend on nothing else.
func (w wrap) of(data []byte, err error) ([]byte, error) {
	if err != nil || w.zstd == nil {
		return data, err
	}
	return w.zstd.EncodeAll(data, make([]byte, 0, len(data)/3)), nil
}
