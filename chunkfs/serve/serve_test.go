package serve

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
)

// TestModes mounts in every mode, one after the other, and compares every byte.
func TestModes(t *testing.T) {
	w := newWorld(t)
	lazily := w.ask("1", control.Auto)
	if o := w.mount(lazily); o.Mode != control.Lazy || o.Image != w.image || o.Device != filepath.Join(w.place.Data(), "1") {
		t.Fatalf("opened %+v", o)
	}
	w.sameTree(lazily.Target)
	st := w.stats("1")
	if st.Mode != control.Lazy || !st.Complete || st.Cached != st.Size || st.Fetched == 0 || st.Errors != 0 || !st.Kept || len(st.Origins) != 1 || st.RSS == 0 {
		t.Errorf("stats %s", pretty(st))
	}
	t.Logf("figure: chunkfs server with one image: %d MiB resident", st.RSS>>20)

	pure := w.ask("2", control.FUSE)
	if o := w.mount(pure); o.Mode != control.FUSE {
		t.Fatalf("opened %+v", o)
	}
	w.sameTree(pure.Target)
	if at, err := fsmount.At(pure.Target); err != nil || at == nil || !strings.Contains(at.Options, "nodev") {
		t.Errorf("its device nodes are devices: %+v, %v", at, err)
	}

	direct := w.ask("3", control.Auto) // all of it is there by now
	if o := w.mount(direct); o.Mode != control.Direct || strings.HasPrefix(o.Device, w.place.Data()) {
		t.Fatalf("opened %+v", o)
	}
	w.sameTree(direct.Target)
	if st := w.stats("3"); !st.Complete || st.Mode != control.Direct {
		t.Errorf("stats %s", pretty(st))
	}
}

// TestDirectFetchesAll asks for mode direct with nothing in the cache.
func TestDirectFetchesAll(t *testing.T) {
	w := newWorld(t)
	o := w.ask("1", control.Direct)
	if opened := w.mount(o); opened.Mode != control.Direct {
		t.Fatalf("opened %+v", opened)
	}
	w.web.Close()
	w.sameTree(o.Target)
}

// TestOpenAndClose is about what a driver may say twice, and about what is wrong.
func TestOpenAndClose(t *testing.T) {
	w := newWorld(t)
	o := w.ask("7", control.Lazy)
	first := w.mount(o)
	again, err := w.client.Open(t.Context(), o)
	if err != nil || again != first {
		t.Errorf("the second time: %+v, %v", again, err)
	}
	other := o
	other.Verify = false
	if _, err := w.client.Open(t.Context(), other); !fault.Is(err, fault.Exists) {
		t.Errorf("another Open of the same ID: %v", err)
	}
	all, err := w.client.List(t.Context())
	if err != nil || len(all) != 1 || all[0].ID != "7" || strings.Contains(pretty(all), "secret") {
		t.Errorf("list: %s, %v", pretty(all), err)
	}
	if info, err := os.Stat(w.place.Mount("7")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("record: %v, %v", info, err)
	}
	if err := w.client.Close(t.Context(), "7"); !fault.Is(err, fault.Busy) {
		t.Errorf("close while it is mounted: %v", err)
	}
	w.sameTree(o.Target)
	if err := unix.Unmount(o.Target, 0); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.client.Close(t.Context(), "7"); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if _, err := os.Lstat(first.Device); !os.IsNotExist(err) {
		t.Errorf("the device file after Close: %v", err)
	}
	if _, err := w.client.Stats(t.Context(), "7"); !fault.Is(err, fault.NotFound) {
		t.Errorf("stats after Close: %v", err)
	}
	w.refused()
}

// TestRevoked: an order that comes after the driver has given it up opens nothing; the next one does.
func TestRevoked(t *testing.T) {
	w := newWorld(t)
	o := w.ask("7", control.Lazy)
	o.Order = "late"
	if err := w.client.Revoke(t.Context(), "7", o.Order); err != nil {
		t.Errorf("revoke: %v", err)
	}
	if _, err := w.client.Open(t.Context(), o); !fault.Is(err, fault.BadState) {
		t.Errorf("open: %v (%s)", err, fault.KindOf(err))
	}
	if left, err := os.ReadDir(w.place.Mounts()); err != nil || len(left) != 0 {
		t.Errorf("records left: %v, %v", left, err)
	}
	o.Order = "next"
	if _, err := w.client.Open(t.Context(), o); err != nil {
		t.Errorf("open: %v", err)
	}
	if err := w.client.Revoke(t.Context(), "7", o.Order); err != nil {
		t.Errorf("revoke what was opened: %v", err)
	}
	if left, err := os.ReadDir(w.place.Mounts()); err != nil || len(left) != 0 {
		t.Errorf("records left: %v, %v", left, err)
	}
}

