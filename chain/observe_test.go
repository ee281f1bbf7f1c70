package chain

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/rundir"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// fakeKeeper is a driver that keeps something elsewhere and can tell how a mount fares.
type fakeKeeper struct {
	fakeMount
	asked *[]ID
}

func (d fakeKeeper) List(context.Context) ([]mount.ID, error) {
	d.n.mu.Lock()
	defer d.n.mu.Unlock()
	var ids []mount.ID
	for id, what := range d.n.there {
		if what == "mount" {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func (d fakeKeeper) Refresh(_ context.Context, ids []mount.ID) { *d.asked = append(*d.asked, ids...) }

func (d fakeKeeper) Observe(id mount.ID, m *models.Mount) {
	part := *m.Chunkfs
	part.Status = &models.ChunkfsStatus{Cached: int64(id)}
	m.Chunkfs = &part
}

func chunkfs() *models.Mount {
	return &models.Mount{Kind: "chunkfs", Chunkfs: &models.MountChunkfs{Image: str("debian"), Origins: []*models.ChunkfsOrigin{
		{URL: str("https://me:hush@h/s?key=hush"), Token: "hush"}, {URL: str("https://h/s"), Username: "me", Password: "hush"}}}}
}

func TestAMountIsShownAsItFaresAndWithoutSecrets(t *testing.T) {
	n := newNode()
	var asked []ID
	c := open(t, n, rundir.Dir(t.TempDir()), fakeKeeper{fakeMount{n, "chunkfs"}, &asked})
	made, err := c.Mount(t.Context(), chunkfs())
	if err != nil {
		t.Fatal(err)
	}
	over, err := c.Mount(t.Context(), &models.Mount{Kind: "overlay", Overlay: &models.MountOverlay{Lower: []*models.Mount{{ID: made.ID}}}})
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := c.Mounts(nil, "")
	if err != nil || len(mounts) != 2 {
		t.Fatalf("got %d mounts, %v", len(mounts), err)
	}
	if len(asked) != 1 || asked[0] != made.ID {
		t.Errorf("asked about %v, want the one mount %d", asked, made.ID)
	}
	for _, m := range []*models.Mount{mounts[0], mounts[1].Overlay.Lower[0], over.Overlay.Lower[0]} {
		if m.Chunkfs.Status == nil || m.Chunkfs.Status.Cached != int64(made.ID) {
			t.Errorf("status is %+v", m.Chunkfs.Status)
		}
		text, err := json.Marshal(m)
		if err != nil || strings.Contains(string(text), "hush") || !strings.Contains(string(text), `"token":"***"`) || !strings.Contains(string(text), `"username":"me"`) {
			t.Errorf("it reads %s, %v", text, err)
		}
	}
}

func TestWhatADriverKeepsWithoutARecordIsTakenAway(t *testing.T) {
	n, dir := newNode(), rundir.Dir(t.TempDir())
	n.put(77, "mount")
	c := open(t, n, dir, fakeKeeper{fakeMount{n, "chunkfs"}, new([]ID)})
	if left := n.left(); len(left) != 0 {
		t.Errorf("left is %v", left)
	}
	made, err := c.Mount(t.Context(), chunkfs())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	open(t, n, dir, fakeKeeper{fakeMount{n, "chunkfs"}, new([]ID)})
	if !n.has(made.ID) {
		t.Error("a mount with a record was taken away")
	}
}

// refreshedAttach tells when it looks.
type refreshedAttach struct {
	storageAttach
	looks chan []ID
}

func (d refreshedAttach) Refresh(_ context.Context, ids []ID) { d.looks <- ids }

// Drivers look also when no client asks: trouble of the night is known in the morning.
func TestDriversLookWithoutBeingAsked(t *testing.T) {
	n := onNode()
	d := refreshedAttach{storageAttach{fakeAttach{n}, "rbd"}, make(chan []ID)}
	c := openWith(t, n, rundir.Dir(t.TempDir()), Config{Attach: attach.NewRegistry(d), RefreshEvery: time.Millisecond})
	dev, err := c.Attach(t.Context(), rbd())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		select {
		case ids := <-d.looks:
			if len(ids) != 1 || ids[0] != dev.ID {
				t.Errorf("it looks at %v, want %d", ids, dev.ID)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("it does not look")
		}
	}
	if _, err := c.Detach(t.Context(), int64(dev.ID), false); err != nil {
		t.Fatal(err)
	}
	select { // one that was under way
	case <-d.looks:
	case <-time.After(100 * time.Millisecond):
	}
}
