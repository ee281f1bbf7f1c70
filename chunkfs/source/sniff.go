package source

import (
	"encoding/binary"
	"strings"

	"github.com/windlass-hpc/windlass/internal/unpack"
)

// sniffSize is how much of a file is looked at: a header of a tar.
const sniffSize = tarBlock

// codecOf says how a file that begins with head is compressed.
func codecOf(head []byte) unpack.Codec {
	begins := func(mark string) bool { return strings.HasPrefix(string(head), mark) }
	switch {
	case begins("\x1f\x8b\x08"):
		return unpack.Gzip
	case begins("\xfd7zXZ\x00"):
		return unpack.Xz
	case begins("\x28\xb5\x2f\xfd"), len(head) >= 4 && binary.LittleEndian.Uint32(head)&^0xf == 0x184d2a50: // or a frame to be skipped
		return unpack.Zstd
	}
	return unpack.Plain
}

// isTar says whether a file that begins with head is a tar: it has a header whose checksum is right, or is an empty one.
func isTar(head []byte) bool {
	if len(head) < tarBlock {
		return false
	}
	head = head[:tarBlock]
	if strings.Trim(string(head), "\x00") == "" {
		return true
	}
	const sumAt, sumEnd = 148, 156
	sum, signed := int64(0), int64(0) // old ones added as signed bytes
	for i, b := range head {
		if i >= sumAt && i < sumEnd {
			b = ' '
		}
		sum, signed = sum+int64(b), signed+int64(int8(b))
	}
	want := number(head[sumAt:sumEnd])
	return want == sum || want == signed
}
