package corrupt

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/source"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// most is what a parser may allocate for one hostile input, in all.
func most(parser string) uint64 {
	if parser == "FuzzTar" {
		// Archives are taken with the window that zstd itself takes unless it is told otherwise (--long=27), which the first bytes ask for.
		return 128<<20 + 8<<20
	}
	return 64 << 20
}

// parsers are those of what comes from the network or an image. That they panic, hang or allocate too much is for the caller to see.
func parsers(t *testing.T) map[string]func(b []byte) error {
	dec, err := format.NewDecoder()
	must(t, err)
	file := filepath.Join(t.TempDir(), "source")
	return map[string]func(b []byte) error{
		"FuzzManifest": func(b []byte) error { _, err := format.DecodeManifest(b); return err },
		"FuzzIndex":    func(b []byte) error { _, err := format.DecodeIndex(b); return err },
		"FuzzTrace":    func(b []byte) error { _, err := format.DecodeTrace(b); return err },
		"FuzzChunk": func(b []byte) (err error) {
			for codec := range format.Codec(4) {
				for _, size := range []uint32{1, 4096, format.MaxChunk, 1 << 31} {
					c := format.Chunk{Size: size, Stored: uint32(len(b)), Codec: codec}
					_, err = dec.Chunk(nil, format.BLAKE3, c, b)
				}
			}
			return err
		},
		"FuzzBlob": func(b []byte) (err error) {
			for _, plain := range []int64{1, 1 << 20, int64(1<<20 + 256*len(b)), 1 << 31, 1 << 62} {
				_, err = dec.Blob(format.Blob{Digest: format.SHA256.Of(b), Size: int64(len(b)), Plain: plain, Codec: format.Zstd}, b)
			}
			return err
		},
		"FuzzImage": func(b []byte) error {
			im, err := erofs.Open(bytes.NewReader(b), int64(len(b)))
			if err == nil {
				_, err = im.Tree()
			}
			return err
		},
		"FuzzTar": func(b []byte) error {
			src, err := source.Tar("hostile", bytes.NewReader(b), 0, source.Options{})
			return walk(t, src, err)
		},
		"FuzzSquashfs": func(b []byte) error {
			must(t, os.WriteFile(file, b, 0o600))
			f, err := os.Open(file)
			must(t, err)
			src, err := source.Squashfs(f, source.Options{})
			return walk(t, src, err)
		},
	}
}

// walk reads a source, and the beginning of each of its files.
func walk(t *testing.T, src source.Source, err error) error {
	t.Helper()
	if err != nil {
		return err
	}
	defer src.Close()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	buf := make([]byte, 64<<10)
	return hung(src.Walk(ctx, func(i source.Item) error {
		if i.Open == nil || src.Random() {
			return nil
		}
		c, err := i.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{io.LimitReader(c, 1<<20)}, buf)
		return err
	}))
}

// TestParsersAllocateLittle gives every parser what was committed for its fuzzing, what others are fuzzed with, and inputs that were made
// to cost much.
func TestParsersAllocateLittle(t *testing.T) {
	inputs := committed(t)
	for name, b := range bombs(t) {
		inputs["bomb: "+name] = b
	}
	for parser, parse := range parsers(t) {
		t.Run(parser, func(t *testing.T) {
			var worst uint64
			var at string
			for name, b := range inputs {
				var err error
				took := allocated(func() { err = parse(b) })
				if took > most(parser) {
					t.Errorf("%s: %d MiB for %d bytes, %v", name, took>>20, len(b), err)
				}
				if err != nil && fault.KindOf(err) == fault.Internal {
					t.Errorf("%s: an error without a kind: %v", name, err)
				}
				if took > worst {
					worst, at = took, name
				}
			}
			t.Logf("figure: %s: %d hostile inputs, at most %d KiB allocated (%s)", parser, len(inputs), worst>>10, at)
		})
	}
}

// allocated is how many bytes f allocates, whether they are freed meanwhile or not.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// committed are the byte strings of all corpora of chunkfs.
func committed(t *testing.T) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("../../chunkfs/*/testdata/fuzz/*/*")
	must(t, err)
	more, err := filepath.Glob("../../chunkfs/source/testdata/*.*")
	must(t, err)
	all := map[string][]byte{}
	for _, path := range more {
		all[path] = read(t, path)
	}
	for _, path := range files {
		for n, line := range strings.Split(string(read(t, path)), "\n") {
			literal, ok := strings.CutPrefix(line, "[]byte(")
			if !ok {
				continue
			}
			s, err := strconv.Unquote(strings.TrimSuffix(literal, ")"))
			must(t, err)
			all[fmt.Sprintf("%s:%d", path, n)] = []byte(s)
		}
	}
	if len(all) < 20 {
		t.Fatalf("%d inputs in the corpora", len(all))
	}
	return all
}

