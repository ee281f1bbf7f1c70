package chain

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// vagueAttach answers that the storage does not answer, as a driver does that asks with a deadline.
type vagueAttach struct{ storageAttach }

func (d vagueAttach) Probe(ctx context.Context, id ID, s *models.Attach) (attach.Device, attach.State, error) {
	if d.n.dead.begin() != nil {
		return attach.Device{}, attach.Gone, fault.New(fault.Timeout, "stuck: the device has not answered")
	}
	return d.storageAttach.Probe(ctx, id, s)
}

// With dead storage the daemon starts all the same. What it lies on is neither lost nor reaped, and known again when it answers.
func TestRestartOnDeadStorage(t *testing.T) {
	for name, vague := range map[string]bool{"a probe hangs": false, "a probe says so": true} {
		t.Run(name, func(t *testing.T) {
			n, dir := onNode(), runDir(t)
			cfg := storage(n)
			cfg.ProbeWait = 100 * time.Millisecond
			if vague {
				cfg.Attach = attach.NewRegistry(fakeAttach{n}, vagueAttach{storageAttach{fakeAttach{n}, "rbd"}})
			}
			c := openWith(t, n, dir, cfg)
			m := mounted(t, c, onDevice(rbd()))
			v := create(t, c, nested("b"))
			c.Close()
			n.dead.die("")
			c = openWith(t, n, dir, cfg)
			dev := m.Attach.Attach.ID
			got, err := c.Attachments((*int64)(&dev), "")
			if err != nil || got[0].State != string(Ready) || !strings.HasPrefix(got[0].Error, "stuck: ") || got[0].DeviceFile == "" {
				t.Fatalf("it shows as %+v, %v", got, err)
			}
			if _, err := c.Mount(t.Context(), &models.Mount{Kind: "tmpfs", Tmpfs: &models.MountTmpfs{}}); err != nil {
				t.Errorf("nothing else can be made: %v", err)
			}
			n.dead.revive()
			ctx, cancel := contextFor(t)
			defer cancel()
			if !c.await(ctx, c.objects[dev], func() bool { return c.objects[dev].err == "" && !c.objects[dev].unsure }) {
				t.Errorf("it answers, and shows as %q", c.objects[dev].err)
			}
			if !n.has(dev) || !n.has(m.ID) || !n.has(v.ID) {
				t.Errorf("something was taken away: %v", n.left())
			}
		})
	}
}

// It can be deleted by force while nobody knows whether it is there.
func TestWhatIsNotKnownGoesByForce(t *testing.T) {
	n, dir := onNode(), runDir(t)
	cfg := storage(n)
	c := openWith(t, n, dir, cfg)
	m := mounted(t, c, onDevice(rbd()))
	c.Close()
	n.dead.die("")
	cfg = storage(n)
	cfg.ProbeWait, cfg.ForceAfter, cfg.AnswerTimeout = 50*time.Millisecond, 10*time.Millisecond, 20*time.Second
	c = openWith(t, n, dir, cfg)
	if _, err := c.Unmount(t.Context(), int64(m.ID), true); err != nil {
		t.Fatal(err)
	}
	assertEmpty(t, n, c)
}
