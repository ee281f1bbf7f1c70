package cache

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/chunktest"
	"github.com/windlass-hpc/windlass/chunkfs/format"
)

// onDisk is what a directory really takes.
func onDisk(t testing.TB, dir string) int64 {
	t.Helper()
	sum := int64(0)
	err := filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error {
		var st unix.Stat_t
		if err == nil && unix.Lstat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
			sum += st.Blocks * 512
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// TestHolesNeverReachNeighbours evicts at random and looks at what is left.
func TestHolesNeverReachNeighbours(t *testing.T) {
	i := chunktest.New(t, chunktest.Options{Chunks: 300, Largest: 9000, Holes: true})
	c := open(t, t.TempDir(), 0)
	defer shut(t, c)
	m := add(t, c, i)
	defer m.Release()
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		m.hand = r.IntN(len(m.extents))
		var held []int
		for k := range m.extents {
			if r.IntN(3) == 0 {
				m.Hold(k)
				held = append(held, k)
			}
		}
		m.sweep(int64(r.IntN(len(i.Device))), 0)
		for _, k := range held {
			m.Drop(k)
		}
		for k, x := range i.Decoded.Extents {
			if x.Chunk != format.Zero && m.State(k) == Good && m.index.Algorithm.Sum(content(t, m, k)) != i.Decoded.Chunks[x.Chunk].Sum {
				t.Fatalf("extent %d lost bytes", k)
			}
			if x.Chunk != format.Zero && m.State(k) == Missing && r.IntN(2) == 0 {
				if err := m.Fill(k, plain(i, k), true, Wanted); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	c.now.Add(1)
	m.sweep(1<<40, 0)
	if n := m.allocated(); n != 0 || m.Cached() != 0 {
		t.Errorf("%d bytes are taken when all is evicted", n)
	}
}

func content(t testing.TB, m *Image, k int) []byte {
	t.Helper()
	b := make([]byte, m.index.Extents[k].Size)
	if _, err := m.data.ReadAt(b, m.index.Start(k)); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestQuota(t *testing.T) {
	const quota = 300 << 10
	dir := t.TempDir()
	c := open(t, dir, quota)
	defer shut(t, c)
	images := make([]*chunktest.Image, 4)
	for n := range images {
		images[n] = chunktest.New(t, chunktest.Options{Seed: uint64(n), Chunks: 32, Metadata: 4000})
		m := add(t, c, images[n])
		fill(t, m, images[n], Wanted)
		m.Release()
		if got := onDisk(t, filepath.Join(dir, "v1", "images")); got > quota {
			t.Fatalf("%d bytes on the disk, of %d", got, quota)
		}
	}
	// The last is whole, the ones before it went, the longest unused first.
	m, err := c.Lookup(t.Context(), images[3].Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	if right(t, m, images[3]) < 25 {
		t.Error("the latest image has been evicted")
	}
	if _, err := c.Lookup(t.Context(), images[0].Digest); err == nil {
		t.Error("the oldest image is still there")
	}
	if s := c.Stats(); s.Evicted == 0 || s.Bytes > quota || s.Quota != quota {
		t.Errorf("%+v", s)
	}
}

func TestWhatIsNotEvicted(t *testing.T) {
	for name, keep := range map[string]func(m *Image) error{
		"pinned":      func(m *Image) error { err := m.SetPin(true); m.Release(); return err },
		"direct":      func(m *Image) error { return m.SetDirect(true) },
		"working set": func(*Image) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			a, b := chunktest.New(t, chunktest.Options{Seed: 1}), chunktest.New(t, chunktest.Options{Seed: 2})
			c := open(t, t.TempDir(), 700<<10)
			defer shut(t, c)
			m := add(t, c, a)
			fill(t, m, a, Wanted)
			if !m.Complete() {
				t.Fatal("the quota is too small for this test")
			}
			if err := keep(m); err != nil {
				t.Fatal(err)
			}
			n := add(t, c, b)
			defer n.Release()
			if got := fill(t, n, b, Wanted); got > 20 {
				t.Errorf("%d chunks found room", got)
			}
			if !m.Complete() {
				t.Error("chunks were evicted")
			}
			if c.Stats().Refused == 0 {
				t.Error("nothing was refused")
			}
		})
	}
}

func TestColdChunksOfRunningImagesGo(t *testing.T) {
	a, b := chunktest.New(t, chunktest.Options{Seed: 1}), chunktest.New(t, chunktest.Options{Seed: 2})
	c := open(t, t.TempDir(), 800<<10)
	defer shut(t, c)
	m, n := add(t, c, a), add(t, c, b)
	defer m.Release()
	defer n.Release()
	fill(t, m, a, Wanted)
	c.now.Add(c.workingSet + 1)
	hot := []int{3, 4, 5, 40}
	for _, k := range hot {
		m.Hold(k)
		m.Drop(k)
	}
	m.Hold(50)
	defer m.Drop(50)
	c.now.Add(c.workingSet - 1)
	if got := fill(t, n, b, Spare); got == len(b.Decoded.Extents) {
		t.Error("what nobody wants has pushed out what somebody wanted")
	}
	for range 2 { // what was kept as spare goes first, and comes again
		fill(t, n, b, Wanted)
	}
	if !n.Complete() {
		t.Errorf("%d of %d bytes found room", n.Cached(), n.Size())
	}
	if m.Cached() > m.Size()/2 {
		t.Error("nothing was evicted")
	}
	for _, k := range append(hot, 50) {
		if m.State(k) != Good {
			t.Errorf("extent %d was in use and is gone", k)
		}
	}
	right(t, m, a)
	right(t, n, b)
}

// TestDirectOutlivesTheServer evicts nothing that the kernel may still read until the next server has said what it took up.
func TestDirectOutlivesTheServer(t *testing.T) {
	a, b := chunktest.New(t, chunktest.Options{Seed: 1}), chunktest.New(t, chunktest.Options{Seed: 2})
	dir := t.TempDir()
	c := open(t, dir, 700<<10)
	m := add(t, c, a)
	fill(t, m, a, Wanted)
	if err := m.SetDirect(true); err != nil {
		t.Fatal(err)
	}
	shut(t, c) // as if killed

	c = reopen(t, dir, 700<<10)
	defer shut(t, c)
	n := add(t, c, b)
	defer n.Release()
	fill(t, n, b, Wanted)
	if err := c.Remove(t.Context(), a.Digest); err == nil {
		t.Error("it was removed")
	}
	if got, err := os.ReadFile(file(dir, a, dataFile)); err != nil || string(got) != string(a.Device) {
		t.Fatalf("the kernel would read wrong bytes: %v", err)
	}
	c.Settle(a.Digest) // it could not be taken up, and the kernel reads it all the same
	fill(t, n, b, Wanted)
	if got, err := os.ReadFile(file(dir, a, dataFile)); err != nil || string(got) != string(a.Device) {
		t.Fatalf("the kernel would read wrong bytes of what was not taken up: %v", err)
	}
	c.Settle()
	fill(t, n, b, Wanted)
	if !n.Complete() {
		t.Error("nothing was evicted after the server settled")
	}
}

func TestPinsAreKept(t *testing.T) {
	dir, i := kept(t)
	for _, want := range []bool{false, true, true, false} {
		c := open(t, dir, 0)
		m, err := c.Lookup(t.Context(), i.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.SetPin(want); err != nil {
			t.Fatal(err)
		}
		m.Release()
		shut(t, c)
		c = open(t, dir, 0)
		if infos := c.Images(); len(infos) != 1 || infos[0].Pinned != want {
			t.Errorf("%+v, want pinned %v", infos, want)
		}
		shut(t, c)
	}
}

// tmpfs mounts a small one.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("windlass-test", dir, "tmpfs", unix.MS_NOSUID, "mode=0700,size="+size); err != nil {
		t.Skipf("NOT TESTED: a full file system: mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

func TestDefaultQuotaOfATmpfs(t *testing.T) {
	c := open(t, tmpfs(t, "8m"), 0)
	defer shut(t, c)
	if q := c.Stats().Quota; q > 4<<20 || q < 3<<20 {
		t.Errorf("quota %d of 8 MiB", q)
	}
}

// TestAFullDisk has others fill the file system; when they leave, chunks are kept again.
func TestAFullDisk(t *testing.T) {
	i := chunktest.New(t, chunktest.Options{Chunks: 200})
	dir := tmpfs(t, "4m")
	c := open(t, dir, 1<<30)
	defer shut(t, c)
	m := add(t, c, i)
	defer m.Release()
	other := filepath.Join(dir, "other")
	f, err := os.Create(other)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	for left := int64(1); left > 0; {
		if _, err := f.Write(b); errors.Is(err, unix.ENOSPC) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	if n := fill(t, m, i, Wanted); n != 0 || m.Cached() != 0 {
		t.Fatalf("%d chunks found room on a full file system", n)
	}
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * pause); !m.Complete() && time.Now().Before(deadline); {
		fill(t, m, i, Wanted)
	}
	if n := right(t, m, i); n != len(i.Decoded.Extents) {
		t.Errorf("%d of %d extents after there was room again", n, len(i.Decoded.Extents))
	}
}

// TestManyAtOnce has readers, writers and eviction on images that together are far above the quota.
func TestManyAtOnce(t *testing.T) {
	a := chunktest.New(t, chunktest.Options{Seed: 1, Chunks: 100, Holes: true})
	images := []*chunktest.Image{a, chunktest.New(t, chunktest.Options{Seed: 2, Chunks: 100, Like: a})}
	const quota = 600 << 10
	dir := t.TempDir()
	c := open(t, dir, quota)
	defer shut(t, c)
	c.workingSet = 0
	var wg sync.WaitGroup
	for n := range 8 {
		i := images[n%2]
		wg.Go(func() {
			m := add(t, c, i)
			defer m.Release()
			r := rand.New(rand.NewPCG(uint64(n), 9))
			for range 1500 {
				use(t, m, i, r.IntN(len(i.Decoded.Extents)))
			}
		})
	}
	wg.Wait()
	if got := onDisk(t, filepath.Join(dir, "v1", "images")); got > quota {
		t.Errorf("%d bytes on the disk, of %d", got, quota)
	}
	if c.Stats().Evicted == 0 {
		t.Error("nothing was evicted")
	}
}

// use reads an extent as a reader does.
func use(t *testing.T, m *Image, i *chunktest.Image, k int) {
	s := m.Hold(k)
	defer m.Drop(k)
	if s == Suspect {
		s = m.Check(k)
	}
	if s == Missing {
		b := m.Elsewhere(k, nil)
		if b == nil {
			b = plain(i, k)
		}
		if err := m.Fill(k, b, true, Wanted); err != nil {
			if !isFull(err) {
				t.Error(err)
			}
			return
		}
	}
	b := make([]byte, m.index.Extents[k].Size)
	if _, err := m.data.ReadAt(b, m.index.Start(k)); err != nil || string(b) != string(plain(i, k)) {
		t.Errorf("extent %d, state %d: wrong bytes, %v", k, m.State(k), err)
	}
}
