//go:build lab

package iscsi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/attach/iscsi"
	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/lab/control"
)

// patience bounds what must come to its end when the target is there, on a slow machine.
const patience = 60 * time.Second

// ext4 exports a file system with one file, and gives the file's content.
func ext4(t *testing.T) (*models.Attach, []byte) {
	t.Helper()
	dir := t.TempDir()
	content := pattern(3 << 20)
	must(t, os.Mkdir(filepath.Join(dir, "tree"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "tree/file"), content, 0o644))
	image := filepath.Join(dir, "image")
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-d", filepath.Join(dir, "tree"), image, "8M").CombinedOutput(); err != nil {
		t.Fatalf("mkfs: %v: %s", err, out)
	}
	return exported(t, image), content
}

// mounted mounts the device read-only, with nothing of it in memory, and gives the path of its file.
func mounted(t *testing.T, dev attach.Device) string {
	t.Helper()
	dir := t.TempDir()
	must(t, unix.Mount(dev.Path, dir, "ext4", unix.MS_RDONLY, ""))
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			t.Errorf("unmount: %v", err)
		}
	})
	dropCaches(t)
	return filepath.Join(dir, "file")
}

func dropCaches(t *testing.T) {
	t.Helper()
	must(t, os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0))
}

type read struct {
	content []byte
	err     error
}

// reading reads a file in the background.
func reading(path string) <-chan read {
	done := make(chan read, 1)
	go func() {
		b, err := os.ReadFile(path)
		done <- read{b, err}
	}()
	return done
}

// seen waits until what Observe tells of attachment 1 is as wanted.
func seen(t *testing.T, d *iscsi.Driver, s *models.Attach, want func(*models.Attach) bool) models.Attach {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		a := models.Attach{Kind: s.Kind, Iscsi: s.Iscsi}
		d.Refresh(t.Context(), []attach.ID{1})
		d.Observe(1, &a)
		if a.Iscsi.Session != nil && want(&a) {
			return a
		}
		if time.Now().After(deadline) {
			t.Fatalf("what is seen does not become what it should be: %+v, %q", a.Iscsi.Session, a.Error)
		}
	}
}

func lost(a *models.Attach) bool {
	return strings.HasPrefix(a.Error, "stuck: the session with ") && strings.HasSuffix(a.Error, "; trying again") && a.Iscsi.Session.State != "LOGGED_IN"
}

func recovered(times int64) func(*models.Attach) bool {
	return func(a *models.Attach) bool {
		return a.Error == "" && a.Iscsi.Session.State == "LOGGED_IN" && a.Iscsi.Session.Recoveries >= times
	}
}

func wantRead(t *testing.T, done <-chan read, content []byte) {
	t.Helper()
	select {
	case r := <-done:
		if r.err != nil || !bytes.Equal(r.content, content) {
			t.Errorf("read %d bytes, %v", len(r.content), r.err)
		}
	case <-time.After(patience):
		t.Fatal("the read does not come back")
	}
}

func TestTargetKilledAndStartedAgain(t *testing.T) {
	c := control.Dial(t)
	s, content := ext4(t)
	d := newDriver(t)
	dev := attached(t, d, s, attach.Base{ReadOnly: true})
	file := mounted(t, dev)
	for n := range int64(2) {
		dropCaches(t)
		c.TGT().Signal(t, "KILL")
		done := reading(file)
		a := seen(t, d, s, lost)
		if !strings.Contains(a.Error, *s.Iscsi.Target) || !strings.Contains(a.Error, control.Portal) {
			t.Errorf("it says %q", a.Error)
		}
		seen(t, d, s, func(a *models.Attach) bool { return strings.Contains(a.Error, "connection refused") })
		select {
		case r := <-done:
			t.Fatalf("the read came back without a target: %d bytes, %v", len(r.content), r.err)
		default:
		}
		c.TGT().Start(t)
		wantRead(t, done, content)
		a = seen(t, d, s, recovered(n+1))
		if a.Iscsi.Session.ID != dev.Number {
			t.Errorf("it is session %d, was %d", a.Iscsi.Session.ID, dev.Number)
		}
		if found, state, err := d.Probe(t.Context(), 1, s); err != nil || state != attach.Ready || found != dev {
			t.Errorf("probe: %d, %+v, %v", state, found, err)
		}
	}
}

