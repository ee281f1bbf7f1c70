//go:build lab

package storage

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/windlass-hpc/windlass/test/nodestate"
)

// TestShared raises two chains on one image: they share a device, which goes with the second of them; with noshare each has its own.
func TestShared(t *testing.T) {
	for _, c := range []struct {
		name    string
		noshare bool
		devices int
	}{{"shared", false, 1}, {"noshare", true, 2}} {
		t.Run(c.name, func(t *testing.T) {
			w := begin(t)
			def := w.small("rbd-squashfs", waits)
			rbdOf(def).Options.Noshare = c.noshare
			one, two := w.run(def), w.run(def)
			if n := len(w.there(nodestate.RBD)); n != c.devices {
				t.Errorf("two chains have %d devices, want %d: %v", n, c.devices, w.there(nodestate.RBD))
			}
			w.d.Want(http.StatusOK, http.MethodDelete, fmt.Sprintf("/container?force=true&id=%d", one.ID), nil, nil)
			within(t, answerTimeout, "the second chain alone has a device", func() bool { return len(w.there(nodestate.RBD)) == 1 })
			if got := lines(w.exec(two, "/bin/sh", "-c", "/bin/busybox sha256sum /data/*")); fmt.Sprint(got) != fmt.Sprint(sums()) {
				t.Errorf("the second chain reads %v", got)
			}
			w.remove(two)
			if left := w.there(nodestate.RBD); len(left) > 0 {
				t.Errorf("nobody uses %v", left)
			}
			lab(t).nobody(t)
		})
	}
}
