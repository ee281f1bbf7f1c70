package erofs_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/erofs/erofstest"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// small is an image with one of everything that the reader parses, and as small as that can be.
func small() []byte {
	s := &erofstest.Sample{}
	file := s.File(3*erofs.BlockSize, map[int64][]byte{0: {1}, 2 * erofs.BlockSize: {2}})
	file.Xattrs = []erofs.Xattr{{Name: "user.a", Value: []byte("own")}, {Name: "user.b", Value: []byte("shared")}}
	data := erofstest.Node(unix.S_IFREG)
	data.Data, data.Size, data.Xattrs = []byte("data"), 4, []erofs.Xattr{{Name: "user.b", Value: []byte("shared")}}
	link := erofstest.Node(unix.S_IFLNK)
	link.Target = "target"
	many := erofstest.Dir()
	for i := range 100 {
		many.Entries = append(many.Entries, erofs.Entry{Name: string(rune('0'+i/10)) + string(rune('0'+i%10)) + string(bytes.Repeat([]byte("n"), 40)), Node: data})
	}
	s.Root = erofstest.Dir(erofs.Entry{Name: "data", Node: data}, erofs.Entry{Name: "dev", Node: erofstest.Node(unix.S_IFCHR)}, erofs.Entry{Name: "file", Node: file},
		erofs.Entry{Name: "link", Node: link}, erofs.Entry{Name: "many", Node: many})
	var b bytes.Buffer
	if _, err := erofs.Write(&b, s.Root, s.Options()); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// seal makes the checksum right again, so that what is behind it is looked at.
func seal(b []byte) []byte {
	if len(b) >= erofs.BlockSize {
		clear(b[1028:1032])
		binary.LittleEndian.PutUint32(b[1028:], ^crc32.Checksum(b[1024:erofs.BlockSize], crc32.MakeTable(crc32.Castagnoli)))
	}
	return b
}

// exercise calls everything that there is on an image that may be anything. It fails on an error without a kind.
func exercise(t *testing.T, b []byte) {
	t.Helper()
	stuck := time.AfterFunc(time.Minute, func() { panic(fmt.Sprintf("does not end: %x", b)) })
	defer stuck.Stop()
	check := func(err error) {
		if err != nil && fault.KindOf(err) == fault.Internal {
			t.Fatalf("without a kind: %v", err)
		}
	}
	im, err := erofs.Open(bytes.NewReader(b), int64(len(b)))
	check(err)
	if err != nil {
		return
	}
	_, err = im.Tree()
	check(err)
	for nid := range uint64(len(b)/32 + 2) {
		in, err := im.Inode(nid)
		check(err)
		if err != nil {
			continue
		}
		_, err = im.Xattrs(nid)
		check(err)
		_, err = im.Xattr(nid, "user.b")
		check(err)
		_, err = im.Readlink(nid)
		check(err)
		check(im.ReadDir(nid, int(nid), func(int, string, uint64, uint32) bool { return true }))
		_, err = im.Lookup(nid, "link")
		check(err)
		for i, off := 0, int64(0); i < 100 && off < in.Size; i++ {
			run, err := im.Map(nid, off)
			check(err)
			if err != nil || run.Size == 0 {
				break
			}
			if run.Size < 0 || run.Size > in.Size-off || run.Offset != off || run.Data != nil && int64(len(run.Data)) != run.Size || run.Device < -1 {
				t.Fatalf("a run of %d of %d: %+v", off, in.Size, run)
			}
			off += run.Size
		}
	}
	for _, nid := range []uint64{1 << 31, 1 << 32, 1 << 58, 1 << 63, 1<<64 - 1} {
		if _, err := im.Inode(nid); !fault.Is(err, fault.Corrupt) {
			t.Errorf("inode %d: %v", nid, err)
		}
	}
}

// bounded fails when f takes more memory than an image of this size may.
func bounded(t *testing.T, f func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	if d := after.HeapSys - min(before.HeapSys, after.HeapSys); d > 64<<20 {
		t.Errorf("took %d MiB", d>>20)
	}
}

// TestFlippedBits is about the first erofs.BlockSize, whose checksum finds every bit, and then about every bit with the checksum made right.
func TestFlippedBits(t *testing.T) {
	image := small()
	for bit := 1024 * 8; bit < erofs.BlockSize*8; bit++ {
		b := bytes.Clone(image)
		b[bit/8] ^= 1 << (bit % 8)
		// Three bits of the superblock say that it has a checksum, and how to read it.
		if _, err := erofs.Open(bytes.NewReader(b), int64(len(b))); err == nil && bit != (1024+8)*8 {
			t.Fatalf("bit %d of byte %d is flipped and nobody noticed", bit%8, bit/8)
		}
	}
	bounded(t, func() {
		for bit := 1024 * 8; bit < len(image)*8; bit += 61 {
			b := bytes.Clone(image)
			b[bit/8] ^= 1 << (bit % 8)
			exercise(t, seal(b))
		}
	})
}

func TestRandomDamage(t *testing.T) {
	image, r := small(), rand.New(rand.NewPCG(1, 2))
	values := []uint32{0, 1, 0xff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffffe, 4096, 4095, 40}
	bounded(t, func() {
		for range 300 {
			b := bytes.Clone(image)
			for range 1 + r.IntN(6) {
				at := 1024 + r.IntN(len(b)-1024-4)
				binary.LittleEndian.PutUint32(b[at&^3:], values[r.IntN(len(values))])
			}
			exercise(t, seal(b[:max(len(b)-r.IntN(4)*2048, erofs.BlockSize)]))
		}
	})
}

func TestCutOff(t *testing.T) {
	image := small()
	for n := 0; n < len(image); n += 37 {
		exercise(t, image[:n])
		// A file that is shorter than it is said to be.
		if _, err := erofs.Open(bytes.NewReader(image[:n]), int64(len(image))); n < erofs.BlockSize && !fault.Is(err, fault.Corrupt) {
			t.Errorf("cut off at %d: %v", n, err)
		}
	}
}

type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errors.New("the disk is on fire") }

