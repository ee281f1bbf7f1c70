package iscsi

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// specOf is the spec of the sessions that tree makes.
func specOf() *models.Attach { return &models.Attach{Kind: models.AttachKindIscsi, Iscsi: valid()} }

// unreadable makes a file one that cannot be looked at, and gives what undoes that.
func (s tree) unreadable(path string) (restore func()) {
	path = filepath.Join(s.dir, path)
	content, err := os.ReadFile(path)
	must(s.t, err)
	must(s.t, os.Remove(path))
	must(s.t, os.Mkdir(path, 0o755))
	return func() {
		must(s.t, os.Remove(path))
		must(s.t, os.WriteFile(path, content, 0o644))
	}
}

func TestWhatCannotBeLookedAtHasNotGone(t *testing.T) {
	d, s, _ := onFake(t)
	s.session(1, "w.7", "100", "192.0.2.10")
	s.disk(1, 1, "sda", "8:0")
	for _, file := range []string{
		"class/iscsi_session/session1/state", "class/iscsi_session/session1/ifacename",
		"devices/platform/host11/session1/target11:0:0/11:0:0:1/block/sda/dev",
	} {
		restore := s.unreadable(file)
		if dev, state, err := d.Probe(t.Context(), 7, nil); err == nil {
			t.Errorf("without %s: probe says %d, %+v", file, state, dev)
		}
		if all, err := d.List(t.Context()); err == nil {
			t.Errorf("without %s: listed are %+v", file, all)
		}
		restore()
	}
	if _, state, err := d.Probe(t.Context(), 7, nil); state != attach.Ready || err != nil {
		t.Errorf("%d, %v", state, err)
	}
}

// TestKeeperGoesOn has a keeper not see its session for a while.
func TestKeeperGoesOn(t *testing.T) {
	d, s, _ := onFake(t)
	s.session(1, "w.7", "100", "192.0.2.10")
	s.disk(1, 1, "sda", "8:0")
	if _, state, err := d.Probe(t.Context(), 7, specOf()); state != attach.Ready || err != nil {
		t.Fatalf("%d, %v", state, err)
	}
	k := d.keepers[7]
	restore := s.unreadable("class/iscsi_session/session1/state")
	k.look()
	k.look() // when it is taken, the look before has come to its end
	if k.ended() {
		t.Error("the keeper has ended")
	}
	restore()
}

// TestAdopt has many take the same session at once, and one again that was gone for a moment.
func TestAdopt(t *testing.T) {
	d, s, _ := onFake(t)
	s.session(1, "w.7", "100", "192.0.2.10")
	s.disk(1, 1, "sda", "8:0")
	seen := make(chan *keeper, 20)
	var all sync.WaitGroup
	for range cap(seen) {
		all.Go(func() {
			if _, state, err := d.Probe(t.Context(), 7, specOf()); state != attach.Ready || err != nil {
				t.Errorf("%d, %v", state, err)
			}
			d.mu.Lock()
			seen <- d.keepers[7]
			d.mu.Unlock()
		})
	}
	all.Wait()
	first := <-seen
	for len(seen) > 0 {
		if k := <-seen; k != first || k == nil {
			t.Fatal("two keepers keep one session")
		}
	}
	link := filepath.Join(s.dir, "class/iscsi_session/session1")
	must(t, os.Rename(link, link+".away"))
	eventually(t, "the keeper sees that its session has gone", func() bool { first.look(); return first.ended() })
	must(t, os.Rename(link+".away", link))
	if _, state, err := d.Probe(t.Context(), 7, specOf()); state != attach.Ready || err != nil {
		t.Errorf("%d, %v", state, err)
	}
	if k := d.keepers[7]; k == first || k.ended() {
		t.Error("nobody keeps the session that is there again")
	}
}
