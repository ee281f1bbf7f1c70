//go:build lab

package storage

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/daemon"
)

// TestMonitorDead attaches while the monitor is dead: that fails within the time that the definition gives, names the monitors, and leaves
// nothing; with the monitor back it works.
func TestMonitorDead(t *testing.T) {
	for _, kill := range []bool{true, false} {
		name := map[bool]string{true: "killed", false: "stopped"}[kill]
		t.Run(name, func(t *testing.T) {
			w, s := begin(t), lab(t)
			def := attachOf(w.small("rbd-squashfs", waits))
			def.Rbd.Options.MountTimeout = 3
			back := s.away(t, "mon", kill)
			p := w.probe()
			began := time.Now()
			status, e := daemon.Refused(t, w.d, http.MethodPost, "/attach", def)
			took := time.Since(began)
			p.end("the monitor is " + name + " at attach")
			t.Logf("figure: attach with the monitor %s: %d after %v: %s", name, status, took.Round(100*time.Millisecond), *e.Message)
			if status != http.StatusGatewayTimeout && status != http.StatusServiceUnavailable || !strings.Contains(*e.Message, address) {
				t.Errorf("%d %s; want 504 or 503, and the monitors named", status, *e.Message)
			}
			if limit := 15 * time.Second; took > limit {
				t.Errorf("it took %v, want at most %v with a mount_timeout of 3 s", took, limit)
			}
			w.untouched()
			back()
			w.attach(def)
			w.clear()
		})
	}
}

// TestWrongSecrets attaches with what the servers do not accept.
func TestWrongSecrets(t *testing.T) {
	w := begin(t)
	const key = "AQBpVh9ozb0xMxAA0bTzcLxxvMyEfAVxbWz8Wg==" // of nobody
	for _, c := range []struct {
		name, example string
		spoil         func(a *models.Attach)
		status        []int
		says          string
	}{
		{"wrong key", "rbd-squashfs", func(a *models.Attach) { a.Rbd.Options.Credential, a.Rbd.Options.Secret = "", key }, refusals, "node"},
		{"unknown user", "rbd-squashfs", func(a *models.Attach) { a.Rbd.Options.Name = "nobody" }, refusals, "nobody"},
		{"no key", "rbd-squashfs", func(a *models.Attach) { a.Rbd.Options.Credential = "" }, append(refusals, http.StatusBadRequest), ""},
		{"a credential that is not there", "rbd-squashfs", func(a *models.Attach) { a.Rbd.Options.Credential = "none" }, []int{http.StatusNotFound, http.StatusBadRequest}, "none"},
		{"a key for reading", "rbd-ext4", func(a *models.Attach) { a.Rbd.Options.Name, a.Rbd.Options.Credential = "node", "ceph-node" }, refusals, "node"},
		{"wrong password", "iscsi-ext4", func(a *models.Attach) { a.Iscsi.Chap.Credential, a.Iscsi.Chap.Secret = "", "not the password" }, refusals, "node2"},
		{"unknown account", "iscsi-ext4", func(a *models.Attach) { a.Iscsi.Chap.User = new("nobody") }, refusals, "chap"},
		{"no password", "iscsi-ext4", func(a *models.Attach) { a.Iscsi.Chap = nil }, refusals, "chap"},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := w.in(t)
			at.small("rbd-squashfs", waits) // whose user another case takes
			def := attachOf(at.small(c.example, waits))
			c.spoil(def)
			status, e := daemon.Refused(t, at.d, http.MethodPost, "/attach", def)
			t.Logf("%d %s", status, *e.Message)
			if !slices.Contains(c.status, status) || !strings.Contains(*e.Message, c.says) {
				t.Errorf("%d %s; want one of %v, and %q named", status, *e.Message, c.status, c.says)
			}
			for _, secret := range []string{key, "not the password"} {
				if strings.Contains(*e.Message, secret) {
					t.Errorf("the message shows the secret")
				}
			}
			at.untouched()
		})
	}
}

// refusals are what a server that does not accept somebody becomes.
var refusals = []int{http.StatusForbidden, http.StatusBadGateway}
