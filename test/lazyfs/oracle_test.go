package lazyfs

import (
	"io/fs"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/swagger/models"
)

// TestEveryByteWhateverHappens reads at random, in every way, while the cache has room for a third of what is read, another image comes
// and goes in it, all is fetched ahead, one origin lies, and both fail now and then: every byte is right and nobody gets an error.
func TestEveryByteWhateverHappens(t *testing.T) {
	for name, cache := range map[string]func(*testing.T) string{
		"from files":        tempDir,
		"from loop devices": func(t *testing.T) string { return tmpfs(t, 256<<20) },
	} {
		t.Run(name, func(t *testing.T) { whateverHappens(t, cache(t)) })
	}
}

func whateverHappens(t *testing.T, cache string) {
	length, rounds := 4*time.Second, 3
	if n, long := kills(t); long { // running images give up what nobody has wanted for half a minute
		length, rounds = time.Duration(n)*100*time.Millisecond, 20
	}
	img, next := shared.pair(t)
	quota := int64(30 << 20)
	honest, liar := serve(t, img.store), serve(t, img.store)
	honest.sick.Store(100)
	liar.sick.Store(100)
	liar.liar.Store(true)
	w := beginAt(t, cache, "--chunkfs-cache-size", "30MiB")
	ahead := "all"
	all := func(p *models.MountChunkfs) { p.Prefetch = &ahead }
	var mounts []*models.Mount
	var some []*readers
	for _, mode := range []string{"lazy", "fuse"} {
		m := w.mount(img, mode, all, liar.url, honest.url)
		mounts, some = append(mounts, m), append(some, read(t, img, m.Mountpoint))
	}
	for range rounds {
		guest := w.mount(next, "auto", all, honest.url, liar.url)
		r := read(t, next, guest.Mountpoint)
		time.Sleep(length / time.Duration(rounds)) // as long as it is to be read
		goOn(t, append(some, r))
		w.done([]*models.Mount{guest}, []*readers{r})
		if taken := onDisk(t, cache); taken > quota+quota/8 {
			t.Errorf("the cache takes %d bytes, its quota is %d", taken, quota)
		}
	}
	corrupt := w.status(mounts[0]).Corrupt + w.status(mounts[1]).Corrupt
	if corrupt == 0 {
		t.Error("no chunk was refused: nobody has lied")
	}
	for _, r := range some {
		t.Logf("figure: %d chunks refused; %s", corrupt, r)
	}
	w.ended(mounts, some)
}

// onDisk is what the files below dir take.
func onDisk(t *testing.T, dir string) int64 {
	t.Helper()
	sum := int64(0)
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil && unix.Lstat(path, &st) == nil { // it may have gone
			sum += st.Blocks * 512
		}
		return nil
	})
	must(t, err)
	return sum
}
