package servers

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/test/lab/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

func ipv4() netip.Addr { return netip.MustParseAddr(netns.IPv4) }
func ipv6() netip.Addr { return netip.MustParseAddr(netns.IPv6) }

// begin gives a context and a directory with a path that is short enough for sockets. At the end of the test no process may be left.
func begin(t *testing.T) (context.Context, string) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "servers")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		nothingRuns(t)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	t.Cleanup(cancel)
	return ctx, dir
}

// stop stops a server at the end of the test, before it is looked for what runs.
func stop(t *testing.T, s interface{ Stop() error }) {
	t.Helper()
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
}

// nothingRuns: this is a process namespace of its own, so that all there is is ours.
func nothingRuns(t *testing.T) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("processes: %v, %v", dirs, err)
	}
	for _, d := range dirs {
		stat, err := os.ReadFile(d + "/stat")
		if err != nil || d == fmt.Sprintf("/proc/%d", os.Getpid()) || strings.Contains(string(stat), ") Z ") {
			continue // a zombie waits for the first process of the namespace, the test
		}
		t.Errorf("process %s is left", stat)
	}
}

func mustMake(t *testing.T, path string, size int) string {
	t.Helper()
	data := make([]byte, size)
	copy(data, path)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
