//go:build ceph

package rbd

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ceph/go-ceph/rbd"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/test/lab/netns"
	"github.com/windlass-hpc/windlass/test/lab/servers"
)

func TestMain(m *testing.M) { netns.Main(m) }

// TestVerify: a cluster that gives back other bytes than were written is found out, wherever they lie, and nothing is left of the image.
func TestVerify(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "rbd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	ceph, err := servers.StartCeph(ctx, servers.CephConfig{Dir: filepath.Join(dir, "ceph"), Addr: netip.MustParseAddr(netns.IPv4)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ceph.Stop(); err != nil {
			t.Error(err)
		}
	})
	file := filepath.Join(dir, "image")
	if err := os.WriteFile(file, []byte(strings.Repeat("content", 3_000_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Connect(ctx, Config{Conf: ceph.Conf(), Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
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
