package lazyfs

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// stall is the longest that a reader may wait for a server that was killed, on a machine that has other things to do too.
const stall = 10 * time.Second

// both mounts an image in the modes that need the server and has it read in every way, past a cache that has room for half of it, so
// that there is always something on its way.
func (w *world) both(img *image, origins ...string) (mounts []*models.Mount, all []*readers) {
	w.t.Helper()
	for _, mode := range []string{"lazy", "fuse"} {
		m := w.mount(img, mode, nil, origins...)
		mounts, all = append(mounts, m), append(all, read(w.t, img, m.Mountpoint))
	}
	return mounts, all
}

// half is a quota for half of an image.
func half(img *image) string {
	size := 0
	for _, f := range img.files {
		size += len(f.data)
	}
	return fmt.Sprint(size / 2)
}

// ended has all readers end, and takes their mounts away: nothing may be left.
func (w *world) ended(mounts []*models.Mount, all []*readers) {
	w.t.Helper()
	w.done(mounts, all)
	w.untouched()
}

// done is ended while there are other mounts.
func (w *world) done(mounts []*models.Mount, all []*readers) {
	w.t.Helper()
	for _, r := range all {
		r.finish()
		if s := r.now(); s.Longest > stall {
			w.t.Errorf("a read took %v", s.Longest)
		}
	}
	for _, m := range mounts {
		if s := w.status(m); s.Errors != 0 {
			w.t.Errorf("mount %d counts %d errors: %s", m.ID, s.Errors, s.LastError)
		}
		w.unmount(m)
	}
}

// TestServerKilled kills the server at random moments under readers. Nobody gets an error or a wrong byte, or is stuck.
func TestServerKilled(t *testing.T) {
	n, _ := kills(t)
	img, _ := shared.pair(t)
	origin := serve(t, img.store)
	w := begin(t, "--chunkfs-cache-size", half(img))
	mounts, all := w.both(img, origin.url)
	pid := w.processes().server
	for i := range n {
		if i%10 != 9 { // else it is killed while it takes up what its predecessor left
			w.awaitServing(t)
		}
		time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond) // not to wait for anything: to kill at any moment
		kill(t, pid)
		pid = w.awaitServer(t, pid)
		if t.Failed() {
			t.Fatalf("after %d kills", i+1)
		}
	}
	w.awaitStatus(mounts)
	w.ended(mounts, all)
	t.Logf("figure: %d kills; lazy: %s; fuse: %s", n, all[0], all[1])
}

// awaitServing waits until the server has taken up what there was.
func (w *world) awaitServing(t *testing.T) {
	t.Helper()
	client := control.Client{Socket: w.place.Socket()}
	within(t, 20*time.Second, "the server answers", func() bool { return client.Ping(t.Context()) == nil })
}

// awaitStatus waits until the server that came last answers for each mount.
func (w *world) awaitStatus(mounts []*models.Mount) {
	w.t.Helper()
	for _, m := range mounts {
		within(w.t, 20*time.Second, fmt.Sprintf("the server answers for mount %d", m.ID), func() bool { return w.status(m).Error == "" })
	}
}

// TestKeeperKilled kills the keeper: the server goes on, also with new mounts.
func TestKeeperKilled(t *testing.T) {
	img, next := shared.pair(t)
	origin := serve(t, img.store)
	w := begin(t, "--chunkfs-cache-size", half(img))
	mounts, all := w.both(img, origin.url)
	p := w.processes()
	kill(t, p.keeper)
	within(t, 10*time.Second, "the keeper is gone", func() bool { return w.processes().keeper == 0 })
	again := w.mount(next, "lazy", nil, origin.url)
	next.whole(t, again.Mountpoint)
	if now := w.processes(); now.server != p.server {
		t.Errorf("the server was %d and is %d", p.server, now.server)
	}
	w.ended(append(mounts, again), all)
}

// TestDaemonKilled kills the daemon under readers, alone and together with the server: mounts go on, and the next daemon has them.
func TestDaemonKilled(t *testing.T) {
	img, _ := shared.pair(t)
	origin := serve(t, img.store)
	for name, withServer := range map[string]bool{"alone": false, "with the server": true} {
		t.Run(name, func(t *testing.T) {
			w := begin(t, "--chunkfs-cache-size", half(img))
			mounts, all := w.both(img, origin.url)
			for range 3 {
				p := w.processes()
				if withServer {
					kill(t, p.server)
				}
				w.d.Kill()
				goOn(t, all)
				w.start()
				w.same(mounts)
				if p = w.processes(); p.server == 0 || p.keeper == 0 {
					t.Errorf("the processes are %+v", p)
				}
			}
			w.awaitStatus(mounts)
			w.ended(mounts, all)
			t.Logf("figure: daemon killed 3 times; lazy: %s; fuse: %s", all[0], all[1])
		})
	}
}

// goOn waits until each of the readers has read more.
func goOn(t *testing.T, all []*readers) {
	t.Helper()
	for _, r := range all {
		before := r.now().Reads
		within(t, stall, "reads go on", func() bool { return r.now().Reads > before+20 })
	}
}

// same holds that the daemon has the mounts as they were, ready.
func (w *world) same(mounts []*models.Mount) {
	w.t.Helper()
	for _, m := range mounts {
		var list []*models.Mount
		w.d.Want(http.StatusOK, http.MethodGet, fmt.Sprintf("/mount?id=%d", m.ID), nil, &list)
		if len(list) != 1 || list[0].State != "ready" || list[0].Mountpoint != m.Mountpoint {
			w.t.Errorf("mount %d is now %+v", m.ID, list)
		}
	}
}

// TestServerAndKeeperKilled kills both, after which what they served is dead. The next daemon takes away what nobody can read and raises
// it again; a container's reader gets an error, and nobody hangs.
func TestServerAndKeeperKilled(t *testing.T) {
	img, _ := shared.pair(t)
	origin := serve(t, img.store)
	w := begin(t)
	mounts := []*models.Mount{w.mount(img, "lazy", nil, origin.url), w.mount(img, "fuse", nil, origin.url)}
	w.d.Kill()
	p := w.processes()
	kill(t, p.keeper)
	kill(t, p.server)
	w.start()
	for _, m := range mounts {
		img.whole(t, m.Mountpoint)
	}
	w.same(mounts)
	w.ended(mounts, nil)
}
