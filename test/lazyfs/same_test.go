package lazyfs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/sametree"
)

// TestEveryModeShowsTheTree builds images from a tree with one of everything and from a real Debian, and compares what is mounted, with
// an empty cache, in every mode there is, with the tree: every path, every byte.
func TestEveryModeShowsTheTree(t *testing.T) {
	for name, tree := range map[string]string{"nasty": nasty(t), "debian": debian(t)} {
		t.Run(name, func(t *testing.T) {
			img := build(t, &image{tree: tree}, filepath.Join(tempDir(t), "store"), "same")
			origin := serve(t, img.store)
			t.Run("lazy, then direct", func(t *testing.T) { lazyThenDirect(t, img, origin, tempDir(t), "file") })
			t.Run("lazy, from loop devices", func(t *testing.T) { lazyThenDirect(t, img, origin, tmpfs(t, 512<<20), "loop") })
			t.Run("fuse", func(t *testing.T) {
				w := begin(t)
				m := w.mount(img, "fuse", nil, origin.url)
				sametree.Compare(t, tree, m.Mountpoint)
				w.unmount(m)
				w.untouched()
			})
		})
	}
}

// debian is the tree that test/rootfs.sh makes.
func debian(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("WINDLASS_CACHE")
	if dir == "" {
		dir = "/var/cache/windlass-test"
	}
	if _, err := os.Stat(dir + "/debian-rootfs/etc/os-release"); err != nil {
		t.Fatalf("%v: make it with test/rootfs.sh", err)
	}
	return dir + "/debian-rootfs"
}

// lazyThenDirect mounts an image of which nothing is there, and once more when all of it is.
func lazyThenDirect(t *testing.T, img *image, origin *web, cache, backing string) {
	w := beginAt(t, cache)
	all := "all"
	m := w.mount(img, "auto", func(p *models.MountChunkfs) { p.Prefetch = &all }, origin.url)
	w.is(m, "lazy", backing)
	sametree.Compare(t, img.tree, m.Mountpoint)
	w.complete(m)
	again := w.mount(img, "auto", nil, origin.url)
	w.is(again, "direct", backing)
	sametree.Compare(t, img.tree, again.Mountpoint)
	w.unmount(m)
	w.unmount(again)
	w.untouched()
}

// is holds that a mount is of a mode, and that the kernel reads it as said: from files or from loop devices.
func (w *world) is(m *models.Mount, mode, backing string) {
	w.t.Helper()
	if s := w.status(m); s.Mode != mode {
		w.t.Errorf("mount %d is of mode %q, want %s: %s", m.ID, s.Mode, mode, s.Error)
	}
	at, err := fsmount.At(m.Mountpoint)
	if err != nil || at == nil || at.FSType != "erofs" {
		w.t.Fatalf("at %s is %+v, %v", m.Mountpoint, at, err)
	}
	if loop := strings.HasPrefix(at.Source, "/dev/loop"); loop != (backing == "loop") {
		w.t.Errorf("mount %d is of %s, want a %s", m.ID, at.Source, backing)
	}
}
