package loop

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
)

const imageSize = 4 << 20

// partitioned makes an image with what sfdisk makes of script.
func partitioned(t testing.TB, script string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, make([]byte, imageSize), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sfdisk", "--quiet", path)
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v: %s", err, out)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const gptScript = "label: gpt\n1: start=2048, size=2048\n5: start=4096, size=2048\n"

// withHeader changes the first GPT header and makes its checksum right again; the second one is wiped.
func withHeader(image []byte, change func(header []byte)) []byte {
	b := slices.Clone(image)
	clear(b[len(b)-sector:])
	header := b[sector : sector+92]
	change(header)
	clear(header[16:20])
	binary.LittleEndian.PutUint32(header[16:], crc32.ChecksumIEEE(header))
	return b
}

func read(t testing.TB, image []byte) ([]extent, error) {
	t.Helper()
	fd, err := unix.MemfdCreate("image", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "image")
	defer f.Close()
	if _, err := f.Write(image); err != nil {
		t.Fatal(err)
	}
	return readTable(f, int64(len(image)))
}

func TestReadTable(t *testing.T) {
	disk := partitioned(t, gptScript)
	dos := partitioned(t, "label: dos\n1: start=2048, size=2048, type=83\n3: start=4096, size=1024, type=5\n")
	both := []extent{{1, 2048 * 512, 2048 * 512}, {5, 4096 * 512, 2048 * 512}}
	damaged := withHeader(disk, func([]byte) {})
	damaged[sector]++
	backup := slices.Clone(disk)
	clear(backup[sector : 2*sector])
	outside := slices.Clone(dos)
	binary.LittleEndian.PutUint32(outside[446+12:], 1<<20)
	tests := map[string]struct {
		image []byte
		want  []extent
		kind  fault.Kind
	}{
		"GPT":                         {image: disk, want: both},
		"GPT, only the backup":        {image: backup, want: both},
		"MBR":                         {image: dos, want: both[:1]},
		"zeroes":                      {image: make([]byte, imageSize)},
		"a single sector":             {image: make([]byte, sector)},
		"GPT, damaged twice":          {image: damaged, kind: fault.Corrupt},
		"beyond the end":              {image: outside, kind: fault.Corrupt},
		"GPT of 4 billion entries":    {image: withHeader(disk, func(h []byte) { binary.LittleEndian.PutUint32(h[80:], 1<<32-1) }), kind: fault.Corrupt},
		"GPT of 4 GB an entry":        {image: withHeader(disk, func(h []byte) { binary.LittleEndian.PutUint32(h[84:], 1<<32-1) }), kind: fault.Corrupt},
		"GPT of 0 bytes an entry":     {image: withHeader(disk, func(h []byte) { binary.LittleEndian.PutUint32(h[84:], 0) }), kind: fault.Corrupt},
		"GPT with its array far away": {image: withHeader(disk, func(h []byte) { binary.LittleEndian.PutUint64(h[72:], 1<<62) }), kind: fault.Corrupt},
	}
	for what, tt := range tests {
		t.Run(what, func(t *testing.T) {
			got, err := read(t, tt.image)
			if !slices.Equal(got, tt.want) || (err != nil) != (tt.kind != "") || err != nil && !fault.Is(err, tt.kind) {
				t.Errorf("%+v, %v; want %+v, %q", got, err, tt.want, tt.kind)
			}
		})
	}
}

// FuzzReadTable changes the first 34 sectors, where a table lies, of an image of 256 KiB.
func FuzzReadTable(f *testing.F) {
	disk, dos := partitioned(f, gptScript), partitioned(f, "label: dos\n1: start=2048, size=2048\n")
	f.Add(disk[:34*sector])
	f.Add(dos[:sector])
	f.Add(withHeader(disk, func(h []byte) { binary.LittleEndian.PutUint32(h[84:], 64) })[:34*sector])
	f.Fuzz(func(t *testing.T, start []byte) {
		image := make([]byte, 256<<10)
		copy(image, start)
		all, err := read(t, image)
		if err != nil && len(all) > 0 {
			t.Error("partitions with an error")
		}
		for _, e := range all {
			if e.start <= 0 || e.length <= 0 || e.start+e.length > int64(len(image)) {
				t.Errorf("partition %+v is not within the image", e)
			}
		}
	})
}
