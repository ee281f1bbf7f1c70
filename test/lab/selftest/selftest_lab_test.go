//go:build lab

package selftest

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/test/lab/control"
)

func TestModules(t *testing.T) {
	for _, path := range []string{"/sys/bus/rbd/add_single_major", "/sys/class/iscsi_transport/tcp", "/sys/module/nfsv4", "/sys/module/nfsv3", "/sys/module/sd_mod"} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	algorithms, err := os.ReadFile("/proc/crypto")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"crc32c", "ghash", "aes"} {
		if !strings.Contains(string(algorithms), ": "+name+"\n") {
			t.Errorf("the kernel does not have %s", name)
		}
	}
}

// TestServers connects to every server that tests may need.
func TestServers(t *testing.T) {
	connect(t, control.Monitor, "10.99.0.1:3300", control.Portal, control.Portal6, "10.99.0.1:2049", "[fd99::1]:2049", "10.99.0.1:111")
}

func connect(t *testing.T, addresses ...string) {
	t.Helper()
	for _, address := range addresses {
		conn, err := net.DialTimeout("tcp", address, 10*time.Second)
		if err != nil {
			t.Error(err)
			continue
		}
		conn.Close()
	}
}

func TestControl(t *testing.T) {
	c := control.Dial(t)
	t.Run("run", func(t *testing.T) {
		if got := c.Feed(t, strings.NewReader("hello"), "cat"); got != "hello" {
			t.Errorf("cat says %q", got)
		}
		if r, err := c.Try(nil, "false"); err != nil || r.Code != 1 {
			t.Errorf("false: %+v, %v", r, err)
		}
		if _, err := c.Try(nil, "reboot"); err == nil {
			t.Error("a program that is not in the list could be run")
		}
	})
	t.Run("file", func(t *testing.T) {
		c.Put(t, "selftest/file", strings.NewReader("content"))
		if got := string(c.Get(t, "selftest/file")); got != "content" {
			t.Errorf("the file holds %q", got)
		}
	})
	t.Run("ceph", func(t *testing.T) {
		c.Ceph().Image(t, "rbd/selftest", 16<<20, nil, "snap")
		if got := c.Run(t, "rbd", "ls"); got != "selftest\n" {
			t.Errorf("rbd ls: %q", got)
		}
	})
	t.Run("six", func(t *testing.T) { cluster(t, c.Cluster(t, control.Six), "[fd99::1]:6789", "[fd99::1]:3300") })
	t.Run("three", func(t *testing.T) {
		three := c.Cluster(t, control.Three)
		cluster(t, three, "10.99.0.3:6789", "10.99.0.3:6790", "10.99.0.3:6791", "10.99.0.3:3302")
		three.Signal(t, "mon.b", "KILL")
		three.Run(t, "rbd", "ls") // the two others go on
		three.Start(t, "mon.b")
	})
	t.Run("tgt", func(t *testing.T) {
		const iqn = "iqn.2026-01.lab:selftest"
		c.TGT().Target(t, control.Target{IQN: iqn, LUNs: []control.LUN{{Number: 1, File: c.TGT().Disk(t, 1<<20)}}})
		if got := c.TGT().Adm(t, "show", "target"); !strings.Contains(got, iqn) {
			t.Errorf("tgtadm says\n%s", got)
		}
	})
}

// TestSignals ends every server and starts it again.
func TestSignals(t *testing.T) {
	c := control.Dial(t)
	for _, server := range []string{"tgt", "nfs", "osd", "mon"} {
		for _, signal := range []string{"STOP", "CONT", "KILL"} {
			c.Signal(t, server, signal)
		}
		c.Start(t, server)
	}
	c.Ceph().Image(t, "rbd/after", 1<<20, nil)
}

// cluster uses a cluster and connects to its monitors.
func cluster(t *testing.T, c control.Ceph, monitors ...string) {
	t.Helper()
	connect(t, monitors...)
	c.Image(t, "rbd/selftest", 1<<20, nil)
	if got := c.Run(t, "rbd", "ls"); got != "selftest\n" {
		t.Errorf("rbd ls: %q", got)
	}
}
