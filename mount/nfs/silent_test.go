package nfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/helper"
	"github.com/windlass-hpc/windlass/internal/helper/helpertest"
	"github.com/windlass-hpc/windlass/internal/mountinfo"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// These hold the driver against a FUSE file system whose server does not answer, as an NFS server that hangs; test/lab does it with one.

func observe(d *Driver, id mount.ID) *models.Mount {
	part := &models.MountNfs{}
	m := &models.Mount{Nfs: part}
	d.Observe(id, m)
	if part.Address != "" {
		m.Error = "the part was changed and not a copy"
	}
	return m
}

func TestASilentServerIsTold(t *testing.T) {
	d, h := named(t, nil), helpertest.NewHang(t)
	d.watch.add(1, h.Dir, "10.0.0.1")
	d.watch.add(2, h.Dir, "10.0.0.1")
	d.watch.add(3, t.TempDir(), "10.0.0.2")
	refresh := func() {
		began := time.Now()
		d.Refresh(t.Context(), []mount.ID{1, 2, 3, 4})
		if took := time.Since(began); took > time.Second { // a tenth on a machine that is idle
			t.Errorf("Refresh took %v", took)
		}
	}
	refresh()
	<-h.Asked
	if m := observe(d, 1); m.Nfs.Address != "10.0.0.1" || m.Error != "" {
		t.Errorf("at first: %+v, %s", m.Nfs, m.Error)
	}
	for deadline := time.Now().Add(time.Minute); observe(d, 1).Error == ""; time.Sleep(50 * time.Millisecond) {
		refresh()
		if time.Now().After(deadline) {
			t.Fatal("it is never said to be stuck")
		}
	}
	for _, id := range []mount.ID{1, 2} {
		if m := observe(d, id); !strings.HasPrefix(m.Error, "stuck: 10.0.0.1 has not answered for 2.") {
			t.Errorf("%d: %q", id, m.Error)
		}
	}
	if m := observe(d, 3); m.Error != "" || m.Nfs.Address != "10.0.0.2" {
		t.Errorf("one that answers: %+v %s", m.Nfs, m.Error)
	}
	if m := observe(d, 4); m.Error != "" || m.Nfs.Address != "" {
		t.Errorf("one that is not known: %+v %s", m.Nfs, m.Error)
	}
	select {
	case <-h.Asked:
		t.Error("a server that does not answer was asked twice at once")
	default:
	}
	h.Answer() // with EIO, which it is the server that says: this is no soft mount
	for deadline := time.Now().Add(time.Minute); observe(d, 1).Error != ""; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("its answer is not heard: %s", observe(d, 1).Error)
		}
	}
	d.watch.remove(1)
	d.watch.remove(2)
	if m := observe(d, 1); m.Nfs.Address != "" || m.Error != "" {
		t.Errorf("one that is gone: %+v %s", m.Nfs, m.Error)
	}
}

// TestLeaving: a question that waits does not keep the mount busy when it is to go.
func TestLeaving(t *testing.T) {
	d, h := named(t, nil), helpertest.NewHang(t)
	d.watch.add(1, h.Dir, "10.0.0.1")
	d.Refresh(t.Context(), []mount.ID{1})
	<-h.Asked
	back := d.watch.leave(1)
	d.Refresh(t.Context(), []mount.ID{1})
	if s := d.watch.servers["10.0.0.1"]; s.question != nil {
		t.Error("it is asked through a mount that is going")
	}
	back()
	h.Answer()
	for deadline := time.Now().Add(20 * time.Second); len(d.helper.Left()) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the helper has not ended")
		}
	}
	d.watch.servers["10.0.0.1"].asked = time.Time{}
	if begun := d.watch.ask([]mount.ID{1}); len(begun) != 1 {
		t.Error("it is not asked through a mount that has stayed")
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	d.Refresh(t.Context(), []mount.ID{1})
}

