package servers

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func startCeph(t *testing.T, ctx context.Context, cfg CephConfig) *Ceph {
	t.Helper()
	c, err := StartCeph(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	stop(t, c)
	return c
}

// rbd runs rbd, which must succeed.
func rbd(t *testing.T, ctx context.Context, c *Ceph, args ...string) string {
	t.Helper()
	out, err := c.Run(ctx, nil, "rbd", args...)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestCeph takes one cluster through all that can happen to it.
func TestCeph(t *testing.T) {
	for _, addr := range []netip.Addr{ipv4(), ipv6()} {
		t.Run(addr.String(), func(t *testing.T) {
			ctx, dir := begin(t)
			c := startCeph(t, ctx, CephConfig{Dir: filepath.Join(dir, "ceph"), Addr: addr})
			file := mustMake(t, filepath.Join(dir, "file"), 100_000)
			rbd(t, ctx, c, "import", "--no-progress", file, "rbd/a")
			if info := rbd(t, ctx, c, "info", "a"); !strings.Contains(info, "features: layering\n") {
				t.Errorf("images have more than layering, which every kernel knows: %s", info)
			}
			same := func() {
				t.Helper()
				if got := rbd(t, ctx, c, "export", "--no-progress", "rbd/a", "-"); !strings.HasPrefix(got, file) {
					t.Error("the image has lost its content")
				}
			}
			t.Run("Stopped", func(t *testing.T) { stoppedOSD(t, ctx, c); same() })
			t.Run("MonKilled", func(t *testing.T) { restarted(t, ctx, c, "mon", unix.SIGKILL); same() })
			t.Run("OSDEnded", func(t *testing.T) { restarted(t, ctx, c, "osd", unix.SIGTERM); same() })
			t.Run("User", func(t *testing.T) { userOfCeph(t, ctx, c) })
			t.Run("OSDKilled", func(t *testing.T) {
				if err := c.Signal(ctx, "osd", unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
				if err := c.Start(ctx, "osd"); err == nil || !strings.Contains(err.Error(), "Durable") {
					t.Errorf("an OSD that has lost its data is started: %v", err)
				}
			})
		})
	}
}

// stoppedOSD stops the OSD: what is asked meanwhile waits, and comes when it goes on.
func stoppedOSD(t *testing.T, ctx context.Context, c *Ceph) {
	if err := c.Signal(ctx, "osd", unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := c.Run(ctx, nil, "rbd", "create", "--size", "1M", "while-stopped")
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Errorf("an OSD that is stopped has answered: %v", err)
	case <-time.After(500 * time.Millisecond):
	}
	if err := c.Signal(ctx, "osd", unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

func restarted(t *testing.T, ctx context.Context, c *Ceph, name string, sig syscall.Signal) {
	t.Helper()
	if err := c.Start(ctx, name); err == nil {
		t.Errorf("%s was started twice", name)
	}
	if err := c.Signal(ctx, name, sig); err != nil {
		t.Fatal(err)
	}
	if err := c.Signal(ctx, name, sig); !errors.Is(err, errEnded) {
		t.Errorf("%s was to be gone after %v: %v", name, sig, err)
	}
	if err := c.Start(ctx, name); err != nil {
		t.Fatal(err)
	}
}

func userOfCeph(t *testing.T, ctx context.Context, c *Ceph) {
	key, err := c.User(ctx, "client.node", "mon", "profile rbd", "osd", "profile rbd-read-only pool=rbd")
	if err != nil {
		t.Fatal(err)
	}
	keyfile := filepath.Join(filepath.Dir(c.Conf()), "node.key")
	if err := os.WriteFile(keyfile, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	as := []string{"--id", "node", "--keyfile", keyfile}
	if got := rbd(t, ctx, c, append(as, "ls")...); !strings.Contains(got, "a\n") {
		t.Errorf("the user sees %q", got)
	}
	if _, err := c.Run(ctx, nil, "rbd", append(as, "create", "--size", "1M", "b")...); err == nil {
		t.Error("who may only read has made an image")
	}
}

// TestCephDurable kills the OSD under a cluster that keeps its data.
func TestCephDurable(t *testing.T) {
	ctx, dir := begin(t)
	c := startCeph(t, ctx, CephConfig{Dir: filepath.Join(dir, "ceph"), Addr: ipv4(), Durable: true})
	file := mustMake(t, filepath.Join(dir, "file"), 100_000)
	rbd(t, ctx, c, "import", "--no-progress", file, "rbd/a")
	restarted(t, ctx, c, "osd", unix.SIGKILL)
	if got := rbd(t, ctx, c, "export", "--no-progress", "rbd/a", "-"); !strings.HasPrefix(got, file) {
		t.Error("the image has lost its content")
	}
}

// TestCephMonitors: with one of three dead the others go on.
func TestCephMonitors(t *testing.T) {
	ctx, dir := begin(t)
	c := startCeph(t, ctx, CephConfig{Dir: filepath.Join(dir, "ceph"), Addr: ipv4(), Mons: 3})
	if got := c.Monitors(true); len(got) != 3 || got[2] != "10.99.0.1:3302" {
		t.Errorf("monitors are at %v", got)
	}
	if err := c.Signal(ctx, "mon.a", unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	rbd(t, ctx, c, "create", "--size", "1M", "a")
	if err := c.Start(ctx, "mon.a"); err != nil {
		t.Fatal(err)
	}
}

// TestTwoClusters: they share a network when their addresses differ.
func TestTwoClusters(t *testing.T) {
	ctx, dir := begin(t)
	a := startCeph(t, ctx, CephConfig{Dir: filepath.Join(dir, "4"), Addr: ipv4()})
	b := startCeph(t, ctx, CephConfig{Dir: filepath.Join(dir, "6"), Addr: ipv6()})
	rbd(t, ctx, a, "create", "--size", "1M", "a")
	rbd(t, ctx, b, "create", "--size", "1M", "b")
	if got := rbd(t, ctx, b, "ls"); got != "b\n" {
		t.Errorf("the second cluster has %q", got)
	}
}

// TestCephFails: a cluster that cannot start says why and leaves nothing.
func TestCephFails(t *testing.T) {
	ctx, dir := begin(t)
	_, err := StartCeph(ctx, CephConfig{Dir: filepath.Join(dir, "ceph"), Addr: netip.MustParseAddr("192.0.2.1")})
	if err == nil || !strings.Contains(err.Error(), "192.0.2.1") {
		t.Errorf("on an address of somebody else: %v", err)
	}
	if _, err := StartCeph(ctx, CephConfig{Dir: filepath.Join(dir, strings.Repeat("x", 80)), Addr: ipv4()}); err == nil {
		t.Error("a path too long for sockets is taken")
	}
}
