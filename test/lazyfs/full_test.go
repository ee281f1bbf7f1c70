package lazyfs

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/daemon"
)

// ballast takes all that is free on the file system of dir, and gives a function that gives it back.
func ballast(t *testing.T, dir string) (drop func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	for block := make([]byte, 64<<10); err == nil; {
		_, err = f.Write(block)
	}
	for err = nil; err == nil; {
		_, err = f.Write(make([]byte, 1))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	return func() { must(t, os.Remove(path)) }
}

// TestFullDisk lets the file system of the cache run full under readers, and takes the server down on it: reads go on past the cache, the
// API answers, and what comes after there is room again is kept.
func TestFullDisk(t *testing.T) {
	img, next := shared.pair(t)
	origin := serve(t, img.store)
	dir := tmpfs(t, 40<<20)
	taken := filepath.Join(dir, "taken by others")
	must(t, os.WriteFile(taken, make([]byte, 28<<20), 0o600))
	w := beginAt(t, dir, "--chunkfs-cache-size", "1GiB") // so that it is the disk that has no room
	mounts, all := w.both(img, origin.url)
	goOn(t, all)
	drop := ballast(t, dir)
	for _, m := range mounts {
		img.whole(t, m.Mountpoint)
	}
	began := time.Now()
	full := w.status(mounts[0])
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("GET /mount took %v", took)
	}
	if full.Cached > 12<<20 {
		t.Errorf("%d bytes are said to be cached where there is room for 12 MiB", full.Cached)
	}
	status, e := daemon.Refused(t, w.d, http.MethodPost, "/mount", spec(next, "lazy", nil, origin.url))
	t.Logf("a mount that has no room: %d %s", status, *e.Message)
	kill(t, w.processes().server)
	w.awaitServing(t)
	for _, m := range mounts {
		img.whole(t, m.Mountpoint)
	}
	goOn(t, all)
	drop()
	must(t, os.Remove(taken))
	before := w.status(mounts[0]).Cached
	within(t, 20*time.Second, "what comes is kept again", func() bool { return w.status(mounts[0]).Cached > before })
	w.ended(mounts, all)
	t.Logf("figure: disk full and server killed on it; lazy: %s; fuse: %s", all[0], all[1])
}

// TestDirectWithoutRoom asks for a whole image where half of it fits: it is refused, says why, and leaves nothing.
func TestDirectWithoutRoom(t *testing.T) {
	img, _ := shared.pair(t)
	origin := serve(t, img.store)
	w := begin(t, "--chunkfs-cache-size", half(img))
	status, e := daemon.Refused(t, w.d, http.MethodPost, "/mount", spec(img, "direct", nil, origin.url))
	if status != http.StatusServiceUnavailable || e.Kind != "unavailable" {
		t.Errorf("%d %s: %s", status, e.Kind, *e.Message)
	}
	w.untouched()
	w.ended([]*models.Mount{w.mount(img, "auto", nil, origin.url)}, nil)
}
