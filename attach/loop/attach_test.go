package loop_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/attach/loop"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/loopdev"
	"github.com/windlass-hpc/windlass/swagger/models"
)

var root = attach.Base{Dir: "/"}

// driver gives one whose devices no other test run has.
func driver(t *testing.T) *loop.Driver {
	return loop.New(fmt.Sprintf("lt%d-%x", os.Getpid(), len(t.Name())))
}

// device attaches for the time of the test.
func device(t *testing.T, d *loop.Driver, s *models.Attach, base attach.Base) attach.Device {
	t.Helper()
	dev, err := d.Attach(t.Context(), 1, s, base)
	must(t, err)
	t.Cleanup(func() {
		if err := d.Detach(context.Background(), dev, false); err != nil {
			t.Error(err)
		}
	})
	return dev
}

func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	image := file(t, dir, "image", 1<<20)
	program := filepath.Join(dir, "program")
	b, err := os.ReadFile("/bin/sleep")
	must(t, err)
	must(t, os.WriteFile(program, b, 0o700))
	running := exec.Command(program, "60")
	must(t, running.Start())
	t.Cleanup(func() { _ = running.Process.Kill(); _ = running.Wait() })
	mounted := t.TempDir()
	file(t, mounted, "image", 1<<20)
	must(t, unix.Mount(mounted, mounted, "", unix.MS_BIND, ""))
	t.Cleanup(func() { must(t, unix.Unmount(mounted, 0)) })
	must(t, unix.Mount("", mounted, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))

	tests := map[string]struct {
		path     string
		readOnly *bool
		base     bool
		want     bool
		kind     fault.Kind
	}{
		"written to by its user":            {path: image},
		"only read by its user":             {path: image, base: true, want: true},
		"only read, but asked for writable": {path: image, base: true, readOnly: ptr(false)},
		"asked for":                         {path: image, readOnly: ptr(true), want: true},
		"a program that runs":               {path: program, want: true},
		"a read-only mount":                 {path: mounted + "/image", want: true},
		"a read-only mount, writable":       {path: mounted + "/image", readOnly: ptr(false), kind: fault.Invalid},
	}
	for what, tt := range tests {
		t.Run(what, func(t *testing.T) {
			d := driver(t)
			s := spec(tt.path, func(l *models.AttachLoopback) { l.ReadOnly = tt.readOnly })
			base := attach.Base{Dir: "/", ReadOnly: tt.base}
			if tt.kind != "" {
				if _, err := d.Attach(t.Context(), 1, s, base); !fault.Is(err, tt.kind) || fault.HintOf(err) == "" {
					t.Errorf("attach: %v", err)
				}
				return
			}
			dev := device(t, d, s, base)
			if dev.ReadOnly != tt.want {
				t.Errorf("read-only: %v, want %v", dev.ReadOnly, tt.want)
			}
			f, err := os.OpenFile(dev.Path, os.O_RDWR, 0)
			if err == nil {
				_, err = f.Write(make([]byte, 512))
				f.Close()
			}
			if (err != nil) != tt.want {
				t.Errorf("writing: %v", err)
			}
		})
	}
}

func TestOffsetAndSize(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	must(t, os.WriteFile(image, []byte(strings.Repeat("a", 1024)+strings.Repeat("b", 1024)+strings.Repeat("c", 1024)), 0o600))
	dev := device(t, driver(t), spec(image, func(l *models.AttachLoopback) {
		l.Offset, l.SizeLimit = ptr(int64(1024)), ptr(int64(1024))
	}), root)
	got, err := os.ReadFile(dev.Path)
	must(t, err)
	if string(got) != strings.Repeat("b", 1024) {
		t.Errorf("the device has %q", got)
	}
}

func TestPathsBelowAMount(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(dir+"/images", 0o700))
	image := file(t, dir+"/images", "image", 1<<20)
	must(t, os.Symlink("/images/image", dir+"/link")) // absolute inside the mount
	for _, path := range []string{"images/image", "/images/image", "./images/image", "link"} {
		t.Run(path, func(t *testing.T) {
			device(t, driver(t), inMount(path), attach.Base{Dir: dir, Confined: true})
			all, err := loopdev.List(t.Context())
			must(t, err)
			for _, dev := range all {
				if dev.BackingFile == image {
					return
				}
			}
			t.Errorf("no loop device is on %s", image)
		})
	}
}

// partitioned makes an image with partitions 1 and 5, the second of which begins with the word windlass.
func partitioned(t *testing.T) string {
	t.Helper()
	image := file(t, t.TempDir(), "disk", 4<<20)
	sfdisk(t, image, "label: gpt\n1: start=2048, size=2048\n5: start=4096, size=2048\n")
	f, err := os.OpenFile(image, os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte("windlass"), 4096*512)
	must(t, err)
	return image
}

