package squashfs

import (
	"bytes"
	"compress/zlib"
	"os/exec"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// packed gives zeros as each codec compresses them.
func packed(t *testing.T, size int) map[uint16][]byte {
	t.Helper()
	zeros := make([]byte, size)
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	_, err := w.Write(zeros)
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	l := make([]byte, lz4.CompressBlockBound(size))
	n, err := lz4.CompressBlock(zeros, l, nil)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("xz", "-c", "--check=crc32")
	cmd.Stdin = bytes.NewReader(zeros)
	x, err := cmd.Output()
	if err != nil {
		t.Fatalf("xz: %v", err)
	}
	return map[uint16][]byte{codecGzip: z.Bytes(), codecZstd: e.EncodeAll(zeros, nil), codecLz4: l[:n], codecXz: x}
}

func TestBlocksAreNotLongerThanTheyMayBe(t *testing.T) {
	const most = 128 << 10
	for _, size := range []int{1, most - 1, most, most + 1, 4 << 20} {
		for codec, b := range packed(t, size) {
			d, err := newDecompressor(codec, most)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // one that has been used before, too
				out, err := d.decompress(make([]byte, most), b)
				if size <= most && (err != nil || len(out) != size) {
					t.Errorf("codec %d, %d bytes: %d, %v", codec, size, len(out), err)
				}
				if size > most && !fault.Is(err, fault.Corrupt) {
					t.Errorf("codec %d, %d bytes: %d, %v", codec, size, len(out), err)
				}
			}
		}
	}
}

func TestAPanicOfADecompressorIsAnError(t *testing.T) {
	d := decompressor{func(_, src []byte) (int, error) { return int(src[len(src)]), nil }}
	if _, err := d.decompress(nil, nil); !fault.Is(err, fault.Corrupt) {
		t.Error(err)
	}
}
