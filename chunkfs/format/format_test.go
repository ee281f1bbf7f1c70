package format

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/windlass-hpc/windlass/internal/fault"
)

var update = flag.Bool("update", false, "write the golden files")

// sum is the digest of a word, for tests that need many.
func sum(word string) Sum { return BLAKE3.Sum([]byte(word)) }

func sampleIndex() *Index {
	return &Index{
		Algorithm:  BLAKE3,
		DeviceSize: 4 * BlockSize,
		Packs:      []Pack{{Sum: sum("pack 0"), Size: 9000}, {Sum: sum("pack 1"), Size: 300}},
		Chunks: []Chunk{
			{Sum: sum("a"), Size: 5000, Pack: 0, Offset: 0, Stored: 4000, Codec: Zstd},
			{Sum: sum("b"), Size: 3192, Pack: 1, Offset: 100, Stored: 200, Codec: LZ4},
			{Sum: sum("c"), Size: 3192, Pack: 0, Offset: 4000, Stored: 3192, Codec: None},
		},
		Extents: []Extent{{5000, 0}, {3192, 1}, {1808, Zero}, {3192, 2}, {3192, 1}},
	}
}

func sampleManifest() *Manifest {
	return &Manifest{
		Version:   Version,
		Algorithm: BLAKE3,
		Metadata:  Blob{Digest: BLAKE3.Of([]byte("metadata")), Size: 900, Plain: 8192, Codec: Zstd},
		Index:     Blob{Digest: BLAKE3.Of([]byte("index")), Size: 150, Plain: 150, Codec: None},
		Device:    4 * BlockSize, Files: 3, Data: 12345, Stored: 7392,
		Labels: map[string]string{"source": "debian:12 <&> é", "a": ""},
	}
}

func sampleTrace() *Trace {
	return &Trace{Version: Version, Image: BLAKE3.Of(nil), Role: "boot", Chunks: []Sum{sum("a"), sum("b")}, Paths: []string{"etc/passwd", QuotePath("a\xff")}}
}

func TestIndexReadsAsWritten(t *testing.T) {
	for _, want := range []*Index{sampleIndex(), {Algorithm: SHA256, Packs: []Pack{}, Chunks: []Chunk{}, Extents: []Extent{}}} {
		b, err := want.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeIndex(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Index{})); diff != "" {
			t.Error(diff)
		}
	}
}

func TestIndexFindsTheExtentOfAnOffset(t *testing.T) {
	x := sampleIndex()
	for off, want := range map[int64]int{-1: -1, 0: 0, 4999: 0, 5000: 1, 8191: 1, 8192: 2, 9999: 2, 10000: 3, 13191: 3, 13192: 4, 16383: 4, 16384: -1} {
		if got := x.Find(off); got != want {
			t.Errorf("offset %d: extent %d, want %d", off, got, want)
		}
	}
	if x.Start(3) != 10000 || x.Start(5) != x.DeviceSize {
		t.Errorf("starts %d and %d", x.Start(3), x.Start(5))
	}
	if got := (&Index{}).Find(0); got != -1 {
		t.Errorf("an empty device has an extent %d", got)
	}
}

// What a reader relies on cannot be wrong in an index that was decoded, and the builder is told before it writes such a one.
func TestIndexThatCannotBe(t *testing.T) {
	for name, spoil := range map[string]func(*Index){
		"no algorithm":               func(x *Index) { x.Algorithm = 0 },
		"device not of blocks":       func(x *Index) { x.DeviceSize++ },
		"device larger than extents": func(x *Index) { x.DeviceSize += BlockSize },
		"chunk behind its pack":      func(x *Index) { x.Chunks[2].Offset = 8000 },
		"chunk of no pack":           func(x *Index) { x.Chunks[2].Pack = 2 },
		"pack that nobody names":     func(x *Index) { x.Packs = append(x.Packs, Pack{Size: 1}) },
		"pack too large":             func(x *Index) { x.Packs[0].Size = MaxPack + 1 },
		"chunk that nobody names":    func(x *Index) { x.Extents[3] = Extent{3192, 1} },
		"chunk too large":            func(x *Index) { x.Chunks[0].Size = MaxChunk + 1 },
		"chunk of nothing":           func(x *Index) { x.Chunks[0].Size = 0 },
		"stored larger than plain":   func(x *Index) { x.Chunks[0].Stored = 5001 },
		"stored plain of other size": func(x *Index) { x.Chunks[2].Stored-- },
		"unknown codec":              func(x *Index) { x.Chunks[0].Codec = 3 },
		"chunks out of turn":         func(x *Index) { x.Extents[0], x.Extents[1] = x.Extents[1], x.Extents[0] },
		"hole beside hole":           func(x *Index) { x.Extents = append(x.Extents[:2], Extent{1000, Zero}, Extent{7192, Zero}) },
		"extent of another size":     func(x *Index) { x.Extents[0].Size-- },
		"negative hole":              func(x *Index) { x.Extents[2].Size = -1 },
	} {
		x := sampleIndex()
		spoil(x)
		if _, err := x.Encode(); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever part of an index is missing or damaged, the answer is an error or, where digests were changed, another index: never a panic,
// and never the same index from other bytes.
func TestIndexDamaged(t *testing.T) {
	good, err := sampleIndex().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for n := range good {
		if _, err := DecodeIndex(good[:n]); err == nil {
			t.Errorf("%d of %d bytes are an index", n, len(good))
		}
	}
	if _, err := DecodeIndex(append(bytes.Clone(good), 0)); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a byte more: %v", err)
	}
	for i := range len(good) * 8 {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		checkIndexBytes(t, bad)
	}
}

// checkIndexBytes says that bytes are refused, or are the one encoding of what they decode to.
func checkIndexBytes(t *testing.T, b []byte) {
	t.Helper()
	x, err := DecodeIndex(b)
	if err != nil {
		if !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.Unsupported) {
			t.Errorf("an error of kind %s: %v", fault.KindOf(err), err)
		}
		return
	}
	again, err := x.Encode()
	if err != nil {
		t.Fatalf("what was decoded does not encode: %v", err)
	}
	if !bytes.Equal(b, again) {
		t.Fatalf("two encodings of one index:\n%x\n%x", b, again)
	}
	for i := range x.Extents {
		if x.Find(x.Start(i)) != i || x.Find(x.Start(i+1)-1) != i {
			t.Fatalf("extent %d is not found", i)
		}
	}
}

