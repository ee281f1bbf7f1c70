package corrupt

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/mount/chunk"
	"github.com/windlass-hpc/windlass/mount/mounttest"
	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/daemon"
)

func TestMain(m *testing.M) {
	code := m.Run()
	daemon.Clean()
	os.Exit(code)
}

// node is a driver with its server and keeper, and a web server with a store.
type node struct {
	t       *testing.T
	driver  *chunk.Driver
	starter *control.Starter
	url     string
}

// begin starts nothing yet: the first mount does. What is left in the end is an error.
func begin(t *testing.T, store string) *node {
	t.Helper()
	programs := daemon.Build(t)
	disk, err := os.MkdirTemp("/var/tmp", "windlass-corrupt-") // the kernel mounts files of a disk
	must(t, err)
	cfg := control.StartConfig{RunDir: t.TempDir(), Shim: programs.Shim, Server: programs.Windlass, CacheDir: filepath.Join(disk, "cache")}
	n := &node{t: t, starter: control.NewStarter(cfg)}
	n.driver = chunk.New(chunk.Config{Instance: "windlass-corrupttest", Starter: n.starter, CacheDir: cfg.CacheDir})
	web := httptest.NewServer(http.FileServer(http.Dir(store)))
	n.url = web.URL
	t.Cleanup(func() {
		n.starter.Close()
		for deadline := time.Now().Add(deadline); n.starter.Alive(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Error("the server goes on although nobody needs it")
				break
			}
		}
		web.Close()
		mounttest.NoLeak(t, cfg.RunDir)
		if log, err := os.ReadFile(n.starter.Place().Log()); err == nil && t.Failed() {
			t.Logf("the server said:\n%s", log)
		}
		must(t, os.RemoveAll(disk))
	})
	return n
}

func (n *node) spec(mode string, digest format.Digest) *models.Mount {
	tag, prefetch := tagName, "none"
	p := &models.MountChunkfs{Image: &tag, Origins: []*models.ChunkfsOrigin{{URL: &n.url}}, Mode: &mode, Prefetch: &prefetch}
	if !digest.IsZero() {
		p.Digest = digest.String()
	}
	return &models.Mount{Kind: models.MountKindChunkfs, Chunkfs: p}
}

func (n *node) mount(mode string) (target mount.Target) {
	n.t.Helper()
	target = mounttest.Place(n.t)
	a, err := n.driver.Mount(n.t.Context(), 1, n.spec(mode, format.Digest{}), nil, target)
	must(n.t, err)
	n.t.Cleanup(func() {
		if err := n.driver.Unmount(context.Background(), a, false); err != nil {
			n.t.Error(err)
		}
	})
	return target
}

// TestBadChunkUnderTheKernel reads an image with a bad chunk through the kernel. What does not touch the chunk is right, what does is an
// input error, again and again; the server says which chunk it is. Once the origin has been mended the same mount reads right.
func TestBadChunkUnderTheKernel(t *testing.T) {
	for _, mode := range []string{"lazy", "fuse"} {
		t.Run(mode, func(t *testing.T) {
			i := large(t)
			n := begin(t, i.dir)
			bad := uint32(len(i.index.Chunks) / 2)
			c := i.index.Chunks[bad]
			f := openFile(t, i.pack(int(c.Pack)))
			bit := int(c.Offset+c.Stored/2) * 8
			f.flip(t, bit)
			dir := n.mount(mode).Dir
			hurt := i.readTree(t, dir, true)
			if len(hurt) == 0 {
				t.Fatal("every file can be read")
			}
			st, err := control.Client{Socket: n.starter.Place().Socket()}.Stats(t.Context(), "1")
			must(t, err)
			if !strings.Contains(st.LastError, c.Sum.String()) || st.Corrupt == 0 || st.Errors == 0 {
				t.Errorf("the server says %d corrupt chunks, %d errors, %q; want %s", st.Corrupt, st.Errors, st.LastError, c.Sum)
			}
			f.heal(t, bit)
			began := time.Now()
			if hurt := i.readTree(t, dir, false); len(hurt) > 0 {
				t.Errorf("%v cannot be read although the origin is mended", hurt)
			}
			t.Logf("figure: %s: a bad chunk made %d of %d files fail, named; mended, all were right in %v without a new mount",
				mode, len(hurt), len(i.want), time.Since(began).Round(time.Millisecond))
		})
	}
}

// readTree reads all files below dir and gives those that fail. Where damage is known, they must do so with EIO, twice.
func (i *image) readTree(t *testing.T, dir string, damaged bool) (failed []string) {
	t.Helper()
	for path := range i.want {
		full := filepath.Join(dir, path)
		if st, err := os.Lstat(full); err != nil || !st.Mode().IsRegular() {
			must(t, err)
			continue
		}
		_, err := os.ReadFile(full)
		if err == nil {
			continue
		}
		failed = append(failed, path)
		if _, again := os.ReadFile(full); damaged && (!errors.Is(err, unix.EIO) || !errors.Is(again, unix.EIO)) {
			t.Errorf("%s: %v, then %v", path, err, again)
		}
	}
	if diff := i.want.without(failed).diff(treeOf(t, dir, failed...)); diff != "" {
		t.Errorf("WRONG: %s", diff)
	}
	return failed
}

// TestBadChunkForDirect asks for a mount of which all must be there: it cannot be, and the error says why.
func TestBadChunkForDirect(t *testing.T) {
	i := large(t)
	n := begin(t, i.dir)
	c := i.index.Chunks[3]
	f := openFile(t, i.pack(int(c.Pack)))
	f.flip(t, int(c.Offset)*8+800)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	target := mounttest.Place(t)
	_, err := n.driver.Mount(ctx, 1, n.spec("direct", format.Digest{}), nil, target)
	if err == nil || !strings.Contains(err.Error(), c.Sum.String()) {
		t.Errorf("mount with a bad chunk: %v (%s), want %s named", err, fault.KindOf(err), c.Sum)
	}
	f.heal(t, int(c.Offset)*8+800)
	a, err := n.driver.Mount(t.Context(), 1, n.spec("direct", format.Digest{}), nil, target)
	must(t, err)
	if hurt := i.readTree(t, target.Dir, false); len(hurt) > 0 {
		t.Errorf("%v cannot be read", hurt)
	}
	must(t, n.driver.Unmount(t.Context(), a, false))
}

// TestImageReplayed points a tag to an older image of the same store, whole and right in itself: who has named the digest is not given it.
func TestImageReplayed(t *testing.T) {
	older, newer := swaps(t)
	tag := newer.description()["tag"]
	write(t, tag, []byte(older.digest.String()+"\n"))
	n := begin(t, newer.dir)
	target := mounttest.Place(t)
	for _, mode := range []string{"lazy", "direct", "fuse"} {
		_, err := n.driver.Mount(t.Context(), 1, n.spec(mode, newer.digest), nil, target)
		if !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), older.digest.String()) {
			t.Errorf("%s: an older image in place of the one that was named: %v (%s)", mode, err, fault.KindOf(err))
		}
	}
	// The older one's manifest under the name of the newer one's.
	write(t, tag, []byte(newer.digest.String()+"\n"))
	write(t, newer.blob(newer.digest), bytes.Clone(read(t, older.blob(older.digest))))
	_, err := n.driver.Mount(t.Context(), 1, n.spec("lazy", newer.digest), nil, target)
	if !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), newer.digest.String()) {
		t.Errorf("an older manifest under the name of the newer one: %v (%s)", err, fault.KindOf(err))
	}
}
