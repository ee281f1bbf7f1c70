package lab

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/test/lab/control"
	"github.com/windlass-hpc/windlass/test/lab/netns"
	"github.com/windlass-hpc/windlass/test/lab/servers"
)

// startPatience is how long all servers may take to start: 2 s by themselves, much longer on a busy machine.
const startPatience = 120 * time.Second

// Port is where the lab takes orders of tests.
const Port = "8000"

// Servers are what the lab runs.
type Servers struct {
	clusters clusters
	tgt      *servers.TGT
	nfs      *servers.Ganesha
}

// Start starts all servers, each in a directory of its own below the lab's.
func Start(ctx context.Context) (*Servers, error) {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	s := &Servers{}
	v4, v6 := netip.MustParseAddr(netns.IPv4), netip.MustParseAddr(netns.IPv6)
	ended := make(chan error)
	starts := []func() error{
		func() error { _, err := s.clusters.get(ctx, ""); return err },
		func() (err error) {
			portals := []netip.AddrPort{netip.AddrPortFrom(v4, 0), netip.AddrPortFrom(v6, 0)}
			s.tgt, err = servers.StartTGT(ctx, servers.TGTConfig{Dir: dir() + "/tgt", Portals: portals})
			return err
		},
		func() (err error) { s.nfs, err = startNFS(ctx, v4); return err },
	}
	for _, start := range starts {
		go func() { ended <- start() }()
	}
	var errs []error
	for range starts {
		errs = append(errs, <-ended)
	}
	return s, errors.Join(errs...)
}

// exports is where the directories are that NFS clients may mount.
func exports() string { return dir() + "/exports" }

func startNFS(ctx context.Context, addr netip.Addr) (*servers.Ganesha, error) {
	list := []servers.Export{{Name: control.Export}, {Name: control.ReadOnly, ReadOnly: true}, {Name: control.Squash, RootSquash: true}}
	for i := range list {
		list[i].Dir = filepath.Join(exports(), list[i].Name)
		if err := os.MkdirAll(list[i].Dir, 0o755); err != nil {
			return nil, err
		}
	}
	return servers.StartGanesha(ctx, servers.GaneshaConfig{Dir: dir() + "/nfs", V3: true, Addr: addr}, list...)
}

// one makes Daemons of a server that has one process.
type one struct {
	signal func(context.Context, syscall.Signal) error
	start  func(context.Context) error
}

func (o one) Signal(ctx context.Context, _ string, sig syscall.Signal) error {
	return o.signal(ctx, sig)
}
func (o one) Start(ctx context.Context, _ string) error { return o.start(ctx) }

// Serve takes orders of tests until the test ends.
func (s *Servers) Serve(t testing.TB) {
	t.Helper()
	c := &control.Server{
		Info:    control.Info{Dir: dir(), Exports: exports()},
		Env:     []string{"TGT_IPC_SOCKET=" + dir() + "/tgt/tgtd.ipc"},
		Daemons: map[string]control.Daemons{"tgt": one{s.tgt.Signal, s.tgt.Start}, "nfs": one{s.nfs.Signal, s.nfs.Start}},
		Targets: s.tgt,
		Cluster: s.clusters.get,
	}
	l, err := net.Listen("tcp", net.JoinHostPort(netns.IPv4, Port))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: c.Handler(), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		if t.Failed() {
			t.Log(logs())
		}
	})
}
