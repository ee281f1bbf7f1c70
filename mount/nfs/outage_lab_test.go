//go:build lab

package nfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/loopdev"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/mount/mounttest"
	"github.com/windlass-hpc/windlass/test/lab/control"
)

// within fails when fn takes longer. What the machine is busy with is not the driver's, so there is a second more.
func within(t *testing.T, limit time.Duration, what string, fn func()) {
	t.Helper()
	began := time.Now()
	fn()
	if took := time.Since(began); took > limit+time.Second {
		t.Errorf("%s took %v, more than %v", what, took.Round(time.Millisecond), limit)
	}
}

// reader reads from a process of its own through the mount, past what is cached.
type reader struct {
	file *os.File
	end  chan error
}

// read begins to read a file that nobody has read before.
func read(t *testing.T, c *control.Client, a mount.Active, there, name string) reader {
	t.Helper()
	c.Run(t, "dd", "if=/dev/zero", "of="+path.Join(there, name), "bs=1M", "count=4")
	f, err := os.Open(filepath.Join(a.Target.Dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return reader{f, make(chan error, 1)}
}

// goOn reads to the end.
func (r reader) goOn() {
	go func() {
		n, err := io.Copy(io.Discard, r.file)
		if err == nil && n != 4<<20 {
			err = io.ErrUnexpectedEOF
		}
		r.file.Close()
		r.end <- err
	}()
}

func (r reader) waits(t *testing.T) {
	t.Helper()
	select {
	case err := <-r.end:
		t.Fatalf("a read has ended though the server is silent: %v", err)
	case <-time.After(500 * time.Millisecond): // long enough for one that does not wait
	}
}

func TestMountWhileTheServerIsSilent(t *testing.T) {
	c := control.Dial(t)
	for _, version := range []string{"4.2", "4.0", "3"} {
		t.Run(version, func(t *testing.T) {
			d := driver(t)
			d.cfg.MountTimeout = 3 * time.Second
			m, _ := export(t, c, control.NFSServer, version)
			c.NFS().Signal(t, "STOP")
			within(t, d.cfg.MountTimeout, "mount", func() {
				_, err := d.Mount(t.Context(), 1, m, nil, mounttest.Place(t))
				port := ":2049"
				if version == "3" { // rpcbind answers; what it tells shows nowhere
					port = ""
				}
				wantError(t, err, fault.Timeout, "no answer from 10.99.0.1"+port+" in 3.")
			})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			within(t, time.Second, "mount that is given up", func() {
				_, err := d.Mount(ctx, 1, m, nil, mounttest.Place(t))
				wantError(t, err, fault.Timeout)
			})
			c.NFS().Signal(t, "CONT")
			a := mounted(t, d, m)
			wantFiles(t, a.Target.Dir)
		})
	}
}

// TestStoppedAndContinued: reads wait and go on, and it shows.
func TestStoppedAndContinued(t *testing.T) {
	c := control.Dial(t)
	for _, version := range []string{"4.2", "3"} {
		t.Run(version, func(t *testing.T) {
			d := driver(t)
			m, there := export(t, c, control.NFSServer, version)
			a := mounted(t, d, m)
			r := read(t, c, a, there, "large")
			ids := []mount.ID{a.ID}
			await(t, "a server that answers", func() bool { d.Refresh(t.Context(), ids); return !d.watch.servers["10.99.0.1"].asked.IsZero() })
			if m := observe(d, a.ID); m.Error != "" {
				t.Errorf("before: %s", m.Error)
			}
			c.NFS().Signal(t, "STOP")
			r.goOn()
			r.waits(t)
			within(t, 10*time.Second, "to be told", func() {
				await(t, "the server to be told stuck", func() bool {
					within(t, 100*time.Millisecond, "Refresh", func() { d.Refresh(t.Context(), ids) })
					return strings.HasPrefix(observe(d, a.ID).Error, "stuck: 10.99.0.1 has not answered for ")
				})
			})
			if _, state, err := d.Probe(t.Context(), a.ID, m, a.Target); err != nil || state != mount.Ready {
				t.Errorf("probe: %d, %v", state, err)
			}
			c.NFS().Signal(t, "CONT")
			if err := <-r.end; err != nil {
				t.Errorf("the read: %v", err)
			}
			await(t, "the server to be told well", func() bool { d.Refresh(t.Context(), ids); return observe(d, a.ID).Error == "" })
			if err := d.Unmount(t.Context(), a, false); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestKilledAndStarted: a read waits for the new server.
func TestKilledAndStarted(t *testing.T) {
	c := control.Dial(t)
	for _, version := range []string{"4.2", "4.0", "3"} {
		t.Run(version, func(t *testing.T) {
			d := driver(t)
			m, there := export(t, c, control.NFSServer, version)
			a := mounted(t, d, m)
			r := read(t, c, a, there, "large")
			c.NFS().Signal(t, "KILL")
			r.goOn()
			r.waits(t)
			c.NFS().Start(t)
			if err := <-r.end; err != nil {
				t.Errorf("the read: %v", err)
			}
			wantFiles(t, a.Target.Dir)
			if err := d.Unmount(t.Context(), a, false); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestUnmountWhileTheServerIsSilent: nobody uses it, and nothing is to be written.
func TestUnmountWhileTheServerIsSilent(t *testing.T) {
	c := control.Dial(t)
	for _, version := range []string{"4.2", "4.0", "3"} {
		t.Run(version, func(t *testing.T) {
			d := driver(t)
			m, _ := export(t, c, control.NFSServer, version)
			a, forced := mounted(t, d, m), mounttest.Place(t)
			b, err := d.Mount(t.Context(), 2, m, nil, forced)
			if err != nil {
				t.Fatal(err)
			}
			d.Refresh(t.Context(), []mount.ID{a.ID, b.ID})
			c.NFS().Signal(t, "STOP")
			within(t, 4*time.Second, "unmount by force", func() {
				if err := d.Unmount(t.Context(), b, true); err != nil || !gone(b.Target.Dir) {
					t.Errorf("by force: %v", err)
				}
			})
			ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
			defer cancel()
			within(t, 2*time.Second, "unmount", func() {
				// It may need nothing of the server.
				if err := d.Unmount(ctx, a, false); err != nil {
					wantError(t, err, fault.Timeout, "stuck: ")
				} else if !gone(a.Target.Dir) {
					t.Error("it is there")
				}
			})
			c.NFS().Signal(t, "CONT")
			await(t, "an unmount that comes back", func() bool { return d.Unmount(t.Context(), a, false) == nil })
		})
	}
}

// TestUnsavedData is not given up but by force.
func TestUnsavedData(t *testing.T) {
	c, d := control.Dial(t), driver(t)
	m, there := export(t, c, control.NFSServer, "4.2")
	a := mounted(t, d, m)
	f, err := os.Create(filepath.Join(a.Target.Dir, "unsaved"))
	if err != nil {
		t.Fatal(err)
	}
	// A mapping keeps what was written out of reach of close(2), which would send it.
	if err := f.Truncate(4096); err != nil {
		t.Fatal(err)
	}
	page, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	page[0] = 0
	c.NFS().Signal(t, "STOP")
	copy(page, "to be kept")
	go func() { _ = unix.Munmap(page) }() // gives the page to the file system, and then waits for the server
	await(t, "the mapping to go", func() bool {
		maps, err := os.ReadFile("/proc/self/maps")
		return err == nil && !strings.Contains(string(maps), "/unsaved")
	})
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		within(t, 2*time.Second, "unmount", func() {
			wantError(t, d.Unmount(ctx, a, false), fault.Timeout, "stuck: ", "10.99.0.1 does not answer")
		})
		cancel()
	}
	c.NFS().Signal(t, "CONT")
	await(t, "an unmount that comes back", func() bool { return d.Unmount(t.Context(), a, false) == nil })
	if got := c.Get(t, path.Join(there, "unsaved")); !strings.HasPrefix(string(got), "to be kept") {
		t.Errorf("the server has %q", got[:min(len(got), 16)])
	}
}

// TestInUseWhileTheServerIsSilent: a reader waits; without force it is named, abort ends it, force takes the mount away under another.
func TestInUseWhileTheServerIsSilent(t *testing.T) {
	c := control.Dial(t)
	for _, version := range []string{"4.2", "3"} {
		t.Run(version, func(t *testing.T) {
			d := driver(t)
			m, there := export(t, c, control.NFSServer, version, "ro")
			a := mounted(t, d, m)
			first, second := read(t, c, a, there, "first"), read(t, c, a, there, "second")
			if aborted, err := d.Abort(t.Context(), a); err != nil || aborted {
				t.Errorf("a server that answers was aborted: %v, %v", aborted, err)
			}
			c.NFS().Signal(t, "STOP")
			first.goOn()
			first.waits(t)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			within(t, 3*time.Second, "unmount", func() {
				wantError(t, d.Unmount(ctx, a, false), fault.Busy, fmt.Sprintf("pid %d (", os.Getpid()), "open file "+filepath.Join(a.Target.Dir, "first"))
			})
			abort(t, d, a)
			if err := <-first.end; err == nil { // Linux 6.1 leaks ERESTARTSYS, later ones say EIO
				t.Error("the reader has read what the server did not give")
			}
			if gone(a.Target.Dir) {
				t.Error("abort has unmounted it")
			}
			d.watch.mounts[a.ID].aborting.stop()
			second.goOn()
			second.waits(t)
			within(t, 4*time.Second, "unmount by force", func() {
				if err := d.Unmount(t.Context(), a, true); err != nil || !gone(a.Target.Dir) {
					t.Errorf("by force: %v", err)
				}
			})
			if err := <-second.end; err == nil {
				t.Error("the second reader has read what the server did not give")
			}
			c.NFS().Signal(t, "CONT")
		})
	}
}

func abort(t *testing.T, d *Driver, a mount.Active) {
	t.Helper()
	within(t, 3*time.Second, "abort", func() {
		if aborted, err := d.Abort(t.Context(), a); err != nil || !aborted {
			t.Errorf("abort: %v, %v", aborted, err)
		}
	})
}

// TestAbortUnderASquashfs: who reads a squashfs whose image is on NFS cannot even be killed while the server is silent, and no loop device can
// go. After an abort all can.
func TestAbortUnderASquashfs(t *testing.T) {
	c, d := control.Dial(t), driver(t)
	m, there := export(t, c, control.NFSServer, "4.2", "ro")
	c.Run(t, "dd", "if=/dev/urandom", "of="+path.Join(there, "large"), "bs=1M", "count=4")
	c.Run(t, "mksquashfs", there, there+"/image.squashfs", "-quiet", "-no-progress", "-e", "image.squashfs")
	a := mounted(t, d, m)
	dev := mounttest.Loop(t, filepath.Join(a.Target.Dir, "image.squashfs"), true)
	dir := t.TempDir()
	if err := unix.Mount(dev.Path, dir, "squashfs", unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	f, err := os.Open(filepath.Join(dir, "large"))
	if err != nil {
		t.Fatal(err)
	}
	c.NFS().Signal(t, "STOP")
	r := reader{f, make(chan error, 1)}
	r.goOn()
	r.waits(t)
	abort(t, d, a)
	if err := <-r.end; !errors.Is(err, unix.EIO) {
		t.Errorf("the reader was told %v", err)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Error(err)
	}
	if err := loopdev.Detach(t.Context(), dev.Path); err != nil {
		t.Error(err)
	}
	within(t, 4*time.Second, "unmount by force", func() {
		if err := d.Unmount(t.Context(), a, true); err != nil || !gone(a.Target.Dir) {
			t.Errorf("by force: %v", err)
		}
	})
	c.NFS().Signal(t, "CONT")
}
