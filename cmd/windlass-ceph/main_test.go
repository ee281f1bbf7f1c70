//go:build ceph

package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"github.com/windlass-hpc/windlass/test/lab/netns"
	"github.com/windlass-hpc/windlass/test/lab/servers"
)

// actVar makes another program of the test program: windlass-ceph itself, or one that has an image open.
const actVar = "WINDLASS_CEPH_TEST_ACTS"

func TestMain(m *testing.M) {
	switch os.Getenv(actVar) {
	case "windlass-ceph":
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr, os.LookupEnv))
	case "holder":
		if err := hold(os.Args[1], os.Args[2], os.Args[3] == "rw"); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	netns.Main(m)
}

// hold opens an image of the pool rbd, says so, and reads its beginning whenever there is a line on stdin. It ends with stdin.
func hold(image, snapshot string, write bool) error {
	conn, err := rados.NewConn()
	if err != nil {
		return err
	}
	if err := conn.ReadConfigFile(os.Getenv("CEPH_CONF")); err != nil {
		return err
	}
	if err := conn.Connect(); err != nil {
		return err
	}
	io, err := conn.OpenIOContext("rbd")
	if err != nil {
		return err
	}
	open := rbd.OpenImageReadOnly
	if write {
		open = rbd.OpenImage
	}
	img, err := open(io, image, snapshot)
	if err != nil {
		return err
	}
	fmt.Println("open")
	line := make([]byte, 1)
	for {
		if n, err := os.Stdin.Read(line); n == 0 || err != nil {
			return nil
		}
		head := make([]byte, 16)
		if _, err := img.ReadAt(head, 0); err != nil {
			fmt.Println("error:", err)
			continue
		}
		fmt.Printf("%q\n", head)
	}
}

// lab is a cluster and a directory for the files of a test.
type lab struct {
	*testing.T
	ctx  context.Context
	ceph *servers.Ceph
	dir  string
}

// start starts a cluster. Watchers that have died are forgotten early, so that tests need not wait.
func start(t *testing.T, addr string) *lab {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "windlass-ceph")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	t.Cleanup(cancel)
	c, err := servers.StartCeph(ctx, servers.CephConfig{Dir: filepath.Join(dir, "ceph"), Addr: netip.MustParseAddr(addr),
		Settings: map[string]string{"osd_client_watch_timeout": "8"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return &lab{t, ctx, c, dir}
}

// in is the lab for a subtest.
func (l *lab) in(t *testing.T) *lab { return &lab{t, l.ctx, l.ceph, l.dir} }

// rbd runs Ceph's rbd, which must succeed.
func (l *lab) rbd(args ...string) string {
	l.Helper()
	out, err := l.ceph.Run(l.ctx, nil, "rbd", args...)
	if err != nil {
		l.Fatal(err)
	}
	return string(out)
}