func TestSilentTarget(t *testing.T) {
	c := control.Dial(t)
	s, content := ext4(t)
	d := newDriver(t)
	file := mounted(t, attached(t, d, s, attach.Base{ReadOnly: true}))
	c.TGT().Signal(t, "STOP")
	done := reading(file)
	a := seen(t, d, s, lost) // by pings alone
	t.Log(a.Error)
	c.TGT().Signal(t, "CONT")
	wantRead(t, done, content)
	seen(t, d, s, recovered(1))
	if there := c.TGT().Sessions(t, *s.Iscsi.Target); len(there) != 1 { // the one before has given way: it is of the same ISID
		t.Errorf("the target has sessions of %q", there)
	}
}

// TestRecoveryTimeout has reads fail after a second, and the session come back all the same.
func TestRecoveryTimeout(t *testing.T) {
	c := control.Dial(t)
	s, content := ext4(t)
	second := int64(1)
	s.Iscsi.RecoveryTimeout = &second
	d := newDriver(t)
	file := mounted(t, attached(t, d, s, attach.Base{ReadOnly: true}))
	c.TGT().Signal(t, "KILL")
	select {
	case r := <-reading(file):
		if !errors.Is(r.err, unix.EIO) {
			t.Errorf("read %d bytes, %v; want EIO", len(r.content), r.err)
		}
	case <-time.After(patience):
		t.Fatal("the read waits for ever")
	}
	c.TGT().Start(t)
	seen(t, d, s, recovered(1))
	wantRead(t, reading(file), content)
}

func TestAnotherDaemonGoesOn(t *testing.T) {
	for what, outage := range map[string]func(t *testing.T, c *control.Client, adopt func()){
		"the target goes after it": func(t *testing.T, c *control.Client, adopt func()) {
			adopt()
			c.TGT().Signal(t, "KILL")
			c.TGT().Start(t)
		},
		"the target goes while there is no daemon": func(t *testing.T, c *control.Client, adopt func()) {
			c.TGT().Signal(t, "KILL")
			c.TGT().Start(t)
			adopt()
		},
	} {
		t.Run(what, func(t *testing.T) {
			s, content := ext4(t)
			instance := unique("restart")
			first, second := driver(instance), driver(instance)
			t.Cleanup(func() { must(t, second.Close()) })
			dev, err := first.Attach(t.Context(), 1, s, attach.Base{Dir: "/", ReadOnly: true})
			must(t, err)
			t.Cleanup(func() {
				must(t, second.Detach(context.Background(), attach.Device{ID: 1}, true))
				nothingLeft(t)
			})
			file := mounted(t, dev)
			must(t, first.Close())
			outage(t, control.Dial(t), func() {
				if found, state, err := second.Probe(t.Context(), 1, s); err != nil || state != attach.Ready || found != dev {
					t.Errorf("probe: %d, %+v, %v", state, found, err)
				}
			})
			wantRead(t, reading(file), content)
			seen(t, second, s, recovered(1))
		})
	}
}

func TestDetachWithoutATarget(t *testing.T) {
	for _, signal := range []string{"KILL", "STOP"} {
		for _, force := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s force %v", signal, force), func(t *testing.T) {
				c := control.Dial(t)
				s, _ := ext4(t)
				d := newDriver(t)
				dev, err := d.Attach(t.Context(), 1, s, attach.Base{Dir: "/"})
				must(t, err)
				c.TGT().Signal(t, signal)
				tries := 0
				for deadline := time.Now().Add(patience); ; {
					ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
					err := inTime(t, func() error { return d.Detach(ctx, dev, force) })
					cancel()
					tries++
					if err == nil {
						break
					}
					if !strings.HasPrefix(err.Error(), "stuck: ") || time.Now().After(deadline) {
						t.Fatalf("detach: %v", err)
					}
				}
				if force && tries > 1 {
					t.Errorf("detaching by force took %d tries", tries)
				}
				nothingLeft(t)
			})
		}
	}
}

