package control

import (
	"bytes"
	"encoding/json"
	"net/url"
	"path"
	"strconv"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/test/lab/servers"
)

// Portal is where the lab's iSCSI target listens; Portal6 is the same by IPv6.
const (
	Portal  = "10.99.0.1:3260"
	Portal6 = "[fd99::1]:3260"
)

// What a target is made of.
type (
	Target  = servers.Target
	LUN     = servers.LUN
	Account = servers.Account
)

// TGT is the lab's iSCSI target, tgt.
type TGT struct{ c *Client }

// TGT gives the lab's iSCSI target.
func (c *Client) TGT() TGT { return TGT{c} }

// Disk makes a file for a LUN, empty and of some bytes, and gives its path on the servers' side, for LUN.File and Client.Put. It is removed at
// the end of the test.
func (g TGT) Disk(t testing.TB, size int64) string {
	t.Helper()
	file := path.Join(g.c.Info(t).Dir, "disk-"+unique(t))
	g.c.Run(t, "truncate", "-s", strconv.FormatInt(size, 10), file)
	t.Cleanup(func() { g.c.Run(t, "rm", "-f", file) })
	return file
}

// Target adds a target. It is removed by force at the end of the test. One that is killed and started again has its targets again.
func (g TGT) Target(t testing.TB, target Target) {
	t.Helper()
	body, err := json.Marshal(target)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.c.do("POST", "/target", nil, bytes.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Remove(t, target.IQN) })
}

// Remove takes a target away by force, so that its connections end. One that is gone already is well.
func (g TGT) Remove(t testing.TB, iqn string) {
	t.Helper()
	if _, err := g.c.do("DELETE", "/target", url.Values{"iqn": {iqn}}, nil); err != nil {
		t.Fatal(err)
	}
}

// Adm runs tgtadm for iSCSI with an order, such as "show", on a kind of object, such as "conn".
func (g TGT) Adm(t testing.TB, order, kind string, args ...string) string {
	t.Helper()
	return g.c.Run(t, "tgtadm", append([]string{"--lld", "iscsi", "--op", order, "--mode", kind}, args...)...)
}

// Sessions gives the names of the initiators that are logged in to a target.
func (g TGT) Sessions(t testing.TB, iqn string) (initiators []string) {
	t.Helper()
	inside := false
	for line := range strings.Lines(g.Adm(t, "show", "target")) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "Target ") {
			inside = strings.HasSuffix(line, ": "+iqn)
		}
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "Initiator: "); ok && inside {
			name, _, _ = strings.Cut(name, " ")
			initiators = append(initiators, name)
		}
	}
	return initiators
}

// Signal sends a signal, such as STOP; see Client.Signal.
func (g TGT) Signal(t testing.TB, signal string) { t.Helper(); g.c.Signal(t, "tgt", signal) }

// Start starts the target's daemon again, with its targets.
func (g TGT) Start(t testing.TB) { t.Helper(); g.c.Start(t, "tgt") }
