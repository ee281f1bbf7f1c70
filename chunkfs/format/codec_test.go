package format

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// text is n bytes that compress, and that no two seeds have alike.
func text(seed uint64, n int) []byte {
	words := strings.Fields("the kernel is truth and record promise of chain image chunk blob device layer")
	r := rand.New(rand.NewPCG(seed, 0))
	var b bytes.Buffer
	for b.Len() < n {
		b.WriteString(words[r.IntN(len(words))])
		b.WriteByte(' ')
	}
	return b.Bytes()[:n]
}

// noise is n bytes that do not compress.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(b)
	return b
}

func encode(t testing.TB, codec Codec, level int, plain []byte) (Chunk, []byte) {
	t.Helper()
	e, err := NewEncoder(codec, level)
	if err != nil {
		t.Fatal(err)
	}
	stored, used := e.Encode(nil, plain)
	return Chunk{Sum: BLAKE3.Sum(plain), Size: uint32(len(plain)), Stored: uint32(len(stored)), Codec: used}, stored
}

func TestChunksDecodeToWhatWasEncoded(t *testing.T) {
	d, err := NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]byte, 10)
	for _, codec := range []Codec{None, Zstd, LZ4} {
		for _, level := range []int{0, 1, 9, 19} {
			for _, plain := range [][]byte{{1}, text(1, 5000), noise(1, 5000), make([]byte, MaxChunk), text(2, MaxChunk)} {
				c, stored := encode(t, codec, level, plain)
				if len(stored) > len(plain) || (len(stored) == len(plain)) != (c.Codec == None) {
					t.Errorf("%v: %d bytes stored by %v for %d", codec, len(stored), c.Codec, len(plain))
				}
				got, err := d.Chunk(dst, BLAKE3, c, stored)
				if err != nil || !bytes.Equal(got, plain) {
					t.Errorf("%v level %d: %d bytes come back as %d, %v", codec, level, len(plain), len(got), err)
				}
			}
		}
	}
	for _, level := range []int{-1, 20} {
		if _, err := NewEncoder(Zstd, level); !fault.Is(err, fault.Invalid) {
			t.Errorf("level %d: %v", level, err)
		}
	}
}

// An encoder that has encoded other things before gives the bytes that a new one gives: an image does not depend on which goroutine had
// which chunk.
func TestEncoderHasNoMemory(t *testing.T) {
	for _, codec := range []Codec{Zstd, LZ4} {
		for _, level := range []int{1, 3, 7, 12} {
			used, err := NewEncoder(codec, level)
			if err != nil {
				t.Fatal(err)
			}
			for i := range uint64(12) {
				plain := text(i, 1000+int(i*i)*3000)
				_, fresh := encode(t, codec, level, plain)
				if got, _ := used.Encode(nil, plain); !bytes.Equal(got, fresh) {
					t.Fatalf("%v level %d: chunk %d depends on those before it", codec, level, i)
				}
			}
		}
	}
}

func TestDamagedChunkIsNamed(t *testing.T) {
	d, err := NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	for _, codec := range []Codec{None, Zstd, LZ4} {
		c, stored := encode(t, codec, 3, text(3, 700))
		for i := range len(stored) * 8 {
			bad := bytes.Clone(stored)
			bad[i/8] ^= 1 << (i % 8)
			got, err := d.Chunk(nil, BLAKE3, c, bad)
			if err == nil && bytes.Equal(got, text(3, 700)) {
				continue // a bit that the codec does not look at
			}
			if !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "blake3:"+c.Sum.String()) {
				t.Fatalf("%v, bit %d: %v", codec, i, err)
			}
		}
		for n := range stored {
			if _, err := d.Chunk(nil, BLAKE3, c, stored[:n]); !fault.Is(err, fault.Corrupt) {
				t.Fatalf("%v, cut to %d: %v", codec, n, err)
			}
		}
	}
}

// bomb is a zstd stream of a few kilobytes that decodes to n bytes.
func bomb(t *testing.T, n int64) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(w, zeros{}, n); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// allocated says how many bytes f takes from the heap, freed ones included.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestCompressionBombsAreRefusedFlat(t *testing.T) {
	stored := bomb(t, 512<<20)
	d, err := NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	c := Chunk{Size: 4096, Stored: uint32(len(stored)), Codec: Zstd}
	took := allocated(func() {
		if _, err := d.Chunk(nil, BLAKE3, c, stored); !fault.Is(err, fault.Corrupt) {
			t.Errorf("as a chunk: %v", err)
		}
	})
	if took > 16<<20 {
		t.Errorf("as a chunk it took %d bytes", took)
	}
	b := Blob{Digest: BLAKE3.Of(stored), Size: int64(len(stored)), Plain: 512 << 20, Codec: Zstd}
	took = allocated(func() {
		if _, err := d.Blob(b, stored); !fault.Is(err, fault.Corrupt) {
			t.Errorf("as a blob that is honest about its size: %v", err)
		}
		b.Plain = 1 << 20
		if _, err := d.Blob(b, stored); !fault.Is(err, fault.Corrupt) {
			t.Errorf("as a blob that lies: %v", err)
		}
	})
	if took > 32<<20 {
		t.Errorf("as a blob it took %d bytes", took)
	}
}

func TestBlobs(t *testing.T) {
	d, err := NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	for _, plain := range [][]byte{{1}, text(1, 3<<20), noise(1, 10000), make([]byte, 20<<20)} {
		b, stored, err := EncodeBlob(SHA256, 3, func(w io.Writer) error {
			_, err := w.Write(plain)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.check(SHA256, MaxMetadata); err != nil {
			t.Errorf("of %d bytes: %v", len(plain), err)
		}
		if got, err := d.Blob(b, stored); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes come back as %d: %v", len(plain), len(got), err)
		}
		for name, bad := range map[string][]byte{"cut": stored[:len(stored)-1], "longer": append(bytes.Clone(stored), 0), "empty": nil} {
			if _, err := d.Blob(b, bad); !fault.Is(err, fault.Corrupt) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	broken := errors.New("the disk is gone")
	if _, _, err := EncodeBlob(SHA256, 3, func(io.Writer) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	b, stored, err := EncodeBlob(SHA256, 3, func(w io.Writer) error { _, err := w.Write(text(1, 5000)); return err })
	if err != nil {
		t.Fatal(err)
	}
	failing := io.MultiReader(bytes.NewReader(stored[:10]), failingReader{broken})
	if err := d.BlobTo(io.Discard, b, failing); !errors.Is(err, broken) {
		t.Errorf("a read that fails: %v", err)
	}
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }
