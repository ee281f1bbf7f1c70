//go:build lab

package rbd_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/attach/rbd"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/lab/control"
)

// reading reads the device in the background; the channel gives how it ended.
func reading(dev attach.Device, n int) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := readDirect(dev.Path, n)
		done <- err
	}()
	return done
}

// observed is what is said of the attachment.
func observed(t *testing.T, d *rbd.Driver, id attach.ID) *models.Attach {
	t.Helper()
	start := time.Now()
	d.Refresh(t.Context(), []attach.ID{id})
	a := &models.Attach{Rbd: &models.AttachRbd{}}
	d.Observe(id, a)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("to observe took %s", took)
	}
	return a
}

// TestStopped: the OSD stops answering in the middle of a read, and goes on.
func TestStopped(t *testing.T) {
	c := control.Dial(t)
	image, content := unique("stopped"), bytesOf(1<<20)
	c.Ceph().Import(t, "rbd/"+image, bytes.NewReader(content), nil)
	d := driver(unique("stopped"))
	dev := attached(t, d, 1, spec(t, image, nil), attach.Base{Dir: "/"})
	if a := observed(t, d, 1); a.Error != "" || a.Rbd.DeviceID != dev.Number {
		t.Errorf("before: %q, device %d", a.Error, a.Rbd.DeviceID)
	}
	if aborted, err := d.Abort(t.Context(), dev); aborted || err != nil {
		t.Errorf("abort of a device that answers: %v, %v", aborted, err)
	}
	c.Ceph().Signal(t, "osd", "STOP")
	done := reading(dev, len(content))
	var said string
	eventually(t, 20*time.Second, "the observer says that it is stuck", func() bool {
		said = observed(t, d, 1).Error
		return said != ""
	})
	t.Log(said)
	if !strings.HasPrefix(said, "stuck: ") || !strings.Contains(said, "rbd/"+image) || !strings.Contains(said, control.Monitor) {
		t.Errorf("it says %q", said)
	}
	c.Ceph().Signal(t, "osd", "CONT")
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("the read: %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the read has not come back")
	}
	eventually(t, 5*time.Second, "the observer says that all is well", func() bool { return observed(t, d, 1).Error == "" })
	wantContent(t, dev, content)
}

// TestAbort: the OSD never answers again.
func TestAbort(t *testing.T) {
	for _, signal := range []string{"STOP", "KILL"} {
		t.Run(signal, func(t *testing.T) { abort(t, signal) })
	}
}

func abort(t *testing.T, signal string) {
	c := control.Dial(t)
	image := unique("abort")
	c.Ceph().Image(t, "rbd/"+image, 1<<20, nil)
	instance := unique("abort")
	d := driver(instance)
	// Read-only: one that writes leaves a watch behind when it is forced, and the cluster keeps the image for half a minute.
	s := spec(t, image, func(_ *models.AttachRbd, o *models.RbdOptions) {
		o.OsdRequestTimeout, o.Osdkeepalive, o.Ro = new(int64(5)), 1, true
	})
	dev, err := d.Attach(t.Context(), 1, s, attach.Base{Dir: "/"})
	must(t, err)
	c.Ceph().Signal(t, "osd", signal)
	begun := time.Now()
	done := reading(dev, 1<<20)
	eventually(t, 5*time.Second, "the read is in flight", func() bool {
		start := time.Now()
		aborted, err := d.Abort(t.Context(), dev)
		if took := time.Since(start); err != nil || took > 4*time.Second {
			t.Errorf("abort: %v after %s", err, took)
		}
		return aborted
	})
	// Until the request has timed out, nobody knows what will come of it; a daemon that has just been started neither.
	for _, d := range []*rbd.Driver{d, driver(instance)} {
		if _, _, err := d.Probe(t.Context(), 1, s); err != nil {
			if !fault.Is(err, fault.Timeout) || !strings.HasPrefix(err.Error(), "stuck: ") {
				t.Errorf("probe: %v", err)
			}
			ctx, cancel := contextWithTimeout(t, time.Second)
			if err := d.Detach(ctx, dev, false); err != nil && (!fault.Is(err, fault.Timeout) || !strings.HasPrefix(err.Error(), "stuck: ")) {
				t.Errorf("detach: %v", err)
			}
			cancel()
		}
	}
	select {
	case err := <-done:
		if err == nil {
			t.Error("the read has succeeded")
		}
		t.Logf("the read failed after %s: %v", time.Since(begun).Round(time.Millisecond), err)
	case <-time.After(30 * time.Second):
		t.Fatal("the read has not come back")
	}
	eventually(t, 15*time.Second, "the device has gone", func() bool {
		all, err := d.List(t.Context())
		return err == nil && len(all) == 0
	})
	eventually(t, 15*time.Second, "nothing is left", func() bool {
		if err := d.Detach(t.Context(), dev, false); err != nil {
			t.Log(err)
			return false
		}
		_, state, err := d.Probe(t.Context(), 1, s)
		return err == nil && state == attach.Gone
	})
	if signal == "STOP" {
		c.Ceph().Signal(t, "osd", "CONT")
	} else {
		c.Ceph().Start(t, "osd")
	}
	// The node can have it again.
	again := attached(t, d, 2, s, attach.Base{Dir: "/"})
	if _, err := readDirect(again.Path, 1<<20); err != nil {
		t.Error(err)
	}
}

// TestUnmapWithoutTheCluster: a device that nobody waits for goes, though nobody answers.
func TestUnmapWithoutTheCluster(t *testing.T) {
	c := control.Dial(t)
	// How long the cluster remembers who has gone without a word; 30 s as a rule.
	c.Run(t, "ceph", "tell", "osd.0", "config", "set", "osd_client_watch_timeout", "5")
	t.Cleanup(func() { c.Run(t, "ceph", "tell", "osd.0", "config", "set", "osd_client_watch_timeout", "30") })
	for what, ro := range map[string]bool{"read-only": true, "read-write": false} {
		t.Run(what, func(t *testing.T) {
			image := unique("without")
			c.Ceph().Image(t, "rbd/"+image, 1<<20, nil)
			d := driver(unique("without"))
			s := spec(t, image, func(_ *models.AttachRbd, o *models.RbdOptions) { o.Ro, o.MountTimeout = ro, 5 })
			dev, err := d.Attach(t.Context(), 1, s, attach.Base{Dir: "/"})
			must(t, err)
			c.Ceph().Signal(t, "osd", "STOP")
			eventually(t, 15*time.Second, "it has gone", func() bool {
				ctx, cancel := contextWithTimeout(t, 4*time.Second)
				defer cancel()
				start := time.Now()
				err := d.Detach(ctx, dev, false)
				took := time.Since(start)
				t.Logf("detach: %v after %s", err, took.Round(time.Millisecond))
				if took > 5*time.Second {
					t.Errorf("detach took %s", took)
				}
				return err == nil
			})
			c.Ceph().Signal(t, "osd", "CONT")
			eventually(t, 60*time.Second, "the cluster has noticed", func() bool { return len(c.Ceph().Watchers(t, "rbd/"+image)) == 0 })
		})
	}
}
