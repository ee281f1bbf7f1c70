package erofs_test

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/erofs/erofstest"
	"github.com/windlass-hpc/windlass/internal/fault"
)

func open(t *testing.T, b []byte) *erofs.Image {
	t.Helper()
	im, err := erofs.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return im
}

func TestRoundTrip(t *testing.T) {
	s := erofstest.New()
	meta, _, _ := s.Write(t)
	again, _, _ := s.Write(t)
	if !bytes.Equal(meta, again) {
		t.Error("the same tree gave two images")
	}
	im := open(t, meta)
	if im.DeviceSize() != int64(len(s.Data)) {
		t.Errorf("DeviceSize %d, want %d", im.DeviceSize(), len(s.Data))
	}
	got, err := im.Tree()
	if err != nil {
		t.Fatal(err)
	}
	same(t, "/", got, s.Root, map[*erofs.Node]*erofs.Node{})
}

// same compares trees, with what is one inode in both.
func same(t *testing.T, path string, got, want *erofs.Node, seen map[*erofs.Node]*erofs.Node) {
	t.Helper()
	if other, ok := seen[want]; ok {
		if got != other {
			t.Errorf("%s: not the inode of its other name", path)
		}
		return
	}
	seen[want] = got
	g, w := *got, *want
	g.Entries, w.Entries = nil, nil
	if !reflect.DeepEqual(g, w) {
		t.Errorf("%.60q:\n got %.300v\nwant %.300v", path, g, w)
	}
	if len(got.Entries) != len(want.Entries) {
		t.Fatalf("%.60q: %d entries, want %d", path, len(got.Entries), len(want.Entries))
	}
	for i, e := range got.Entries {
		if e.Name != want.Entries[i].Name {
			t.Fatalf("%.60q: entry %d is %q, want %q", path, i, e.Name, want.Entries[i].Name)
		}
		same(t, path+"/"+e.Name, e.Node, want.Entries[i].Node, seen)
	}
}

func TestTools(t *testing.T) {
	s := erofstest.New()
	_, meta, data := s.Write(t)
	for _, argv := range [][]string{
		{"fsck.erofs", "-d3", "--device=" + data, meta},
		{"dump.erofs", "-s", "--device=" + data, meta},
		{"dump.erofs", "-S", "--device=" + data, meta},
		{"dump.erofs", "--path=/sparse", "-e", "--device=" + data, meta},
	} {
		out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput()
		if err != nil || strings.Contains(string(out), "Err:") {
			t.Errorf("%v: %v\n%.3000s", argv, err, out)
		}
		t.Logf("%v\n%.1500s", argv, out)
	}
}

