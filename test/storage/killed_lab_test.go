//go:build lab

package storage

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/internal/crashtest"
	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/daemon"
)

// recovery is how long a daemon may take from its start after a crash until it is ready, in a machine that is emulated, whatever hangs.
const recovery = 10 * time.Second

// TestDaemonKilled kills the daemon after every step between the request and the mount, and starts it again: what it lists is there, what is
// there is listed, and all of it can be taken away.
func TestDaemonKilled(t *testing.T) {
	bin := daemon.Build(t, "-tags=failpoint")
	for _, example := range []string{"rbd-squashfs", "iscsi-squashfs", "nfs-squashfs"} {
		w := begin(t)
		def := w.small(example, waits).Mount.Overlay.Lower[0]
		all := w.points(bin, def)
		slowest, kills := time.Duration(0), 0
		for _, point := range all {
			t.Run(example+"/"+point, func(t *testing.T) { slowest, kills = max(slowest, w.in(t).killedAt(bin, def, point)), kills+1 })
		}
		t.Logf("figure: daemon killed at %d of %d points between request and mount of %s: slowest recovery %v", kills, len(all), example, slowest.Round(time.Millisecond))
		lab(t).nobody(t)
	}
}

// points mounts once and gives the points that the daemon passed on its way there, of drivers and after a step.
func (w *world) points(bin daemon.Binaries, def *models.Mount) (after []string) {
	w.t.Helper()
	w.d.Stop()
	trace := filepath.Join(w.t.TempDir(), "trace")
	o := w.o
	o.Binaries, o.Env = bin, []string{"WINDLASS_FAILPOINT_TRACE=" + trace}
	w.d = w.node.Start(o)
	var m models.Mount
	w.d.Want(http.StatusCreated, http.MethodPost, "/mount", def, &m)
	all := crashtest.Traced(w.t, trace)
	w.clear()
	w.d.Stop()
	for _, point := range all {
		if name, _, _ := strings.Cut(point, "#"); strings.HasSuffix(name, ":after") && !strings.HasPrefix(name, "durable.") {
			after = append(after, point)
		}
	}
	if len(after) < 3 {
		w.t.Fatalf("only %v of the points %v are after a step of a driver", after, all)
	}
	return after
}

// killedAt mounts on a daemon that dies at the point, and gives how long the next one needed to be ready.
func (w *world) killedAt(bin daemon.Binaries, def *models.Mount, point string) time.Duration {
	w.t.Helper()
	o := w.o
	o.Binaries, o.Env = bin, []string{"WINDLASS_FAILPOINT=" + point + "=kill"}
	first := w.node.Start(o)
	defer first.Kill()
	if status, err := first.Call(w.t.Context(), http.MethodPost, "/mount", def, nil); err == nil {
		w.t.Errorf("it did not die at %s but answered %d", point, status)
		first.Kill()
	}
	<-first.Done()
	w.start()
	w.t.Cleanup(func() {
		if w.t.Failed() {
			w.t.Logf("the second daemon's last words:\n%s", w.lastWords())
		}
		w.d.Kill()
	})
	w.settled()
	o2, err := w.d.List(w.t.Context())
	must(w.t, err)
	w.t.Logf("ready after %v; %s", w.d.Took.Round(time.Millisecond), o2)
	if o2.Empty() {
		w.untouched()
	}
	w.clear()
	took := w.d.Took
	w.d.Stop()
	if took > recovery {
		w.t.Errorf("ready after %v, want at most %v", took, recovery)
	}
	return took
}

// settled waits until nothing that is listed is on its way up or down.
func (w *world) settled() {
	w.t.Helper()
	within(w.t, goneTimeout, "everything is either ready or gone", func() bool {
		o, err := w.d.List(w.t.Context())
		must(w.t, err)
		for _, a := range o.Attachments {
			if a.State != "ready" {
				return false
			}
		}
		for _, m := range o.Mounts {
			if m.State != "ready" {
				return false
			}
		}
		return true
	})
}

// TestDaemonKilledWhileStorageIsDead kills the daemon while a server does not answer and a container waits for it: the next one is ready in
// time and lists the objects as stuck; when the server is back, the container goes on.
func TestDaemonKilledWhileStorageIsDead(t *testing.T) {
	for _, c := range []struct {
		example, server string
		kill            bool
	}{{"rbd-squashfs", "osd", false}, {"iscsi-squashfs", "tgt", true}, {"nfs-squashfs", "nfs", false}} {
		t.Run(c.example, func(t *testing.T) {
			w, s := begin(t), lab(t)
			reader := w.reading(w.small(c.example, readsAll))
			before, err := w.d.List(t.Context())
			must(t, err)
			back := s.away(t, c.server, c.kill)
			w.stuck()
			w.d.Kill()
			w.start()
			t.Logf("figure: daemon killed and started while the %s is away: ready after %v", c.server, w.d.Took.Round(time.Millisecond))
			if w.d.Took > recovery {
				t.Errorf("ready after %v, want at most %v", w.d.Took, recovery)
			}
			p := w.probe()
			w.same(before)
			w.stuck()
			p.end("a daemon that was started while the " + c.server + " was away")
			back()
			w.finished(reader)
			w.well()
			w.remove(reader)
			s.nobody(t)
		})
	}
}

// same holds that the daemon lists what another listed.
func (w *world) same(before daemon.Objects) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), answerTimeout)
	defer cancel()
	now, err := w.d.List(ctx)
	must(w.t, err)
	if names(now) != names(before) {
		w.t.Errorf("listed are %s; before it was %s", now, before)
	}
}

// names are the kinds and numbers of all objects.
func names(o daemon.Objects) (s string) {
	for _, a := range o.Attachments {
		s += fmt.Sprintf("attach %d %s; ", a.ID, a.Kind)
	}
	for _, m := range o.Mounts {
		s += fmt.Sprintf("mount %d %s; ", m.ID, m.Kind)
	}
	for _, c := range o.Containers {
		s += fmt.Sprintf("container %d; ", c.ID)
	}
	return s
}