// The golden files hold the format still: a change of them is another version of the format.
func TestGoldenFiles(t *testing.T) {
	index, err := sampleIndex().Encode()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := sampleManifest().Encode()
	if err != nil {
		t.Fatal(err)
	}
	trace, err := EncodeTrace(sampleTrace())
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][]byte{"index": index, "manifest.json": manifest, "trace.json": trace} {
		path := filepath.Join("testdata", name+".golden")
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not as it was:\n%q\nwant\n%q", name, got, want)
		}
	}
}

func TestManifestReadsAsWritten(t *testing.T) {
	b, err := sampleManifest().Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeManifest(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sampleManifest(), got); diff != "" {
		t.Error(diff)
	}
}

func TestManifestRefused(t *testing.T) {
	good, err := sampleManifest().Encode()
	if err != nil {
		t.Fatal(err)
	}
	change := func(old, replacement string) string {
		t.Helper()
		if !strings.Contains(string(good), old) {
			t.Fatalf("no %s in the manifest", old)
		}
		return strings.Replace(string(good), old, replacement, 1)
	}
	for name, bad := range map[string]string{
		"white space":       string(good) + "\n",
		"unknown field":     change(`"files"`, `"what":1,"files"`),
		"twice":             change(`"files":3`, `"files":3,"files":3`),
		"other case":        change(`"files"`, `"Files"`),
		"other order":       change(`"files":3,"data":12345`, `"data":12345,"files":3`),
		"other escape":      change(`<`, `\u003c`),
		"number":            change(`"files":3`, `"files":3e0`),
		"mixed digests":     change(`"digest":"blake3:`, `"digest":"sha256:`),
		"no digest":         change(`"algorithm":"blake3"`, `"algorithm":""`),
		"lz4":               change(`"codec":"zstd"`, `"codec":"lz4"`),
		"bomb":              change(`"plain":8192`, `"plain":1888888888`),
		"too much metadata": change(`"size":900,"plain":8192`, `"size":90000000,"plain":3000000000`),
		"device":            change(`"device":16384`, `"device":16385`),
		"not JSON":          "no",
		"empty":             "",
		"too long":          strings.Repeat(" ", MaxManifest+1),
	} {
		if _, err := DecodeManifest([]byte(bad)); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := DecodeManifest([]byte(change(`"version":1`, `"version":2,"new":{}`))); !fault.Is(err, fault.Unsupported) {
		t.Errorf("a later version: %v", err)
	}
}

func TestDigestWords(t *testing.T) {
	d := BLAKE3.Of([]byte("x"))
	if got, err := ParseDigest(d.String()); err != nil || got != d {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "blake3", "blake3:", "md5:" + d.Sum.String(), strings.ToUpper(d.String()), "blake3:" + strings.ToUpper(d.Sum.String()),
		d.String() + "0", d.String()[:len(d.String())-1] + "g", " " + d.String()} {
		if _, err := ParseDigest(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, a := range []Algorithm{BLAKE3, SHA256} {
		h := a.Hash()
		h.Write([]byte("x"))
		if a.DigestOf(h) != a.Of([]byte("x")) {
			t.Errorf("%v: a stream has another digest than its bytes", a)
		}
	}
	// The empty input's digest, from the BLAKE3 paper's test vectors.
	if got := BLAKE3.Of(nil).Sum.String(); got != "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262" {
		t.Errorf("BLAKE3 of nothing is %s", got)
	}
}

func TestTags(t *testing.T) {
	for _, good := range []string{"a", "debian:12", "team/debian_12.4-x", strings.Repeat("a", 128)} {
		if path, err := TagPath(good); err != nil || path != "tags/"+good {
			t.Errorf("%q: %q, %v", good, path, err)
		}
	}
	for _, bad := range []string{"", "/a", "a/", "a//b", ".", "..", "a/../b", "a/.", "-a", "a~", "a b", "a\n", "é", "blake3:00", "sha256:x", strings.Repeat("a", 129)} {
		if err := CheckTag(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestTrace(t *testing.T) {
	b, err := EncodeTrace(sampleTrace())
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeTrace(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sampleTrace(), got); diff != "" {
		t.Error(diff)
	}
	if p, err := UnquotePath(got.Paths[1]); err != nil || p != "a\xff" {
		t.Errorf("%q, %v", p, err)
	}
	for name, spoil := range map[string]func(*Trace){
		"version": func(t *Trace) { t.Version = 2 },
		"image":   func(t *Trace) { t.Image = Digest{} },
		"role":    func(t *Trace) { t.Role = "../x" },
		"path":    func(t *Trace) { t.Paths[0] = "../etc/passwd" },
		"quotes":  func(t *Trace) { t.Paths[0] = `"etc` },
		"root":    func(t *Trace) { t.Paths[0] = "/etc" },
	} {
		bad := sampleTrace()
		spoil(bad)
		if _, err := EncodeTrace(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
		if b, err := json.Marshal(bad); err == nil {
			if _, err := DecodeTrace(b); !fault.Is(err, fault.Corrupt) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
