package chunk_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/loopdev"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/mount/mounttest"
	"github.com/windlass-hpc/windlass/swagger/models"
)

func ref[T any](v T) *T { return &v }

func spec(change func(*models.MountChunkfs)) *models.Mount {
	part := &models.MountChunkfs{Image: ref("debian/12"), Origins: []*models.ChunkfsOrigin{{URL: ref("http://127.0.0.1:1/store")}}}
	if change != nil {
		change(part)
	}
	return &models.Mount{Kind: models.MountKindChunkfs, Chunkfs: part}
}

func TestSpecsThatCannotBeRight(t *testing.T) {
	digest := "blake3:" + strings.Repeat("ab", 32)
	type part = models.MountChunkfs
	d := newFake(t).driver()
	for says, change := range map[string]func(*part){
		"chunkfs.image is missing":                     func(p *part) { p.Image = nil },
		"chunkfs.image: tag":                           func(p *part) { p.Image = ref("../x") },
		"chunkfs.image: ":                              func(p *part) { p.Image = ref("blake3:abc") },
		"chunkfs.digest: ":                             func(p *part) { p.Digest = "sha256:x" },
		"two different digests":                        func(p *part) { p.Image, p.Digest = &digest, "sha256:"+strings.Repeat("ab", 32) },
		"chunkfs.origins has 0 entries":                func(p *part) { p.Origins = nil },
		"chunkfs.origins has 17 entries":               func(p *part) { p.Origins = make([]*models.ChunkfsOrigin, 17) },
		"chunkfs.origins.0.url is missing":             func(p *part) { p.Origins[0] = nil },
		`chunkfs.origins.0.url has the scheme "ftp"`:   func(p *part) { p.Origins[0].URL = ref("ftp://hush@h/") },
		"chunkfs.origins.0 has a password and a token": func(p *part) { p.Origins[0].Token, p.Origins[0].Password = "hush", "hush" },
		"chunkfs.origins.0.ca holds no certificate":    func(p *part) { p.Origins[0].Ca = "hush" },
		`chunkfs.mode "fast" is none of`:               func(p *part) { p.Mode = ref("fast") },
		`chunkfs.verify "maybe" is none of [on off]`:   func(p *part) { p.Verify = ref("maybe") },
		`chunkfs.prefetch "some" is none of`:           func(p *part) { p.Prefetch = ref("some") },
		"chunkfs.role: ":                               func(p *part) { p.Role = ref("a/b") },
		"chunkfs.bandwidth -1":                         func(p *part) { p.Bandwidth = ref(int64(-1)) },
	} {
		err := d.Validate(spec(change))
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hush") {
			t.Errorf("got %v (%s), want invalid that says %q", err, fault.KindOf(err), says)
		}
	}
	if err := d.Validate(&models.Mount{}); !fault.Is(err, fault.Invalid) {
		t.Errorf("no part: %v", err)
	}
	if err := d.Validate(spec(func(p *part) { p.Image, p.Digest, p.Mode, p.Verify = &digest, digest, ref("lazy"), ref("off") })); err != nil {
		t.Error(err)
	}
}

// wantImage fails when the fake's image is not at dir.
func wantImage(t *testing.T, dir string) {
	t.Helper()
	big, err := os.ReadFile(filepath.Join(dir, "big"))
	if err != nil || !bytes.Equal(big, bytes.Repeat([]byte("windlass"), 2048)) {
		t.Errorf("big has %d bytes that are not what they should be, %v", len(big), err)
	}
	if small, err := os.ReadFile(filepath.Join(dir, "small")); err != nil || string(small) != "small\n" {
		t.Errorf("small is %q, %v", small, err)
	}
}

