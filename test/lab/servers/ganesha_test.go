package servers

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func nullCall(t *testing.T, ctx context.Context, addr netip.Addr, port uint16, program, version uint32, want bool) {
	t.Helper()
	if err := callNull(ctx, netip.AddrPortFrom(addr, port), program, version); (err == nil) != want {
		t.Errorf("program %d version %d at %v port %d: %v", program, version, addr, port, err)
	}
}

// TestGanesha: all versions at both addresses, also after it was killed.
func TestGanesha(t *testing.T) {
	ctx, dir := begin(t)
	images, more := filepath.Join(dir, "images"), filepath.Join(dir, "more")
	for _, d := range []string{images, more} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	g, err := StartGanesha(ctx, GaneshaConfig{Dir: filepath.Join(dir, "nfs"), V3: true, Addr: ipv4()}, Export{Dir: images, Name: "/images", ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	stop(t, g)
	check := func(exports string) {
		t.Helper()
		for _, addr := range []netip.Addr{ipv4(), ipv6()} {
			nullCall(t, ctx, addr, 2049, 100003, 4, true)
			nullCall(t, ctx, addr, 2049, 100003, 3, true)
			nullCall(t, ctx, addr, 2049, 100003, 2, false)
			nullCall(t, ctx, addr, mountPort, 100005, 3, true)
			nullCall(t, ctx, addr, 111, 100000, 3, true)
		}
		conf, err := os.ReadFile(filepath.Join(dir, "nfs", "ganesha.conf"))
		if err != nil || !strings.Contains(string(conf), exports) {
			t.Errorf("not exported: %s in %s, %v", exports, conf, err)
		}
	}
	check(images)
	if err := g.Signal(ctx, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	nullCall(t, ctx, ipv4(), 2049, 100003, 4, false)
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	check(images)
	if err := g.Restart(ctx, Export{Dir: images, Name: "/images"}, Export{Dir: more, Name: "/more"}); err != nil {
		t.Fatal(err)
	}
	check(more)
	if err := g.Restart(ctx, Export{Dir: filepath.Join(dir, "missing"), Name: "/missing"}); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("what is not there is exported: %v", err)
	}
	check(more) // it goes on as it was
}

// TestGaneshaStopped: a server that is stopped takes calls and answers once it goes on. Without NFS 3 it needs no rpcbind.
func TestGaneshaStopped(t *testing.T) {
	ctx, dir := begin(t)
	g, err := StartGanesha(ctx, GaneshaConfig{Dir: filepath.Join(dir, "nfs"), Addr: ipv6()}, Export{Dir: dir, Name: "/all"})
	if err != nil {
		t.Fatal(err)
	}
	stop(t, g)
	nullCall(t, ctx, ipv6(), 2049, 100003, 3, false)
	nullCall(t, ctx, ipv6(), 111, 100000, 2, false)
	if err := g.Signal(ctx, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() { answered <- callNull(ctx, netip.AddrPortFrom(ipv6(), 2049), 100003, 4) }()
	select {
	case err := <-answered:
		t.Errorf("a server that is stopped answers: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	if err := g.Signal(ctx, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
}
