//go:build lab

package storage

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// TestStopped takes a server away in the middle of a container's reads, and gives it back: the object says that it is stuck, the API answers
// all the time, and the reads go on and are right.
func TestStopped(t *testing.T) {
	for _, c := range []struct {
		name, example, server string
		kill                  bool
	}{
		{"OSD stopped", "rbd-squashfs", "osd", false},
		{"OSD killed and started again", "rbd-squashfs", "osd", true},
		{"target stopped", "iscsi-squashfs", "tgt", false},
		{"target killed and started again", "iscsi-ext4", "tgt", true},
		{"NFS server stopped", "nfs-squashfs", "nfs", false},
		{"NFS server killed and started again", "nfs-directory", "nfs", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, s := begin(t), lab(t)
			p := w.probe()
			reader := w.reading(w.small(c.example, readsAll))
			back := s.away(t, c.server, c.kill)
			w.stuck()
			if w.readAll(reader) {
				t.Error("all was read before the server went away: the test shows nothing")
			}
			began := time.Now()
			back()
			w.finished(reader)
			t.Logf("figure: %s: reads were done %v after it was back", c.name, time.Since(began).Round(100*time.Millisecond))
			w.well()
			p.end(c.name)
			w.remove(reader)
			s.nobody(t)
		})
	}
}

// TestGone takes a server away for good in the middle of a container's reads: the object says that it is stuck, the API answers all the
// time, and DELETE with force is answered in time, after which everything goes.
func TestGone(t *testing.T) {
	for _, c := range []struct {
		name, example, server string
		kill                  bool
	}{
		{"OSD killed", "rbd-squashfs", "osd", true},
		{"OSD stopped", "rbd-ext4", "osd", false},
		{"target killed", "iscsi-ext4", "tgt", true},
		{"target stopped", "iscsi-squashfs", "tgt", false},
		{"NFS server killed", "nfs-directory", "nfs", true},
		{"NFS server stopped", "nfs-squashfs", "nfs", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, s := begin(t), lab(t)
			def := w.small(c.example, readsAll)
			if r := rbdOf(def); r != nil {
				r.Options.OsdRequestTimeout = new(int64(10))
			}
			p := w.probe()
			reader := w.reading(def)
			back := s.away(t, c.server, c.kill)
			w.stuck()
			w.forced(fmt.Sprintf("/container?force=true&id=%d", reader.ID), c.name)
			p.end(c.name + " for good")
			back()
		})
	}
}

// goneForGood is how long everything of a container may take to go when the storage does not answer any more: what waits must fail first, for
// which RBD has a time limit of its own.
const goneForGood = 60 * time.Second

// forced deletes what lies on storage that is gone, and waits until all of it is.
func (w *world) forced(path, what string) {
	w.t.Helper()
	began := time.Now()
	status, answer, took := w.delete(path)
	if took > answerTimeout {
		w.t.Errorf("DELETE was answered after %v", took)
	}
	if status != http.StatusOK && status != http.StatusGatewayTimeout {
		w.t.Errorf("DELETE: %d %s", status, answer)
	}
	w.emptied(goneForGood)
	w.t.Logf("figure: %s for good: DELETE answered %d after %v, all gone after %v", what, status, took.Round(100*time.Millisecond), time.Since(began).Round(100*time.Millisecond))
}

// away stops or kills a server, and gives what brings it back.
func (s *servers) away(t *testing.T, server string, kill bool) (back func()) {
	t.Helper()
	if kill {
		s.Signal(t, server, "KILL")
		return func() { t.Helper(); s.Start(t, server) }
	}
	s.Signal(t, server, "STOP")
	return func() { t.Helper(); s.Signal(t, server, "CONT") }
}

// TestSharedGone has two containers read one image whose OSD is killed for good. Neither alone may take the device from the other; when both are
// deleted by force, it goes.
func TestSharedGone(t *testing.T) {
	w, s := begin(t), lab(t)
	def := w.small("rbd-squashfs", readsAll)
	rbdOf(def).Options.OsdRequestTimeout = new(int64(10))
	p := w.probe()
	one, two := w.reading(def), w.reading(def)
	back := s.away(t, "osd", true)
	w.stuck()
	status, answer, took := w.delete(fmt.Sprintf("/container?force=true&id=%d", one.ID))
	if took > answerTimeout || status != http.StatusOK && status != http.StatusGatewayTimeout {
		t.Errorf("DELETE: %d %s after %v", status, answer, took)
	}
	w.forced(fmt.Sprintf("/container?force=true&id=%d", two.ID), "OSD of two containers killed")
	p.end("OSD of two containers killed for good")
	back()
}

// TestDeviceGone reads a device that nothing is mounted from while its server goes away for good, and deletes the attachment by force.
func TestDeviceGone(t *testing.T) {
	for _, c := range []struct{ example, server string }{{"rbd-squashfs", "osd"}, {"iscsi-squashfs", "tgt"}} {
		t.Run(c.example, func(t *testing.T) {
			w, s := begin(t), lab(t)
			def := attachOf(w.small(c.example, waits))
			if def.Rbd != nil {
				def.Rbd.Options.OsdRequestTimeout = new(int64(10))
			}
			p := w.probe()
			a := w.attach(def)
			r := readDevice(t, a.DeviceFile)
			back := s.away(t, c.server, true)
			w.stuck()
			w.forced(fmt.Sprintf("/attach?force=true&id=%d", a.ID), c.example+": server killed")
			p.end("a device without its " + c.server)
			r.failed()
			back()
		})
	}
}