func TestReadError(t *testing.T) {
	if _, err := erofs.Open(broken{}, 1<<20); err == nil || fault.Is(err, fault.Corrupt) {
		t.Errorf("an error of the disk became %v", err)
	}
}

// TestRefuses changes one field of the superblock or of an inode.
func TestRefuses(t *testing.T) {
	root := 1280
	for name, tc := range map[string]struct {
		off  int
		to   []byte
		kind fault.Kind
	}{
		"magic":             {1024, []byte{1}, fault.Corrupt},
		"feature":           {1024 + 80, []byte{2 | 4 | 8}, fault.Unsupported},
		"block size":        {1024 + 12, []byte{9}, fault.Unsupported},
		"directory blocks":  {1024 + 90, []byte{1}, fault.Unsupported},
		"two devices":       {1024 + 86, []byte{2}, fault.Unsupported},
		"device table":      {1024 + 88, []byte{0xff, 0xff}, fault.Corrupt},
		"root":              {1024 + 14, []byte{0xff, 0xff}, fault.Corrupt},
		"metadata":          {1024 + 40, []byte{0xff, 0xff, 0xff, 0xff}, fault.Corrupt},
		"root is a file":    {root + 4, []byte{0, 0x80}, fault.Corrupt},
		"root is nothing":   {root + 4, []byte{0, 0}, fault.Corrupt},
		"compressed":        {root, []byte{1 | 3<<1}, fault.Unsupported},
		"unknown layout":    {root, []byte{1 | 7<<1}, fault.Unsupported},
		"chunked directory": {root, []byte{1 | 4<<1}, fault.Unsupported},
		"unknown format":    {root, []byte{1 | 2<<1 | 1<<4}, fault.Unsupported},
		"size":              {root + 8, bytes.Repeat([]byte{0xff}, 8), fault.Corrupt},
	} {
		b := small()
		copy(b[tc.off:], tc.to)
		if tc.off != 1024 {
			seal(b)
		}
		if _, err := erofs.Open(bytes.NewReader(b), int64(len(b))); !fault.Is(err, tc.kind) {
			t.Errorf("%s: got %v (%s), want %s", name, err, fault.KindOf(err), tc.kind)
		}
	}
}

// TestOverlap is a tree that would grow without bounds: directories over each other, and one within itself.
func TestOverlap(t *testing.T) {
	image := small()
	im := open(t, image)
	many := lookup(t, im, "many") * 32
	for name, change := range map[string]func(b []byte){
		"loop": func(b []byte) { // the entry "many" of the root is the root
			at := bytes.Index(b, []byte("datadevfilelinkmany"))
			binary.LittleEndian.PutUint64(b[at-12:], im.Root())
		},
		"size": func(b []byte) { binary.LittleEndian.PutUint64(b[many+8:], 1<<40) },
	} {
		b := bytes.Clone(image)
		change(b)
		if _, err := open(t, seal(b)).Tree(); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzImage(f *testing.F) {
	image := small()
	f.Add(image)
	f.Add(image[:erofs.BlockSize])
	r := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		b := bytes.Clone(image)
		b[1024+r.IntN(len(b)-1024)] ^= byte(1 << r.IntN(8))
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<20 {
			return
		}
		b = seal(bytes.Clone(b))
		bounded(t, func() { exercise(t, b) })
	})
}