func TestPartition(t *testing.T) {
	image := partitioned(t)
	d := driver(t)
	s := spec(image, func(l *models.AttachLoopback) { l.Partition = ptr(int64(5)) })
	dev := device(t, d, s, root)
	if dev.Path != dev.Parent+"p5" {
		t.Errorf("attached %+v", dev)
	}
	got, err := os.ReadFile(dev.Path)
	must(t, err)
	if len(got) != 1<<20 || string(got[:8]) != "windlass" {
		t.Errorf("the partition has %d bytes, first %q", len(got), got[:min(8, len(got))])
	}
	found, state, err := d.Probe(t.Context(), 1, s)
	if err != nil || state != attach.Ready || found != dev {
		t.Errorf("probe: %+v, %d, %v; attached was %+v", found, state, err, dev)
	}

	// The node has gone, or was never made: a /dev without devtmpfs has none.
	must(t, os.Remove(dev.Path))
	again := device(t, driver(t), spec(image, func(l *models.AttachLoopback) { l.ReadPartitions = ptr(true) }), root)
	if again.Parent != "" || again.Path == dev.Parent {
		t.Errorf("attached %+v for the whole", again)
	}
	if _, err := os.Stat(again.Path + "p1"); err != nil {
		t.Errorf("the partitions were not read: %v", err)
	}

	_, err = d.Attach(t.Context(), 2, spec(image, func(l *models.AttachLoopback) { l.Partition = ptr(int64(3)) }), root)
	if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "has no partition 3, only 1, 5") {
		t.Errorf("attach of a partition that is not there: %v", err)
	}
	if _, state, err := d.Probe(t.Context(), 2, nil); err != nil || state != attach.Gone {
		t.Errorf("left behind: %d, %v", state, err)
	}
}

func TestPartitionInUse(t *testing.T) {
	d := driver(t)
	dev := device(t, d, spec(partitioned(t), func(l *models.AttachLoopback) { l.Partition = ptr(int64(1)) }), root)
	if out, err := exec.Command("mkfs.ext4", "-q", dev.Path).CombinedOutput(); err != nil {
		t.Fatalf("mkfs: %v: %s", err, out)
	}
	dir := t.TempDir()
	must(t, unix.Mount(dev.Path, dir, "ext4", unix.MS_RDONLY, ""))
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	err := d.Detach(t.Context(), dev, true)
	if !fault.Is(err, fault.Busy) || !strings.Contains(err.Error(), dir) {
		t.Errorf("detach: %v, want busy naming the mount at %s", err, dir)
	}
	if _, state, err := d.Probe(t.Context(), 1, nil); err != nil || state != attach.Ready {
		t.Errorf("probe: %d, %v", state, err)
	}
}

// TestProbePartial takes the partition of an attachment away behind its back.
func TestProbePartial(t *testing.T) {
	d := driver(t)
	s := spec(partitioned(t), func(l *models.AttachLoopback) { l.Partition = ptr(int64(5)) })
	dev := device(t, d, s, root)
	if out, err := exec.Command("partx", "--delete", dev.Parent).CombinedOutput(); err != nil {
		t.Fatalf("partx: %v: %s", err, out)
	}
	found, state, err := d.Probe(t.Context(), 1, s)
	if err != nil || state != attach.Partial || found.Path != dev.Parent {
		t.Errorf("probe: %+v, %d, %v", found, state, err)
	}
	must(t, d.Detach(t.Context(), found, false))
	if _, state, err = d.Probe(t.Context(), 1, s); err != nil || state != attach.Gone {
		t.Errorf("probe after detach: %d, %v", state, err)
	}
}

func TestDirectIO(t *testing.T) {
	d := driver(t)
	device(t, d, spec(file(t, t.TempDir(), "image", 1<<20), func(l *models.AttachLoopback) { l.DirectIo = true }), root)
	all, err := loopdev.List(t.Context())
	must(t, err)
	for _, dev := range all {
		if strings.HasPrefix(dev.BackingFile, filepath.Dir(t.TempDir())) && !dev.DirectIO {
			t.Errorf("direct I/O is off: %+v", dev)
		}
	}
}

func TestCancelledWhileItWaitsForAUser(t *testing.T) {
	d := driver(t)
	dev := device(t, d, spec(file(t, t.TempDir(), "image", 1<<20), nil), root)
	f, err := os.Open(dev.Path)
	must(t, err)
	defer f.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Detach(ctx, dev, false); !errors.Is(err, context.Canceled) {
		t.Errorf("detach: %v", err)
	}
	f.Close()
}
