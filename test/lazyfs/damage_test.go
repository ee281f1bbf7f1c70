package lazyfs

import (
	"encoding/json"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/swagger/models"
)

// TestDamagedCache damages the files of a cache that has all of an image, while nobody has it open, one after the other and then all at
// once: bits flip, ends are missing, files are empty. The next mounts show every byte right, or say what is wrong.
func TestDamagedCache(t *testing.T) {
	rounds := 1
	if n, long := kills(t); long {
		rounds = 1 + n/100
	}
	img, _ := shared.pair(t)
	origin := serve(t, img.store)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 1))
	w := begin(t)
	w.filled(img, origin)
	damaged := 0
	for round := range rounds {
		files := w.cacheFiles()
		if len(files) < 6 {
			t.Fatalf("the cache has the files %q only", files)
		}
		for _, path := range append(files, "") {
			damaged += w.damage(path, random)
			if !w.undamaged(img, origin) {
				t.Fatalf("round %d, seed %d, %q", round, seed, path)
			}
		}
	}
	t.Logf("figure: %d damages in the files of the cache: 0 wrong bytes", damaged)
}

// filled has the cache hold all of an image, and nobody has it open.
func (w *world) filled(img *image, origin *web) {
	w.t.Helper()
	w.unmount(w.mount(img, "direct", nil, origin.url))
	w.closed()
}

// closed stops the daemon and waits for the server's end.
func (w *world) closed() {
	w.t.Helper()
	w.d.Stop()
	w.gone(w.t)
}

func (w *world) cacheFiles() (files []string) {
	w.t.Helper()
	must(w.t, filepath.WalkDir(w.cache, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	}))
	return files
}

// damage damages a file, or all of them when path is empty, and says how many places.
func (w *world) damage(path string, random *rand.Rand) (places int) {
	w.t.Helper()
	if path == "" {
		for _, path := range w.cacheFiles() {
			if filepath.Base(path) != "cache.json" {
				places += w.damage(path, random)
			}
		}
		return places
	}
	info, err := os.Stat(path)
	must(w.t, err)
	size := info.Size()
	switch what := random.IntN(6); {
	case size == 0:
		must(w.t, os.WriteFile(path, []byte{byte(random.Uint32())}, 0o600))
		return 1
	case what == 0:
		must(w.t, os.Truncate(path, random.Int64N(size)))
		return 1
	case what == 1:
		must(w.t, os.Truncate(path, 0))
		return 1
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(w.t, err)
	defer f.Close()
	places = 1 + random.IntN(50)
	for range places {
		b, off := []byte{0}, random.Int64N(size)
		_, err := f.ReadAt(b, off)
		must(w.t, err)
		b[0] ^= 1 << random.IntN(8)
		_, err = f.WriteAt(b, off)
		must(w.t, err)
	}
	return places
}

// undamaged mounts in every mode, with an empty page cache, and compares. In the end the cache is whole again and nobody has it open.
func (w *world) undamaged(img *image, origin *web) bool {
	w.t.Helper()
	w.start()
	for _, mode := range []string{"auto", "fuse", "direct"} {
		var answer json.RawMessage
		status, err := w.d.Call(w.t.Context(), http.MethodPost, "/mount", spec(img, mode, nil, origin.url), &answer)
		must(w.t, err)
		if status != http.StatusCreated {
			if !w.otherLayout(status, answer) {
				w.t.Errorf("%s: %d %s", mode, status, answer)
			}
			break
		}
		var m models.Mount
		must(w.t, json.Unmarshal(answer, &m))
		img.whole(w.t, m.Mountpoint)
		w.unmount(&m)
	}
	w.closed()
	return !w.t.Failed()
}

// otherLayout says whether a mount was refused since the damage happens to name another version of the cache, which is left alone; the
// user is told to remove the cache, which is done.
func (w *world) otherLayout(status int, answer []byte) bool {
	path := filepath.Join(w.cache, "v1", "cache.json")
	b, err := os.ReadFile(path)
	must(w.t, err)
	var says struct{ Layout int }
	if json.Unmarshal(b, &says) != nil || says.Layout < 2 {
		return false
	}
	w.t.Logf("%s is %q: %d %s", path, b, status, answer)
	must(w.t, os.Remove(path))
	return status == http.StatusServiceUnavailable || status == http.StatusNotImplemented
}

// TestWrongBytesOfOrigins has an origin that sends wrong bytes only: what was asked for is refused, chunk and origin are named, and the
// error does not stick.
func TestWrongBytesOfOrigins(t *testing.T) {
	img, _ := shared.pair(t)
	origin := serve(t, img.store)
	w := begin(t)
	for _, mode := range []string{"lazy", "fuse"} {
		m := w.mount(img, mode, nil, origin.url)
		path := filepath.Join(m.Mountpoint, "big-3")
		origin.wrong.Store(true)
		if _, err := os.ReadFile(path); err == nil {
			t.Errorf("%s: wrong bytes were served", mode)
		}
		s := w.status(m)
		within(t, stall, "the status names the chunk", func() bool { s = w.status(m); return s.Corrupt > 0 && s.Errors > 0 })
		for _, word := range []string{"blake3:", origin.url} {
			if !strings.Contains(s.LastError, word) {
				t.Errorf("%s: the error does not name %s: %s", mode, word, s.LastError)
			}
		}
		origin.wrong.Store(false)
		img.whole(t, m.Mountpoint)
		w.unmount(m)
		w.closed()
		must(t, os.RemoveAll(w.cache))
		w.start()
	}
}