func TestSizes(t *testing.T) {
	for _, n := range []int{0, 1, 13, 1000} {
		d := erofstest.Dir()
		for i := range n {
			d.Entries = append(d.Entries, erofs.Entry{Name: strings.Repeat("x", 1+i/100) + string(rune('0'+i%100)), Node: erofstest.Node(unix.S_IFREG)})
		}
		erofstest.Sort(d)
		s := &erofstest.Sample{Root: d}
		meta, _, _ := s.Write(t)
		if got := open(t, meta).Inodes(); got != int64(n+1) || len(meta)%erofs.BlockSize != 0 {
			t.Errorf("%d files: %d inodes in %d bytes", n, got, len(meta))
		}
		if limit := 2*erofs.BlockSize + n*160; len(meta) > limit {
			t.Errorf("%d files took %d bytes, more than %d", n, len(meta), limit)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	file := func(f func(*erofs.Node)) *erofs.Node {
		n := erofstest.Node(unix.S_IFREG)
		f(n)
		return erofstest.Dir(erofs.Entry{Name: "dir", Node: erofstest.Dir(erofs.Entry{Name: "file", Node: n})})
	}
	hidden := erofstest.Dir()
	hidden.Entries = []erofs.Entry{{Name: "self", Node: hidden}}
	for name, tc := range map[string]struct {
		root *erofs.Node
		kind fault.Kind
		want string
	}{
		"no root":      {nil, fault.Invalid, "root"},
		"file as root": {erofstest.Node(unix.S_IFREG), fault.Invalid, "root"},
		"name":         {erofstest.Dir(erofs.Entry{Name: "a/b", Node: erofstest.Node(unix.S_IFREG)}), fault.Invalid, `"a/b"`},
		"dots":         {erofstest.Dir(erofs.Entry{Name: "..", Node: erofstest.Dir()}), fault.Invalid, `".."`},
		"long name":    {erofstest.Dir(erofs.Entry{Name: strings.Repeat("x", 256), Node: erofstest.Dir()}), fault.Invalid, "xxx"},
		"order":        {erofstest.Dir(erofs.Entry{Name: "b", Node: erofstest.Node(unix.S_IFREG)}, erofs.Entry{Name: "a", Node: erofstest.Node(unix.S_IFREG)}), fault.Invalid, "order"},
		"twice":        {erofstest.Dir(erofs.Entry{Name: "a", Node: erofstest.Node(unix.S_IFREG)}, erofs.Entry{Name: "a", Node: erofstest.Node(unix.S_IFREG)}), fault.Invalid, "order"},
		"no inode":     {erofstest.Dir(erofs.Entry{Name: "a"}), fault.Invalid, "no inode"},
		"loop":         {erofstest.Dir(erofs.Entry{Name: "a", Node: hidden}), fault.Invalid, "second name"},
		"no type":      {erofstest.Dir(erofs.Entry{Name: "a", Node: erofstest.Node(0o644)}), fault.Invalid, "type"},
		"empty target": {erofstest.Dir(erofs.Entry{Name: "a", Node: erofstest.Node(unix.S_IFLNK)}), fault.Invalid, "target"},
		"xattr":        {file(func(n *erofs.Node) { n.Xattrs = []erofs.Xattr{{Name: "btrfs.compression"}} }), fault.Unsupported, `"/dir/file"`},
		"xattr twice":  {file(func(n *erofs.Node) { n.Xattrs = []erofs.Xattr{{Name: "user.a"}, {Name: "user.a"}} }), fault.Invalid, "twice"},
		"xattr size":   {file(func(n *erofs.Node) { n.Xattrs = []erofs.Xattr{{Name: "user.a", Value: make([]byte, 65536)}} }), fault.Unsupported, "65535"},
		"xattrs of an inode": {file(func(n *erofs.Node) {
			for i := range 5 {
				n.Xattrs = append(n.Xattrs, erofs.Xattr{Name: fmt.Sprint("user.", i), Value: bytes.Repeat([]byte{byte(i)}, 60_000)})
			}
		}), fault.Unsupported, `"/dir/file"`},
		"outside of device": {file(func(n *erofs.Node) { n.Size, n.Extents = 5000, []erofs.Extent{{Size: 5000}} }), fault.Invalid, "device"},
		"unaligned":         {file(func(n *erofs.Node) { n.Size, n.Extents = 9000, []erofs.Extent{{Offset: 100, Size: 50}} }), fault.Invalid, "whole blocks"},
		"overlap":           {file(func(n *erofs.Node) { n.Size, n.Extents = 8192, []erofs.Extent{{Size: 4096}, {Size: 4096}} }), fault.Invalid, "overlaps"},
		"behind the end":    {file(func(n *erofs.Node) { n.Size, n.Extents = 100, []erofs.Extent{{Size: 4096}} }), fault.Invalid, "outside"},
		"too many chunks":   {file(func(n *erofs.Node) { n.Size, n.Extents = 1<<40, []erofs.Extent{{Offset: 4096, Size: 4096}} }), fault.Unsupported, "chunks"},
		"data":              {file(func(n *erofs.Node) { n.Size, n.Data = 4, []byte("five!") }), fault.Invalid, "metadata"},
		"device number":     {erofstest.Dir(erofs.Entry{Name: "a", Node: &erofs.Node{Mode: unix.S_IFCHR, Rdev: unix.Mkdev(5000, 1)}}), fault.Unsupported, "5000:1"},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			_, err := erofs.Write(&b, tc.root, erofs.Options{DeviceSize: erofs.BlockSize})
			if !fault.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v (%s), want %s with %q", err, fault.KindOf(err), tc.kind, tc.want)
			}
			if b.Len() > 0 {
				t.Errorf("wrote %d bytes", b.Len())
			}
		})
	}
}

type failing struct{ left int }

func (f *failing) Write(b []byte) (int, error) {
	if f.left -= len(b); f.left < 0 {
		return 0, errors.New("no more")
	}
	return len(b), nil
}

func TestWriteError(t *testing.T) {
	s := erofstest.New()
	if _, err := erofs.Write(&failing{left: 300_000}, s.Root, s.Options()); err == nil || !strings.Contains(err.Error(), "no more") {
		t.Errorf("got %v", err)
	}
}
