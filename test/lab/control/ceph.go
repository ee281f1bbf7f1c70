package control

import (
	"encoding/json"
	"io"
	"net/url"
	"path"
	"strconv"
	"strings"
	"testing"
)

// Monitor is where the lab's first monitor listens, by the old protocol; port 3300 speaks the new one.
const Monitor = "10.99.0.1:6789"

// Names of clusters that the lab starts when they are asked for.
const (
	Six   = "six"   // listens on IPv6
	Three = "three" // has three monitors: mon.a, mon.b, mon.c
)

// Ceph is a cluster. Its pool is rbd.
type Ceph struct {
	c    *Client
	name string // empty: the first
}

// Ceph gives the first cluster, which always runs.
func (c *Client) Ceph() Ceph { return Ceph{c: c} }

// Cluster gives another cluster, Six or Three, once it runs: the first who asks waits for some seconds.
func (c *Client) Cluster(t testing.TB, name string) Ceph {
	t.Helper()
	ceph := Ceph{c: c, name: name}
	ceph.Info(t)
	return ceph
}

// Info says where the cluster is found.
func (c Ceph) Info(t testing.TB) Cluster {
	t.Helper()
	data, err := c.c.do("POST", "/cluster", url.Values{"name": {c.name}}, nil)
	var info Cluster
	if err == nil {
		err = json.Unmarshal(data, &info)
	}
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// Run runs a program of Ceph, such as rbd or ceph, on this cluster and gives what it prints; the test ends when it fails.
func (c Ceph) Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	return c.c.feed(t, c.name, nil, name, args)
}

// Key gives the key of a user, such as client.admin.
func (c Ceph) Key(t testing.TB, entity string) string {
	t.Helper()
	return strings.TrimSpace(c.Run(t, "ceph", "auth", "print-key", entity))
}

// User makes a user with capabilities in pairs ("mon", "profile rbd", "osd", "profile rbd pool=rbd") and gives its key.
func (c Ceph) User(t testing.TB, entity string, caps ...string) string {
	t.Helper()
	c.Run(t, "ceph", append([]string{"auth", "get-or-create", entity}, caps...)...)
	return c.Key(t, entity)
}

// Image makes an empty image of some bytes, such as "rbd/name", with the features (none: layering alone) and snapshots given. It is removed
// at the end of the test, when whoever has mapped it has let it go.
func (c Ceph) Image(t testing.TB, name string, size int64, features []string, snapshots ...string) {
	t.Helper()
	c.Run(t, "rbd", append([]string{"create", "--size", strconv.FormatInt(size, 10) + "B", name}, featureArgs(features)...)...)
	c.made(t, name, snapshots)
}

// Import makes an image with content, as Image does.
func (c Ceph) Import(t testing.TB, name string, content io.Reader, features []string, snapshots ...string) {
	t.Helper()
	c.c.feed(t, c.name, content, "rbd", append([]string{"import", "--no-progress", "-", name}, featureArgs(features)...))
	c.made(t, name, snapshots)
}

func featureArgs(features []string) []string {
	if len(features) == 0 {
		features = []string{"layering"}
	}
	return []string{"--image-feature", strings.Join(features, ",")}
}

func (c Ceph) made(t testing.TB, name string, snapshots []string) {
	t.Helper()
	t.Cleanup(func() {
		_, _ = c.c.try(c.name, nil, "rbd", []string{"snap", "purge", "--no-progress", name})
		if r, err := c.c.try(c.name, nil, "rbd", []string{"rm", "--no-progress", name}); err != nil || r.Code != 0 {
			t.Errorf("rbd rm %s: %v\n%s", name, err, r.Stderr)
		}
	})
	for _, s := range snapshots {
		c.Run(t, "rbd", "snap", "create", "--no-progress", name+"@"+s)
	}
}

// Watchers gives the addresses of those that have the image mapped.
func (c Ceph) Watchers(t testing.TB, name string) (addresses []string) {
	t.Helper()
	for line := range strings.Lines(c.Run(t, "rbd", "status", name)) {
		if _, rest, ok := strings.Cut(line, "watcher="); ok {
			address, _, _ := strings.Cut(rest, " ")
			addresses = append(addresses, address)
		}
	}
	return addresses
}

// Signal sends a signal, such as STOP, to "osd", "mon" (the first monitor) or, by name, "mon.b"; see Client.Signal.
func (c Ceph) Signal(t testing.TB, server, signal string) {
	t.Helper()
	c.c.Signal(t, path.Join(c.name, server), signal)
}

// Start starts a daemon again.
func (c Ceph) Start(t testing.TB, server string) { t.Helper(); c.c.Start(t, path.Join(c.name, server)) }