// refused opens what cannot be opened, which leaves nothing.
func (w *world) refused() {
	w.t.Helper()
	for what, c := range map[string]struct {
		change func(*control.Open)
		kind   fault.Kind
	}{
		"no tag":         {func(o *control.Open) { o.Image = "nothing" }, fault.NotFound},
		"another digest": {func(o *control.Open) { o.Digest = "blake3:" + strings.Repeat("0", 64) }, fault.Corrupt},
		"bad ID":         {func(o *control.Open) { o.ID = "a.b" }, fault.Invalid},
		"bad mode":       {func(o *control.Open) { o.Mode = "quick" }, fault.Invalid},
		"no EROFS":       {func(o *control.Open) { o.Kernel = "" }, fault.Unsupported},
		"no origin":      {func(o *control.Open) { o.Origins = nil }, fault.Invalid},
		"no target":      {func(o *control.Open) { o.Mode, o.Target = control.FUSE, "/nowhere/at/all" }, fault.NotFound},
	} {
		o := w.ask("8", control.Lazy)
		c.change(&o)
		if _, err := w.client.Open(w.t.Context(), o); !fault.Is(err, c.kind) {
			w.t.Errorf("%s: %v (%s)", what, err, fault.KindOf(err))
		}
	}
	left, err := os.ReadDir(w.place.Mounts())
	if err != nil || len(left) != 0 {
		w.t.Errorf("records left: %v, %v", left, err)
	}
}

// TestPinned opens what the cache has without an origin, when the digest is said.
func TestPinned(t *testing.T) {
	w := newWorld(t)
	first := w.ask("1", control.Lazy)
	first.Prefetch = control.PrefetchAll
	w.mount(first)
	w.sameTree(first.Target)
	w.web.Close()
	second := w.ask("2", control.Lazy)
	second.Digest = w.image.String()
	w.mount(second)
	w.sameTree(second.Target)
	third := w.ask("3", control.FUSE)
	third.Image = w.image.String()
	w.mount(third)
	w.sameTree(third.Target)
}

// TestEnds has the server end when nobody needs it, and leave nothing but its log.
func TestEnds(t *testing.T) {
	w := newWorld(t)
	o := w.ask("1", control.Lazy)
	w.mount(o)
	w.hold.Close() // the mount goes on without the daemon
	w.sameTree(o.Target)
	if err := unix.Unmount(o.Target, 0); err != nil {
		t.Fatal(err)
	}
	if err := w.client.Close(t.Context(), "1"); err != nil {
		t.Fatal(err)
	}
	w.awaitServerGone()
	entries, err := os.ReadDir(string(w.place))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains([]string{"keeper.lock", "server.log", "pid", "data", "mounts"}, e.Name()) {
			t.Errorf("%s is left", e.Name())
		}
	}
}

// TestTrace records what is read.
func TestTrace(t *testing.T) {
	for _, mode := range []control.Mode{control.Lazy, control.FUSE} {
		t.Run(string(mode), func(t *testing.T) {
			w := newWorld(t)
			o := w.ask("1", mode)
			w.mount(o)
			if err := w.client.StartTrace(t.Context(), "1"); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"d6/x/f6", "d4/x/f4"} {
				if _, err := os.ReadFile(filepath.Join(o.Target, name)); err != nil {
					t.Fatal(err)
				}
			}
			tr, err := w.client.StopTrace(t.Context(), "1")
			if err != nil || tr.Image != w.image || tr.Role != "boot" || len(tr.Chunks) < 5 || !slices.Equal(tr.Paths[:2], []string{"d6/x/f6", "d4/x/f4"}) {
				t.Errorf("trace %+v, %v", tr, err)
			}
			files, err := w.client.Files(t.Context(), "1", true)
			if err != nil || len(files) < 2 || files[0].Path != "d4/x/f4" || files[0].Bytes < 70_000 || files[0].Reads == 0 || files[0].First == 0 {
				t.Errorf("files %+v, %v", files, err)
			}
		})
	}
}
