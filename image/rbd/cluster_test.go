//go:build ceph

package rbd

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ceph/go-ceph/rbd"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/test/lab/netns"
	"github.com/windlass-hpc/windlass/test/lab/servers"
)

func TestMain(m *testing.M) { netns.Main(m) }

// connected starts a cluster, connects to it, and makes a directory.
func connected(t *testing.T) (context.Context, *Cluster, string) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "rbd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	ceph, err := servers.StartCeph(ctx, servers.CephConfig{Dir: filepath.Join(dir, "ceph"), Addr: netip.MustParseAddr(netns.IPv4)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ceph.Stop(); err != nil {
			t.Error(err)
		}
	})
	c, err := Connect(ctx, Config{Conf: ceph.Conf(), Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return ctx, c, dir
}

// TestVerify: a cluster that gives back other bytes than were written is found out, wherever they lie, and nothing is left of the image.
func TestVerify(t *testing.T) {
	ctx, c, dir := connected(t)
	file := filepath.Join(dir, "image")
	if err := os.WriteFile(file, []byte(strings.Repeat("content", 3_000_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]int64{"First": 0, "Middle": 9_000_000, "Last": 20_999_999, "BeyondTheEnd": 21_000_001} {
		t.Run(name, func(t *testing.T) {
			p, err := c.open(Name{Pool: "rbd"})
			if err != nil {
				t.Fatal(err)
			}
			defer p.close()
			spoil := func(s Progress) {
				if s.Stage == "writing" && s.Done == s.Total {
					spoil(t, p, at)
				}
			}
			_, err = c.Publish(ctx, file, Name{Pool: "rbd", Image: "spoilt", Snapshot: "v1"}, PublishOptions{Progress: spoil})
			if !fault.Is(err, fault.Corrupt) {
				t.Errorf("a byte was changed at %d: %v", at, err)
			}
			if left, err := p.images(); err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
	if r, err := c.Publish(ctx, file, Name{Pool: "rbd", Image: "whole", Snapshot: "v1"}, PublishOptions{}); err != nil || !r.Verified {
		t.Errorf("%+v, %v", r, err)
	}
}

// spoil changes one byte of the image that is being written.
func spoil(t *testing.T, p *pool, at int64) {
	names, err := p.images()
	if err != nil || len(names) != 1 {
		t.Fatalf("there is %v, %v", names, err)
	}
	img, err := rbd.OpenImage(p.io, names[0], rbd.NoSnapshot)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if _, err := img.WriteAt([]byte("!"), at); err != nil {
		t.Fatal(err)
	}
}

// TestClearUp: what an attempt has left goes, but for one that may go on: that has just made its image and not opened it yet.
func TestClearUp(t *testing.T) {
	ctx, c, dir := connected(t)
	p, err := c.open(Name{Pool: "rbd"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	young, old := partName("image", time.Now()), partName("image", time.Now().Add(-2*young))
	for _, name := range []string{young, old, "image.windlass-part-0badcafe", "image.windlass-gone-0badcafe", "other.windlass-part-0badcafe"} {
		layout := rbd.NewRbdImageOptions()
		defer layout.Destroy()
		if err := rbd.CreateImage(p.io, name, 4096, layout); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "image")
	if err := os.WriteFile(file, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	var notes []string
	_, err = c.Publish(ctx, file, Name{Pool: "rbd", Image: "image"}, PublishOptions{Note: func(text string) { notes = append(notes, text) }})
	if err != nil {
		t.Fatal(err)
	}
	left, err := p.images()
	slices.Sort(left)
	if want := []string{"image", young, "other.windlass-part-0badcafe"}; err != nil || !slices.Equal(left, want) {
		t.Errorf("there are %q, want %q (%v)", left, want, err)
	}
	if said := strings.Join(notes, "\n"); !strings.Contains(said, young+" was begun just now") || strings.Count(said, "removing rbd:rbd/image.windlass-") != 3 {
		t.Errorf("it says %q", notes)
	}
	if err := p.discard(old); err != nil {
		t.Errorf("of what has gone: %v", err)
	}
}