func wantGone(t *testing.T, d mount.Driver, target mount.Target) {
	t.Helper()
	if _, state, err := d.Probe(t.Context(), 1, spec(nil), target); err != nil || state != mount.Gone {
		t.Errorf("there is still something: state %d, %v", state, err)
	}
	if _, err := os.Lstat(target.Scratch); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("scratch is left: %v", err)
	}
	if loops, err := loopdev.List(t.Context()); err != nil {
		t.Error(err)
	} else {
		for _, l := range loops {
			if strings.HasPrefix(l.Name, "windlass-chunktest/") {
				t.Errorf("loop device %s is left", l.Name)
			}
		}
	}
}

func TestMountFromFilesAndFromLoopDevices(t *testing.T) {
	for name, cacheDir := range map[string]string{"disk": t.TempDir(), "tmpfs": tmpfs(t)} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			for _, path := range []*string{&f.opened.Metadata, &f.opened.Device} {
				content, err := os.ReadFile(*path)
				if err != nil {
					t.Fatal(err)
				}
				*path = filepath.Join(cacheDir, filepath.Base(*path))
				if err := os.WriteFile(*path, content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			d, target := f.driver(), mounttest.Place(t)
			a, err := d.Mount(t.Context(), 1, spec(nil), nil, target)
			if err != nil {
				t.Fatal(err)
			}
			wantImage(t, target.Dir)
			at, err := fsmount.At(target.Dir)
			if err != nil || at == nil || at.FSType != "erofs" || !fsmount.ReadOnly(at) || !strings.Contains(at.Options, "nodev") {
				t.Errorf("mounted is %+v, %v", at, err)
			}
			kernel := "loop"
			if mountsFiles(t, t.TempDir()) {
				kernel = "file"
			}
			if loop := strings.HasPrefix(at.Source, "/dev/loop"); loop != (name == "tmpfs" || kernel == "loop") {
				t.Errorf("it is mounted from %s", at.Source)
			}
			if got := f.open["1"]; got.Kernel != kernel || got.Target != target.Dir || !got.Verify || got.Role != "boot" || got.Prefetch != control.PrefetchTrace {
				t.Errorf("the server was asked for %+v", got)
			}
			if err := d.Unmount(t.Context(), a, false); err != nil {
				t.Error(err)
			}
			wantGone(t, d, target)
		})
	}
}

