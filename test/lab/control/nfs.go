package control

import (
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// NFSServer is where the lab's NFS server listens, by NFSServer6 with IPv6.
const (
	NFSServer  = "10.99.0.1"
	NFSServer6 = "fd99::1"
)

// What the NFS server exports; there are directories of these names below Info.Exports.
const (
	Export   = "/export"   // for everybody, to read and write
	ReadOnly = "/readonly" // to read
	Squash   = "/squash"   // in which root is nobody
)

// NFS is the lab's NFS server.
type NFS struct{ c *Client }

// NFS gives the lab's NFS server.
func (c *Client) NFS() NFS { return NFS{c} }

// Dir makes a directory in Export: export is what a client of NFS 4 mounts; there is its path on the servers' side, for Client.Run and Put,
// and what a client of NFS 3 mounts. It is removed at the end of the test.
func (n NFS) Dir(t testing.TB) (export, there string) { t.Helper(); return n.DirIn(t, Export) }

// DirIn makes a directory in one of the exports.
func (n NFS) DirIn(t testing.TB, parent string) (export, there string) {
	t.Helper()
	name := unique(t)
	there = path.Join(n.c.Info(t).Exports, parent, name)
	n.c.Run(t, "mkdir", there)
	t.Cleanup(func() { n.c.Run(t, "rm", "-rf", there) })
	return path.Join(parent, name), there
}

// Signal sends a signal, such as STOP; see Client.Signal.
func (n NFS) Signal(t testing.TB, signal string) { t.Helper(); n.c.Signal(t, "nfs", signal) }

// Start starts the server again.
func (n NFS) Start(t testing.TB) { t.Helper(); n.c.Start(t, "nfs") }

// made counts what tests have made on the servers' side, so that nothing is called like another.
var made atomic.Int64

func unique(t testing.TB) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(t.Name()))
	return clean + "-" + strconv.FormatInt(made.Add(1), 10)
}