// inTime fails when fn does not come back. What it takes in seconds depends on the machine: it is in the log.
func inTime(t *testing.T, fn func() error) error {
	t.Helper()
	began, done := time.Now(), make(chan error, 1)
	go func() { done <- fn() }()
	select {
	case err := <-done:
		t.Logf("it took %s", time.Since(began).Round(time.Millisecond))
		return err
	case <-time.After(patience):
		t.Fatal("it does not come back")
		return nil
	}
}

func TestAbort(t *testing.T) {
	for _, signal := range []string{"KILL", "STOP"} {
		t.Run(signal, func(t *testing.T) {
			c := control.Dial(t)
			s, _ := ext4(t)
			d := newDriver(t)
			dev, err := d.Attach(t.Context(), 1, s, attach.Base{Dir: "/", ReadOnly: true})
			must(t, err)
			file := mounted(t, dev)
			c.TGT().Signal(t, signal)
			done := reading(file)
			if signal == "KILL" {
				seen(t, d, s, lost)
			}
			err = inTime(t, func() error {
				aborted, err := d.Abort(t.Context(), dev)
				if !aborted && err == nil {
					err = errors.New("it says that the target answers")
				}
				return err
			})
			if err != nil {
				t.Fatalf("abort: %v", err)
			}
			select {
			case r := <-done:
				if r.err == nil {
					t.Error("the read has worked")
				}
			case <-time.After(patience):
				t.Fatal("the read still waits")
			}
			must(t, unix.Unmount(filepath.Dir(file), 0))
			must(t, d.Detach(t.Context(), dev, false))
			nothingLeft(t)
			if _, state, err := d.Probe(t.Context(), 1, s); state != attach.Gone || err != nil {
				t.Errorf("probe: %d, %v", state, err)
			}
		})
	}
}

// TestWritesSurvive writes with a sync each while the target is killed and started again, and looks at what the target has at the end.
func TestWritesSurvive(t *testing.T) {
	c := control.Dial(t)
	const size = 4 << 20
	disk := c.TGT().Disk(t, size)
	target := control.Target{IQN: iqn(), LUNs: []control.LUN{{Number: 1, File: disk}}}
	c.TGT().Target(t, target)
	s, d := spec(target.IQN, 1), newDriver(t)
	dev := attached(t, d, s, attach.Base{})
	f, err := os.OpenFile(dev.Path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	content := pattern(size)
	written := make(chan error, 1)
	var outages atomic.Int64
	go func() {
		const block = 32 << 10
		for at := 0; at < size; at += block {
			// It is in the middle of writing when the target goes, however fast it is.
			for again := true; again; again = at == size/4 && outages.Load() < 1 || at == size/2 && outages.Load() < 2 {
				if _, err := f.WriteAt(content[at:at+block], int64(at)); err != nil {
					written <- err
					return
				}
				if err := f.Sync(); err != nil {
					written <- err
					return
				}
			}
		}
		written <- nil
	}()
	for n := range int64(2) {
		c.TGT().Signal(t, "KILL")
		seen(t, d, s, lost)
		select {
		case err := <-written:
			t.Fatalf("the writes have come to an end before the target was lost: %v", err)
		default:
		}
		outages.Add(1)
		c.TGT().Start(t)
		seen(t, d, s, recovered(n+1))
	}
	select {
	case err := <-written:
		must(t, err)
	case <-time.After(patience):
		t.Fatal("the writes do not come to an end")
	}
	f.Close()
	must(t, d.Detach(t.Context(), dev, false))
	if got := c.Get(t, disk); !bytes.Equal(got, content) {
		t.Error("the target has not got what was written")
	}
}
