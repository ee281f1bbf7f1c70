package image_test

import (
	"bytes"
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/erofs/erofstest"
	"github.com/windlass-hpc/windlass/image"
	"github.com/windlass-hpc/windlass/internal/fault"
)

func wantKind(t *testing.T, err error, kind fault.Kind, words ...string) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Fatalf("got %v (%s), want an error of kind %s", err, fault.KindOf(err), kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q is missing in: %v", w, err)
		}
	}
}

func TestWhatIsUnpackedIsWhatWasPacked(t *testing.T) {
	s, img := sample(t)
	dir := filepath.Join(tmpfs(t), "tree")
	var last, all int64
	err := img.Unpack(t.Context(), dir, image.UnpackOptions{
		Skipped:  func(path, what string) { t.Errorf("skipped: %s: %s", path, what) },
		Progress: func(done, total int64) { last, all = done, total },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Compare(t, dir)
	if last == 0 || last > all {
		t.Errorf("the progress ends with %d of %d", last, all)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir+"/huge", &st); err != nil || st.Blocks*512 > 1<<20 {
		t.Errorf("a hole was filled: %d bytes, %v", st.Blocks*512, err)
	}
}

func TestUnpackFromAWebServer(t *testing.T) {
	root := erofstest.Dir()
	s := &erofstest.Sample{Root: root}
	data := erofstest.Random(200_000)
	root.Entries = []erofs.Entry{{Name: "f", Node: s.File(int64(len(data)), map[int64][]byte{0: data})}}
	st := newStore(t)
	publish(t, st, "a/b", root, s.Data, 3)
	h, err := image.NewHandler(st.Dir())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	web := httptest.NewServer(h)
	defer web.Close()
	dir := t.TempDir()
	if err := find(t, web.URL, "a/b").Unpack(t.Context(), dir, image.UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(dir + "/f"); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
}

func TestUnpackWantsAnEmptyPlace(t *testing.T) {
	st := newStore(t)
	publish(t, st, "a", erofstest.Dir(), nil, 1)
	img := find(t, st.Dir(), "a")
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/mine", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantKind(t, img.Unpack(t.Context(), dir, image.UnpackOptions{}), fault.Exists, "not empty")
}

// TestAHostileTreeStaysInside gives names that lead out; the writer of EROFS refuses most, so a link is what is left to try.
func TestAHostileTreeStaysInside(t *testing.T) {
	outside := t.TempDir()
	link := erofstest.Node(unix.S_IFLNK | 0o777)
	link.Target = outside
	s := &erofstest.Sample{}
	file := s.File(5, map[int64][]byte{0: []byte("evil!")})
	file.UID = 1234
	root := erofstest.Dir(erofs.Entry{Name: "a", Node: link}, erofs.Entry{Name: "b", Node: file})
	st := newStore(t)
	publish(t, st, "x", root, s.Data, 1)
	img := find(t, st.Dir(), "x")
	dir := filepath.Join(t.TempDir(), "new")
	for range 2 { // the second time there is something at every name
		err := img.Unpack(t.Context(), dir, image.UnpackOptions{})
		if exists(outside + "/b") {
			t.Fatal("it wrote outside")
		}
		if err != nil && !fault.Is(err, fault.Exists) {
			t.Fatal(err)
		}
	}
	var was, is unix.Stat_t
	if err := errors.Join(unix.Stat(outside, &was), unix.Lstat(dir+"/a", &is)); err != nil || was.Uid == 1234 || is.Mode&unix.S_IFMT != unix.S_IFLNK {
		t.Fatalf("%v, %+v", err, was)
	}
}

func TestAFailedUnpackingLeavesNothing(t *testing.T) {
	_, img := sample(t)
	ctx, cancel := context.WithCancel(t.Context())
	dir := filepath.Join(tmpfs(t), "tree")
	err := img.Unpack(ctx, dir, image.UnpackOptions{Progress: func(int64, int64) { cancel() }})
	if !errors.Is(err, context.Canceled) || exists(dir) {
		t.Fatalf("got %v; the directory is there: %v", err, exists(dir))
	}
}

func TestAttributesThatSteerOverlaysAreLeftOut(t *testing.T) {
	d := erofstest.Dir()
	d.Xattrs = []erofs.Xattr{{Name: "trusted.overlay.opaque", Value: []byte("y")}}
	st := newStore(t)
	publish(t, st, "a", erofstest.Dir(erofs.Entry{Name: "d", Node: d}), nil, 1)
	dir := t.TempDir()
	told := ""
	if err := find(t, st.Dir(), "a").Unpack(t.Context(), dir, image.UnpackOptions{Skipped: func(p, w string) { told = p + ": " + w }}); err != nil {
		t.Fatal(err)
	}
	if n, err := unix.Lgetxattr(dir+"/d", "trusted.overlay.opaque", nil); err != unix.ENODATA || !strings.Contains(told, "d: its attribute trusted.overlay.opaque") {
		t.Fatalf("%d, %v; told: %s", n, err, told)
	}
}