// bombs are small inputs that speak of much.
func bombs(t *testing.T) map[string][]byte {
	t.Helper()
	huge := binary.AppendUvarint
	index := []byte("WLINDEX\n")
	if x, err := (&format.Index{Algorithm: format.BLAKE3}).Encode(); err == nil {
		index = x[:len(x)-4] // magic, version, algorithm
	}
	counts := func(device, packs, chunks, extents uint64) []byte {
		b := bytes.Clone(index)
		for _, n := range []uint64{device, packs, chunks, extents} {
			b = huge(b, n)
		}
		return append(b, make([]byte, 200_000)...)
	}
	zeros := compressed(t, 32<<20)
	window := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff}, zeros...) // a window of terabytes
	sized := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x40}, zeros[6:]...)
	super := make([]byte, 8192)
	for i := range super[1024:2048] {
		super[1024+i] = 0xff
	}
	copy(super[1024:], []byte{0xe2, 0xe1, 0xf5, 0xe0})
	squash := append([]byte("hsqs"), bytes.Repeat([]byte{0xff}, 4000)...)
	for _, f := range []struct{ at, v int }{{12, 1 << 20}, {20, 1}, {22, 20}, {28, 4}} { // block size, codec, block log, version
		binary.LittleEndian.PutUint16(squash[f.at:], uint16(f.v))
		if f.at == 12 {
			binary.LittleEndian.PutUint32(squash[f.at:], uint32(f.v))
		}
	}
	return map[string][]byte{
		"index of 2^24 extents":       counts(1, 1<<20, 1<<24, 1<<24),
		"index of 2^63 packs":         counts(1<<32, 1<<63, 1<<63, 1<<63),
		"index of as many as fit":     counts(1<<20, 0, 0, 190_000),
		"index of a huge device":      counts(1<<32, 1, 1, 1),
		"JSON, deep lists":            []byte(strings.Repeat("[", 1<<20)),
		"JSON, deep objects":          []byte(strings.Repeat(`{"labels":`, 100_000)),
		"JSON, many labels":           []byte(`{"version":1,"labels":{` + strings.Repeat(`"a":"b",`, 100_000)),
		"JSON, many chunks":           []byte(`{"version":1,"chunks":["` + strings.Repeat(`","`, 300_000)),
		"JSON, many paths":            []byte(`{"version":1,"paths":["` + strings.Repeat(`a","`, 300_000) + `"]}`),
		"JSON, numbers":               []byte(`{"version":1,"device":9223372036854775808,"files":1e999,"stored":-1}`),
		"JSON, a long string":         []byte(`{"version":1,"role":"` + strings.Repeat(`\u0041`, 150_000) + `"}`),
		"zstd of zeros":               zeros,
		"zstd, window of terabytes":   window,
		"zstd, window of 128 MiB":     frame(17<<3, tarHeader('0', "x", "77777777777\x00", nil)),
		"zstd, content of 2^62":       sized,
		"lz4 of zeros":                append([]byte{0x1f, 0, 1, 0}, bytes.Repeat([]byte{0xff}, 100_000)...),
		"superblock of ones":          super,
		"squashfs of ones":            squash,
		"tar, size of 2^63":           tarHeader('0', "x", "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff", nil),
		"tar, pax of 8 GiB":           tarHeader('x', "x", "77777777777\x00", nil),
		"tar, GNU long name of 8 GiB": tarHeader('L', "././@LongLink", "77777777777\x00", nil),
		"tar, sparse, huge": append(tarHeader('x', "x", "00000000200\x00", pax("GNU.sparse.major=1", "GNU.sparse.minor=0",
			"GNU.sparse.realsize=9223372036854775807")), tarHeader('0', "x", "00000001000\x00", append([]byte("99999999\n"), make([]byte, 503)...))...),
	}
}

// compressed is so many zeros in zstd.
func compressed(t *testing.T, size int) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, zstd.WithWindowSize(1<<20))
	must(t, err)
	return w.EncodeAll(make([]byte, size), nil)
}

// frame is zstd by hand: a window, some bytes as they are, and then 8 MiB in 256 bytes.
func frame(window byte, b []byte) []byte {
	header := func(kind, size int, last bool) []byte {
		word := size<<3 | kind<<1
		if last {
			word |= 1
		}
		return []byte{byte(word), byte(word >> 8), byte(word >> 16)}
	}
	z := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, window}, header(0, len(b), false)...)
	z = append(z, b...)
	for n := range 64 {
		z = append(append(z, header(1, 128<<10, n == 63)...), 0)
	}
	return z
}

func pax(records ...string) []byte {
	var b []byte
	for _, r := range records {
		n := len(r) + 3
		for len(fmt.Sprintf("%d %s\n", n, r)) != n {
			n++
		}
		b = fmt.Appendf(b, "%d %s\n", n, r)
	}
	return append(b, make([]byte, 512-len(b)%512)...)[:512]
}

// tarHeader is a header, its checksum made right, and what follows it.
func tarHeader(kind byte, name, size string, body []byte) []byte {
	h := make([]byte, 512)
	copy(h, name)
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	copy(h[124:], size)
	copy(h[136:], "00000000000\x00        ")
	h[156] = kind
	copy(h[257:], "ustar\x0000")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return append(h, body...)
}
