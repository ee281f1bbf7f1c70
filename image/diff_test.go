package image_test

import (
	"encoding/json"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/erofs/erofstest"
	"github.com/windlass-hpc/windlass/image"
)

var update = flag.Bool("update", false, "write the files that the tests compare with")

// versions makes two versions of a small tree.
func version(second bool) *erofstest.Sample {
	s := &erofstest.Sample{Root: erofstest.Dir()}
	add := func(name string, n *erofs.Node) *erofs.Node {
		s.Root.Entries = append(s.Root.Entries, erofs.Entry{Name: name, Node: n})
		return n
	}
	file := func(size int) *erofs.Node { return s.File(int64(size), map[int64][]byte{0: erofstest.Random(size)}) }
	if second {
		add("before", file(4000)) // all that follows moves on the device, and is cut otherwise
	}
	add("content", file(map[bool]int{false: 20_000, true: 20_001}[second]))
	add("same", file(50_000))
	add("same-sparse", s.File(1<<20, map[int64][]byte{1 << 16: erofstest.Random(99)}))
	other := add("same-size", s.File(10, map[int64][]byte{0: []byte(map[bool]string{false: "0123456789", true: "01234x6789"}[second])}))
	meta := add("meta", file(1))
	link := add("link", erofstest.Node(unix.S_IFLNK|0o777))
	link.Target = "somewhere"
	turned := add("turned", erofstest.Node(unix.S_IFIFO|0o600))
	a := add("name-a", file(77))
	b := a
	inner := erofstest.Dir(erofs.Entry{Name: "a\xff", Node: file(3)}, erofs.Entry{Name: "b", Node: erofstest.Dir()})
	if second {
		meta.Mode, meta.UID, meta.ModTime = meta.Mode|0o111, 5, meta.ModTime.Add(time.Nanosecond)
		meta.Xattrs = []erofs.Xattr{{Name: "user.x", Value: []byte("1")}}
		other.GID = 7
		link.Target = "elsewhere"
		b = file(77)
		turned.Mode = unix.S_IFDIR | 0o700
		turned.Entries = inner.Entries
	} else {
		add("gone", inner)
	}
	add("name-b", b)
	erofstest.Sort(s.Root)
	return s
}

func TestDiffSaysWhatChanged(t *testing.T) {
	st := newStore(t)
	for i, tag := range []string{"v1", "v2"} {
		v := version(i == 1)
		publish(t, st, tag, v.Root, v.Data, uint64(i))
	}
	a, b := find(t, st.Dir(), "v1"), find(t, st.Dir(), "v2")
	d, err := image.Compare(t.Context(), a, b)
	if err != nil {
		t.Fatal(err)
	}
	d.From, d.To = "", ""
	got, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/diff.golden"
	if *update {
		if err := os.WriteFile(golden, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || cmp.Diff(string(want), string(got)+"\n") != "" {
		t.Errorf("%v\n%s", err, cmp.Diff(string(want), string(got)+"\n"))
	}
	none, err := image.Compare(t.Context(), a, a)
	if err != nil || len(none.Added)+len(none.Removed)+len(none.Changed)+none.Chunks.New+none.Chunks.Gone > 0 || none.Chunks.Shared == 0 {
		t.Errorf("with itself: %+v, %v", none, err)
	}
}

func TestListAndSummary(t *testing.T) {
	st := newStore(t)
	v := version(false)
	d := publish(t, st, "v1", v.Root, v.Data, 1)
	w := version(true)
	other := publish(t, st, "v2", w.Root, w.Data, 1)
	if err := st.Pin(t.Context(), other, "rack 3"); err != nil {
		t.Fatal(err)
	}
	if _, err := st.RemoveTag(t.Context(), "v2"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(st.Dir()+"/tags/bad", []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	list, err := image.List(st.Dir())
	if err != nil || len(list) != 3 || list[0].Tag != "bad" || list[0].Error == "" || list[1].Image != d.String() || list[2].Image != other.String() || !list[2].Pinned {
		t.Fatalf("got %+v, %v", list, err)
	}
	s, err := find(t, st.Dir(), other.String()).Summary(t.Context())
	if err != nil || s.Pinned != "rack 3" || s.Chunks == 0 || s.Packs[0].Used > s.Packs[0].Size || s.Device != int64(len(w.Data)) || s.Largest < s.Median {
		t.Fatalf("got %+v, %v", s, err)
	}
	if _, err := image.List("http://x/"); err == nil {
		t.Error("a web server was listed")
	}
}
