package lazyfs

import (
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/swagger/models"
)

// resume is how soon reads go on when the origin is back.
const resume = time.Second

// TestOriginDown takes the only origin away under readers, and gives it back: reads wait, none fails, and they go on at once.
func TestOriginDown(t *testing.T) {
	gone := 3 * time.Second
	if _, long := kills(t); long {
		gone = 30 * time.Second
	}
	img, _ := shared.pair(t)
	origin := serve(t, img.store)
	w := begin(t, "--chunkfs-cache-size", half(img))
	mounts, all := w.both(img, origin.url)
	goOn(t, all)
	origin.stop()
	time.Sleep(gone) // it is the time that counts
	for _, r := range all {
		r.mark()
	}
	origin.back()
	goOn(t, all)
	for _, r := range all {
		within(t, stall, "who waited has been served", func() bool { return r.now().Waiting == 0 })
		s := r.now()
		if s.Overdue == 0 {
			t.Error("nobody waited for the origin")
		}
		if s.Overdue > resume {
			t.Errorf("reads went on %v after the origin was back", s.Overdue)
		}
		t.Logf("figure: origin gone for %v: 0 errors, all reads go on within %v", gone, s.Overdue.Round(time.Millisecond))
	}
	w.ended(mounts, all)
}

// TestOriginDies has two origins, of which the one in use dies, or hangs, under readers: they go on with the other.
func TestOriginDies(t *testing.T) {
	for name, die := range map[string]func(*web){"refuses": (*web).stop, "hangs": func(o *web) { o.hanged.Store(true) }} {
		t.Run(name, func(t *testing.T) {
			img, _ := shared.pair(t)
			pair := []*web{serve(t, img.store), serve(t, img.store)}
			w := begin(t, "--chunkfs-cache-size", half(img))
			mounts, all := w.both(img, pair[0].url, pair[1].url)
			goOn(t, all)
			one := pair[0]
			if pair[1].sent.Load() > one.sent.Load() {
				one = pair[1]
			}
			for _, r := range all {
				r.mark()
			}
			die(one)
			goOn(t, all)
			for _, r := range all {
				within(t, stall, "who waited has been served", func() bool { return r.now().Waiting == 0 })
				s := r.now()
				if s.Longest > resume {
					t.Errorf("a read took %v", s.Longest)
				}
				t.Logf("figure: an origin %s: 0 errors, longest read %v", name, s.Longest.Round(time.Millisecond))
			}
			w.ended(mounts, all)
		})
	}
}

// TestCompleteNeedsNoOrigin fetches all of an image and takes the origin away for good: the mount goes on, without its pages too, and
// the next one is direct.
func TestCompleteNeedsNoOrigin(t *testing.T) {
	img, _ := shared.pair(t)
	origin := serve(t, img.store)
	w := begin(t)
	all := "all"
	var mounts []*models.Mount
	for _, mode := range []string{"lazy", "fuse"} {
		mounts = append(mounts, w.mount(img, mode, func(p *models.MountChunkfs) { p.Prefetch = &all }, origin.url))
	}
	for _, m := range mounts {
		w.complete(m)
	}
	origin.stop()
	byDigest := *img
	byDigest.tag = img.digest
	mounts = append(mounts, w.mount(&byDigest, "auto", nil, origin.url), w.mount(&byDigest, "direct", nil, origin.url))
	for _, m := range mounts[2:] {
		w.is(m, "direct", "file")
	}
	var readers []*readers
	for _, m := range mounts {
		readers = append(readers, read(t, img, m.Mountpoint))
	}
	goOn(t, readers)
	kill(t, w.processes().server) // nothing of an image that is complete is lost with it
	goOn(t, readers)
	w.ended(mounts, readers)
}