// TestForce detaches a mount that is held and whose server is silent, and no other.
func TestForce(t *testing.T) {
	d, h := named(t, nil), helpertest.NewHang(t)
	i, err := at(h.Dir)
	if err != nil || i == nil {
		t.Fatal(i, err)
	}
	fd, err := unix.Open(h.Dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := d.unmount(t.Context(), h.Dir, false); !fault.Is(err, fault.Busy) || gone(h.Dir) {
		t.Errorf("without force: %v", err)
	}
	if err := d.force(t.Context(), h.Dir, i); err != nil || !gone(h.Dir) {
		t.Errorf("with force: %v", err)
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	f, err := os.Create(filepath.Join(dir, "held"))
	if err != nil {
		t.Fatal(err)
	}
	if i, err = at(dir); err != nil {
		t.Fatal(err)
	}
	if err := d.force(t.Context(), dir, i); !fault.Is(err, fault.Busy) || !strings.Contains(err.Error(), "open file "+f.Name()) || gone(dir) {
		t.Errorf("one that answers: %v", err)
	}
	f.Close()
	if err := d.force(t.Context(), dir, i); err != nil || !gone(dir) {
		t.Errorf("one that answers and is not held: %v", err)
	}
}

// TestAbortingEnds: it keeps the mount busy, so it must end when that is to go.
func TestAbortingEnds(t *testing.T) {
	d, dir := named(t, nil), t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	d.watch.add(1, dir, "10.0.0.1")
	first := d.watch.abort(1)
	second := d.watch.abort(1) // takes its place
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first: %v", err)
	}
	for deadline := time.Now().Add(15 * time.Second); !fault.Is(fsmount.CheckIdle(t.Context(), dir), fault.Busy); { // it is at work
		if time.Now().After(deadline) {
			t.Fatal("nothing keeps the mount busy")
		}
	}
	began := time.Now()
	if err := d.Unmount(t.Context(), mount.Active{ID: 1, Target: mount.Target{Dir: dir}}, false); err != nil || !gone(dir) {
		t.Errorf("unmount: %v", err)
	}
	if took := time.Since(began); took > abortFor/2 {
		t.Errorf("unmounting took %v", took)
	}
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("the second: %v", err)
	}
	if err := <-d.watch.abort(1); err != nil {
		t.Errorf("of what is gone: %v", err)
	}
}

func TestAnswered(t *testing.T) {
	for err, want := range map[error]bool{nil: true, unix.ESTALE: true, unix.EBUSY: true, unix.EACCES: true, unix.EIO: false, unix.ETIMEDOUT: false,
		unix.ECONNREFUSED: false, unix.Errno(512): false, context.DeadlineExceeded: false, context.Canceled: false} {
		if got := answered(err, true); got != want {
			t.Errorf("%v: %v", err, got)
		}
		if got := answered(err, false); got != (want || err == unix.EIO) {
			t.Errorf("%v of a hard mount: %v", err, got)
		}
		if err != nil && answered(fmt.Errorf("%w: %w", helper.ErrStart, err), false) {
			t.Errorf("%v of a helper that was not started is no answer", err)
		}
	}
}

// TestWhoSaysEIO: the server does, but for a soft mount and one whose calls were aborted.
func TestWhoSaysEIO(t *testing.T) {
	w, dir := newWatch(nil), t.TempDir()
	w.mounts[1] = &watched{dir: dir, address: "10.0.0.1"}
	for _, c := range []struct {
		options string
		aborted bool
		silence bool
	}{{"rw,vers=4.2,hard,addr=10.0.0.1", false, false}, {"rw,soft,addr=10.0.0.1", false, true}, {"rw,softerr,softreval", false, true},
		{"rw,hard,addr=10.0.0.1", true, true}} {
		if w.mounts[1].aborting = nil; c.aborted {
			w.mounts[1].aborting = &aborting{}
		}
		if got := w.failsAlone(&mountinfo.Info{VFSOptions: c.options}, "10.0.0.1"); got != c.silence {
			t.Errorf("%+v: %v", c, got)
		}
	}
	if w.mounts[1].aborting = (&aborting{}); w.failsAlone(&mountinfo.Info{VFSOptions: "hard"}, "10.0.0.2") {
		t.Error("of another server calls were aborted")
	}
	if !w.failsAlone(nil, "10.0.0.2") {
		t.Error("of what is not mounted any more nothing is known")
	}
}

