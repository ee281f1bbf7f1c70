//go:build lab

package rbd_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/attach/rbd"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/lab/control"
)

func contextWithTimeout(t testing.TB, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}

func TestShare(t *testing.T) {
	c := control.Dial(t)
	image := unique("share")
	c.Ceph().Image(t, "rbd/"+image, 1<<20, nil, "v1")
	instance := unique("share")
	d := driver(instance)
	at := func(id attach.ID, d *rbd.Driver, change func(*models.AttachRbd, *models.RbdOptions)) attach.Device {
		t.Helper()
		dev, err := d.Attach(t.Context(), id, spec(t, image, change), attach.Base{Dir: "/"})
		must(t, err)
		return dev
	}
	one, two := at(1, d, nil), at(2, d, nil)
	// A daemon that has just been started knows nothing but the kernel and the holders.
	d = driver(instance)
	three := at(3, d, func(_ *models.AttachRbd, o *models.RbdOptions) { o.Share, o.Rw = true, true })
	if one.Path != two.Path || one.Path != three.Path || two.ID != 2 {
		t.Errorf("not shared: %+v, %+v, %+v", one, two, three)
	}
	ro := at(4, d, func(_ *models.AttachRbd, o *models.RbdOptions) { o.Ro = true })
	snapshot := at(5, d, func(r *models.AttachRbd, _ *models.RbdOptions) { r.Snapshot = "v1" })
	own := at(6, d, func(_ *models.AttachRbd, o *models.RbdOptions) { o.Noshare = true })
	paths := map[string]bool{one.Path: true, ro.Path: true, snapshot.Path: true, own.Path: true}
	if len(paths) != 4 {
		t.Errorf("shared: %+v, %+v, %+v, %+v", one, ro, snapshot, own)
	}
	// A wrong key is not let in because somebody with the right one was there before.
	other := spec(t, image, func(_ *models.AttachRbd, o *models.RbdOptions) {
		o.Secret = c.Ceph().User(t, "client.share", "mon", "profile rbd")
	})
	if dev, err := d.Attach(t.Context(), 7, other, attach.Base{Dir: "/"}); !fault.Is(err, fault.Forbidden) {
		t.Errorf("a wrong key: %+v, %v", dev, err)
	}
	noSecret(t, "/run/rbd-lab/"+instance, adminKey(t))
	// The one that had it mapped goes first, also while the device is in use by another.
	f, err := os.Open(one.Path)
	must(t, err)
	for _, dev := range []attach.Device{one, two} {
		must(t, d.Detach(t.Context(), dev, false))
		if _, err := os.Stat(one.Path); err != nil {
			t.Errorf("the device has gone with %d, one of several: %v", dev.ID, err)
		}
		if _, state, err := d.Probe(t.Context(), dev.ID, nil); err != nil || state != attach.Gone {
			t.Errorf("probe of %d: %d, %v", dev.ID, state, err)
		}
	}
	if err := d.Detach(t.Context(), three, false); !fault.Is(err, fault.Busy) || !strings.Contains(err.Error(), "open file "+three.Path) {
		t.Errorf("the last one, in use: %v", err)
	}
	f.Close()
	for _, dev := range []attach.Device{three, ro, snapshot, own} {
		must(t, d.Detach(t.Context(), dev, false))
		if _, err := os.Stat(dev.Path); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", dev.Path, err)
		}
	}
	if left, err := os.ReadDir("/run/rbd-lab/" + instance); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// noSecret fails when the secret is in a file below dir, or when one of them is open to others.
func noSecret(t *testing.T, dir, secret string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		files++
		text, err := os.ReadFile(path)
		if info, ierr := e.Info(); ierr != nil || info.Mode().Perm()&0o077 != 0 || bytes.Contains(text, []byte(secret)) {
			t.Errorf("%s is open to others, or holds the secret: %v", path, ierr)
		}
		return err
	})
	if err != nil || files < 4 {
		t.Errorf("%d files below %s: %v", files, dir, err)
	}
}

// TestHoldersAreLost: the device is found by its mark alone.
func TestHoldersAreLost(t *testing.T) {
	image := unique("lost")
	control.Dial(t).Ceph().Image(t, "rbd/"+image, 1<<20, nil)
	instance := unique("lost")
	d := driver(instance)
	s := spec(t, image, nil)
	dev := attached(t, d, 5, s, attach.Base{Dir: "/"})
	must(t, os.RemoveAll("/run/rbd-lab/"+instance))
	if all, err := d.List(t.Context()); err != nil || len(all) != 1 || all[0] != dev {
		t.Errorf("list: %+v, %v", all, err)
	}
	if found, state, err := d.Probe(t.Context(), 5, s); err != nil || state != attach.Partial || found != dev {
		t.Errorf("probe: %+v, %d, %v", found, state, err)
	}
	must(t, d.Detach(t.Context(), attach.Device{ID: 5}, false))
	if _, state, err := d.Probe(t.Context(), 5, s); err != nil || state != attach.Gone {
		t.Errorf("probe: %d, %v", state, err)
	}
}

// TestForce: with the option force a device is taken from whoever has it open.
func TestForce(t *testing.T) {
	image := unique("force")
	control.Dial(t).Ceph().Image(t, "rbd/"+image, 1<<20, nil)
	d := driver(unique("force"))
	dev := attached(t, d, 1, spec(t, image, func(_ *models.AttachRbd, o *models.RbdOptions) { o.Force = true }), attach.Base{Dir: "/"})
	f, err := os.Open(dev.Path)
	must(t, err)
	defer f.Close()
	must(t, d.Detach(t.Context(), dev, false))
	if _, err := os.Stat(dev.Path); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", dev.Path, err)
	}
	if n, err := f.Read(make([]byte, 512)); err == nil {
		t.Errorf("%d bytes were read of it", n)
	}
}

// TestExclusive: an image that another client has for itself.
func TestExclusive(t *testing.T) {
	image := unique("exclusive")
	control.Dial(t).Ceph().Image(t, "rbd/"+image, 1<<20, []string{"layering", "exclusive-lock"})
	d := driver(unique("exclusive"))
	s := spec(t, image, func(_ *models.AttachRbd, o *models.RbdOptions) { o.Exclusive, o.Noshare, o.LockTimeout = true, true, 5 })
	attached(t, d, 1, s, attach.Base{Dir: "/"})
	dev, err := d.Attach(t.Context(), 2, s, attach.Base{Dir: "/"})
	if !fault.Is(err, fault.Busy) || !strings.Contains(fault.HintOf(err), "rbd status rbd/"+image) {
		t.Errorf("the second one: %+v, %v", dev, err)
	}
	t.Log(err)
}
