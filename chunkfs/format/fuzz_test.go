package format

import (
	"bytes"
	"testing"

	"github.com/windlass-hpc/windlass/internal/fault"
)

func FuzzManifest(f *testing.F) {
	good, err := sampleManifest().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeManifest(b)
		if err != nil {
			return
		}
		if again, err := m.Encode(); err != nil || !bytes.Equal(b, again) {
			t.Fatalf("it encodes as %q, %v", again, err)
		}
	})
}

func FuzzIndex(f *testing.F) {
	good, err := sampleIndex().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) { checkIndexBytes(t, b) })
}

func FuzzTrace(f *testing.F) {
	good, err := EncodeTrace(sampleTrace())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		trace, err := DecodeTrace(b)
		if err != nil {
			return
		}
		if _, err := EncodeTrace(trace); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzChunk takes any bytes as what is stored of a chunk of any size: the result has that size and that digest, or is an error.
func FuzzChunk(f *testing.F) {
	for _, codec := range []Codec{None, Zstd, LZ4} {
		c, stored := encode(f, codec, 3, text(1, 2000))
		f.Add(uint8(c.Codec), uint32(2000), stored)
	}
	d, err := NewDecoder()
	if err != nil {
		f.Fatal(err)
	}
	want := BLAKE3.Sum(text(1, 2000))
	f.Fuzz(func(t *testing.T, codec uint8, size uint32, stored []byte) {
		c := Chunk{Sum: want, Size: size % (1 << 16), Stored: uint32(len(stored)), Codec: Codec(codec)}
		plain, err := d.ChunkUnverified(nil, BLAKE3, c, stored)
		if err == nil && len(plain) != int(c.Size) {
			t.Fatalf("%d bytes for %d", len(plain), c.Size)
		}
		verified, err := d.Chunk(nil, BLAKE3, c, stored)
		if err == nil && BLAKE3.Sum(verified) != want {
			t.Fatal("other content under the digest")
		}
		if err != nil && !fault.Is(err, fault.Corrupt) {
			t.Fatal(err)
		}
	})
}

// FuzzBlob takes any bytes as what is stored of a blob: no panic, and no more than its size comes out.
func FuzzBlob(f *testing.F) {
	_, stored := encode(f, Zstd, 3, text(1, 2000))
	f.Add(uint8(Zstd), int64(2000), stored)
	d, err := NewDecoder()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, codec uint8, plain int64, stored []byte) {
		b := Blob{Digest: SHA256.Of(stored), Size: int64(len(stored)), Plain: plain, Codec: Codec(codec)}
		got, err := d.Blob(b, stored)
		if err == nil && int64(len(got)) != plain {
			t.Fatalf("%d bytes for %d", len(got), plain)
		}
	})
}
