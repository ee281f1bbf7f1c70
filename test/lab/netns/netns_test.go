package netns

import (
	"net"
	"os"
	"slices"
	"testing"

	"github.com/windlass-hpc/windlass/internal/mountinfo"
)

func TestMain(m *testing.M) { Main(m) }

func TestNamespaces(t *testing.T) {
	if os.Getpid() != 1 {
		t.Errorf("this is process %d, not the first of a namespace", os.Getpid())
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback == 0 && i.Flags&net.FlagUp != 0 {
			t.Errorf("interface %s of somebody else is up in here", i.Name)
		}
	}
	for _, address := range []string{IPv4, IPv6} {
		l, err := net.Listen("tcp", net.JoinHostPort(address, "111")) // any port is free, also below 1024
		if err != nil {
			t.Error(err)
			continue
		}
		l.Close()
	}
	entries, err := os.ReadDir("/run")
	if err != nil || len(entries) > 0 {
		t.Errorf("/run holds %v, %v", entries, err)
	}
	if mounted, err := mountinfo.Below(os.TempDir()); err != nil || slices.ContainsFunc(mounted, func(i *mountinfo.Info) bool { return i.Mountpoint != os.TempDir() }) {
		t.Errorf("what others have mounted is mounted in here too: %v, %v", mounted, err)
	}
	if _, err := mountinfo.Below("/"); err != nil {
		t.Errorf("/proc is not that of the namespace: %v", err)
	}
	if _, err := os.Stat("/proc/1/exe"); err != nil {
		t.Error(err)
	}
}
