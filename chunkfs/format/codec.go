package format

import (
	"fmt"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Codec is how a stored chunk or blob is compressed.
type Codec uint8

// The codecs.
const (
	None Codec = 0
	Zstd Codec = 1
	LZ4  Codec = 2 // block format
)

// String is the word for the codec.
func (c Codec) String() string {
	switch c {
	case None:
		return "none"
	case Zstd:
		return "zstd"
	case LZ4:
		return "lz4"
	}
	return fmt.Sprintf("Codec(%d)", uint8(c))
}

// Valid says that the codec is one of those above.
func (c Codec) Valid() bool { return c <= LZ4 }

// MarshalText gives the word; an unknown codec is an error.
func (c Codec) MarshalText() ([]byte, error) {
	if !c.Valid() {
		return nil, fault.New(fault.Invalid, "codec %d is not known", uint8(c))
	}
	return []byte(c.String()), nil
}

// UnmarshalText takes the word.
func (c *Codec) UnmarshalText(b []byte) error {
	for known := None; known.Valid(); known++ {
		if string(b) == known.String() {
			*c = known
			return nil
		}
	}
	return fault.New(fault.Invalid, "codec %.20q is not known; there are none, zstd and lz4", b)
}
