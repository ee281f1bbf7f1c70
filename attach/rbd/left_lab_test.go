//go:build lab

package rbd_test

import (
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/attach/rbd"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/lab/control"
)

// TestAbortOfWhatWaitsForEver: with osd_request_timeout 0 nothing but the cluster can end a request.
func TestAbortOfWhatWaitsForEver(t *testing.T) {
	c := control.Dial(t)
	image := unique("ever")
	c.Ceph().Image(t, "rbd/"+image, 1<<20, nil)
	d := driver(unique("ever"))
	s := spec(t, image, func(_ *models.AttachRbd, o *models.RbdOptions) { o.OsdRequestTimeout, o.Ro = new(int64(0)), true })
	dev, err := d.Attach(t.Context(), 1, s, attach.Base{Dir: "/"})
	must(t, err)
	c.Ceph().Signal(t, "osd", "STOP")
	done := reading(dev, 1<<20)
	eventually(t, 5*time.Second, "the read is in flight", func() bool {
		aborted, err := d.Abort(t.Context(), dev)
		if aborted && (!fault.Is(err, fault.Timeout) || !strings.HasPrefix(err.Error(), "stuck: ") || !strings.Contains(fault.HintOf(err), "osd_request_timeout is 0")) {
			t.Errorf("abort: %v", err)
		}
		return aborted
	})
	// Who wants the same image is not given the device that goes.
	ctx, cancel := contextWithTimeout(t, time.Second)
	if other, err := d.Attach(ctx, 2, s, attach.Base{Dir: "/"}); !fault.Is(err, fault.Timeout) || !strings.HasPrefix(err.Error(), "stuck: ") {
		t.Errorf("attach: %+v, %v", other, err)
	}
	cancel()
	c.Ceph().Signal(t, "osd", "CONT")
	select {
	case <-done: // what was in flight comes back, what comes after it fails
	case <-time.After(30 * time.Second):
		t.Fatal("the read has not come back")
	}
	eventually(t, 15*time.Second, "it has gone", func() bool { return d.Detach(t.Context(), dev, false) == nil })
	if _, state, err := d.Probe(t.Context(), 2, s); err != nil || state != attach.Gone {
		t.Errorf("probe of the other: %d, %v", state, err)
	}
	again := attached(t, d, 3, s, attach.Base{Dir: "/"})
	if _, err := readDirect(again.Path, 1<<20); err != nil {
		t.Error(err)
	}
}

// TestLeftBehind: the kernel connects to one cluster at a time, and a helper that waits for its turn cannot be killed.
func TestLeftBehind(t *testing.T) {
	image := unique("behind")
	control.Dial(t).Ceph().Image(t, "rbd/"+image, 1<<20, nil)
	dead := make(chan error, 1)
	go func() {
		s := spec(t, "any", func(r *models.AttachRbd, o *models.RbdOptions) {
			r.Monitors, o.MountTimeout = []string{"10.99.0.77"}, 8
		})
		_, err := driver(unique("dead")).Attach(t.Context(), 1, s, attach.Base{Dir: "/"})
		dead <- err
	}()
	instance := unique("behind")
	d := driver(instance)
	// Noshare: else the kernel might have a connection to the cluster already, from another test.
	s := spec(t, image, func(_ *models.AttachRbd, o *models.RbdOptions) { o.Noshare = true })
	eventually(t, 5*time.Second, "an attachment waits for the dead cluster's turn to end", func() bool {
		ctx, cancel := contextWithTimeout(t, 500*time.Millisecond)
		defer cancel()
		dev, err := d.Attach(ctx, 1, s, attach.Base{Dir: "/"})
		if err == nil { // it came before the other
			must(t, d.Detach(t.Context(), dev, false))
			return false
		}
		if !fault.Is(err, fault.Timeout) || !strings.HasPrefix(err.Error(), "stuck: ") {
			t.Errorf("attach: %v", err)
		}
		t.Log(err)
		return true
	})
	for _, d := range []*rbd.Driver{d, driver(instance)} {
		if dev, state, err := d.Probe(t.Context(), 1, s); !fault.Is(err, fault.Timeout) || !strings.HasPrefix(err.Error(), "stuck: ") {
			t.Errorf("probe: %+v, %d, %v", dev, state, err)
		}
	}
	if err := <-dead; !fault.Is(err, fault.Timeout) {
		t.Errorf("the dead cluster: %v", err)
	}
	eventually(t, 10*time.Second, "the helper has gone", func() bool {
		_, state, err := d.Probe(t.Context(), 1, s)
		return err == nil && (state == attach.Partial || state == attach.Ready)
	})
	must(t, d.Detach(t.Context(), attach.Device{ID: 1}, false))
	if _, state, err := d.Probe(t.Context(), 1, s); err != nil || state != attach.Gone {
		t.Errorf("probe at the end: %d, %v", state, err)
	}
	attached(t, d, 1, s, attach.Base{Dir: "/"})
}