// mountsFiles reports whether the kernel mounts EROFS from a file in dir: it looks into that, or asks for a block device at once.
func mountsFiles(t *testing.T, dir string) bool {
	t.Helper()
	path := filepath.Join(dir, "empty")
	if err := os.WriteFile(path, make([]byte, 1<<16), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := fsmount.Create(t.Context(), "erofs", []fsmount.Option{{Key: "source", Value: path}}, unix.MOUNT_ATTR_RDONLY)
	if err == nil {
		t.Fatal("the kernel has mounted an empty file")
	}
	return !errors.Is(err, unix.ENOTBLK)
}

// tmpfs makes a directory that the kernel mounts no files from.
func tmpfs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestWhatTheServerRefusesIsToldAndLeavesNothing(t *testing.T) {
	for _, refuse := range []error{
		fault.Hintf(fault.New(fault.NotFound, "there is no tag debian/12"), "look what there is"),
		fault.New(fault.Corrupt, "the index has the wrong digest"), fault.New(fault.Timeout, "no origin answers"),
	} {
		f := newFake(t)
		f.refuse = refuse
		d, target := f.driver(), mounttest.Place(t)
		_, err := d.Mount(t.Context(), 1, spec(nil), nil, target)
		if fault.KindOf(err) != fault.KindOf(refuse) || !strings.Contains(err.Error(), refuse.Error()) || fault.HintOf(err) != fault.HintOf(refuse) {
			t.Errorf("got %v (%s, %q), want %v", err, fault.KindOf(err), fault.HintOf(err), refuse)
		}
		wantGone(t, d, target)
	}
}

func TestWhatTheKernelRefusesIsToldAndLeavesNothing(t *testing.T) {
	f := newFake(t)
	if err := os.WriteFile(f.opened.Metadata, bytes.Repeat([]byte{7}, 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	d, target := f.driver(), mounttest.Place(t)
	_, err := d.Mount(t.Context(), 1, spec(nil), nil, target)
	if !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "mount the image blake3:") {
		t.Errorf("got %v (%s)", err, fault.KindOf(err))
	}
	wantGone(t, d, target)
}

func TestAServerThatDoesNotAnswer(t *testing.T) {
	f := newFake(t)
	d, target := f.driver(), mounttest.Place(t)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	resume := f.stall()
	time.AfterFunc(400*time.Millisecond, resume) // the image is given back when it answers again
	if _, err := d.Mount(ctx, 1, spec(nil), nil, target); !fault.Is(err, fault.Timeout) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v (%s), want a timeout", err, fault.KindOf(err))
	}
	wantGone(t, d, target)

	a, err := d.Mount(t.Context(), 1, spec(nil), nil, target)
	if err != nil {
		t.Fatal(err)
	}
	resume = f.stall()
	if _, state, err := d.Probe(t.Context(), 1, spec(nil), target); err != nil || state != mount.Ready {
		t.Errorf("probe: state %d, %v", state, err)
	}
	began := time.Now()
	d.Refresh(t.Context(), []mount.ID{1})
	if took := time.Since(began); took > time.Second {
		t.Errorf("to look at it took %s", took)
	}
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := d.Unmount(short, a, false); !fault.Is(err, fault.Timeout) {
		t.Errorf("unmount: %v (%s), want a timeout", err, fault.KindOf(err))
	}
	if _, state, err := d.Probe(t.Context(), 1, spec(nil), target); err != nil || state != mount.Partial {
		t.Errorf("probe: state %d, %v; it is unmounted and not yet given back", state, err)
	}
	resume()
	if err := d.Unmount(t.Context(), a, false); err != nil {
		t.Error(err)
	}
	wantGone(t, d, target)
}

func TestForceLeavesADeadServerBehind(t *testing.T) {
	f := newFake(t)
	d, target := f.driver(), mounttest.Place(t)
	a, err := d.Mount(t.Context(), 1, spec(nil), nil, target)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.place.Mount("1"), []byte("{}"), 0o600); err != nil { // as the real one does
		t.Fatal(err)
	}
	resume := f.stall()
	defer resume()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := d.Unmount(ctx, a, true); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(target.Scratch); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("scratch is left: %v", err)
	}
	if at, err := fsmount.At(target.Dir); err != nil || at != nil {
		t.Errorf("still mounted: %+v, %v", at, err)
	}
	if ids, err := d.List(t.Context()); err != nil || len(ids) != 1 || ids[0] != 1 {
		t.Errorf("list: %v, %v; want mount 1, which the server has open", ids, err)
	}
	delete(f.open, "1")
}

func TestHowItFares(t *testing.T) {
	f := newFake(t)
	f.stats = control.Stats{Image: f.opened.Image, Mode: control.Direct, Size: 16384, Cached: 16384, Complete: true, Latency: []control.Bucket{{Le: 0.1, Count: 2}}}
	d, target := f.driver(), mounttest.Place(t)
	m := spec(nil)
	if d.Observe(1, m); m.Chunkfs.Status != nil {
		t.Errorf("before it is mounted: %+v", m.Chunkfs.Status)
	}
	a, err := d.Mount(t.Context(), 1, spec(nil), nil, target)
	if err != nil {
		t.Fatal(err)
	}
	before := m.Chunkfs
	d.Refresh(t.Context(), []mount.ID{1})
	d.Observe(1, m)
	if s := m.Chunkfs.Status; s == nil || s.Asked == nil || !s.Complete || s.Cached != 16384 || s.Latency[0].Count != 2 || s.Error != "" {
		t.Errorf("status is %+v", s)
	}
	if before.Status != nil {
		t.Error("what was given was changed, not a copy")
	}
	if err := d.Unmount(t.Context(), a, false); err != nil {
		t.Error(err)
	}
	m = spec(nil)
	if d.Observe(1, m); m.Chunkfs.Status != nil {
		t.Errorf("after it is unmounted: %+v", m.Chunkfs.Status)
	}
}