// TestUnmountInVain: the helper does not come back, and as long as it has not, neither has the mount.
func TestUnmountInVain(t *testing.T) {
	d, h := named(t, nil), helpertest.NewHang(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	go func() { <-h.Asked; cancel() }()
	i, err := at(h.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.unmountOne(ctx, h.Path, i); !fault.Is(err, fault.Timeout) || !strings.HasPrefix(err.Error(), "stuck: unmounting "+h.Path) {
		t.Errorf("%v (%s)", err, fault.KindOf(err))
	}
	// One more would not come back either.
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := d.unmountOne(ctx, h.Path, i); !fault.Is(err, fault.Timeout) || !strings.HasPrefix(err.Error(), "stuck: unmounting "+h.Path) || ctx.Err() != nil {
		t.Errorf("once more: %v (%s)", err, fault.KindOf(err))
	}
	if left := d.helper.Left(); len(left) != 1 {
		t.Errorf("helpers were left behind: %+v", left)
	}
	if err := d.finished(h.Path, false); !fault.Is(err, fault.Timeout) || !strings.HasPrefix(err.Error(), "stuck: ") {
		t.Errorf("asked again: %v", err)
	}
	if err := d.finished(h.Path, true); err != nil {
		t.Errorf("with force: %v", err)
	}
	h.Answer()
	for deadline := time.Now().Add(20 * time.Second); d.finished(h.Path, false) != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the helper has not ended")
		}
	}
}

// TestForceInVain: it may take away what waits, so it is tried all the same, but not without end.
func TestForceInVain(t *testing.T) {
	d, h := named(t, nil), helpertest.NewHang(t)
	i, err := at(h.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if err := d.force(t.Context(), h.Path, i); err != nil && (!fault.Is(err, fault.Timeout) || !strings.HasPrefix(err.Error(), "stuck: ")) {
			t.Errorf("%v (%s)", err, fault.KindOf(err))
		}
	}
	if left := d.helper.Left(); len(left) > 2+mostForcing {
		t.Errorf("%d helpers were left behind: %+v", len(left), left)
	}
}

// TestAskingInVain: a question that nobody answers is not asked again while its helper waits.
func TestAskingInVain(t *testing.T) {
	d, h := named(t, nil), helpertest.NewHang(t)
	d.watch.add(1, h.Dir, "10.0.0.1")
	for range 3 {
		d.Refresh(t.Context(), []mount.ID{1})
		d.watch.mu.Lock()
		q := d.watch.servers["10.0.0.1"].question
		d.watch.mu.Unlock()
		if q != nil {
			<-h.Asked
			q.cancel()
			<-q.ended
		}
		d.watch.mu.Lock()
		d.watch.servers["10.0.0.1"].asked = time.Time{} // as if long ago
		d.watch.mu.Unlock()
	}
	if left := d.helper.Left(); len(left) != 1 {
		t.Errorf("helpers were left behind: %+v", left)
	}
	if d.answers(t.Context(), h.Dir, &mountinfo.Info{VFSOptions: "addr=10.0.0.2"}) || len(d.helper.Left()) != 1 {
		t.Errorf("it was asked before it is to go: %+v", d.helper.Left())
	}
}

func TestAtSeesTheUppermost(t *testing.T) {
	dir := t.TempDir()
	if i, err := at(dir); err != nil || i != nil {
		t.Fatalf("%+v, %v", i, err)
	}
	for _, name := range []string{"first", "second"} {
		if err := unix.Mount(name, dir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
		if err := os.Mkdir(filepath.Join(dir, "below"), 0o700); err != nil {
			t.Fatal(err)
		}
		if i, err := at(dir); err != nil || i == nil || i.Source != name || isNFS(i) {
			t.Errorf("%+v, %v", i, err)
		}
	}
}
